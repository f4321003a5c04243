// Reading and writing by lists of positions. Indices are i64 tensors; a negative or too large one is an IndexError that
// names it, its place and the range. Where several elements land in one place they are added in the order of the list,
// whatever the number of threads, so results are always the same bytes.
#pragma once

#include "espalier/core/tensor.h"

namespace espalier {

// x of any element type, unless said otherwise. Errors of all: ShapeError, DTypeError, IndexError.

/// y[i][j] = x[i][index[i][j]] for axis 1: one element for each of index, which has x's rank and is nowhere longer than
/// x but along the axis. y has the shape of index.
Tensor gather(const Tensor& x, int axis, const Tensor& index);
/// x with y[i][index[i][j]] = src[i][j] for axis 1. index is nowhere longer than src, nor than x but along the axis; of
/// several for one place the last one stays.
Tensor scatter(const Tensor& x, int axis, const Tensor& index, const Tensor& src);
/// As scatter, but y[i][index[i][j]] += src[i][j]. f32, f64.
Tensor scatter_add(const Tensor& x, int axis, const Tensor& index, const Tensor& src);
/// The same, in place. After an IndexError `into` may have got a part.
void scatter_add_in_place(Tensor& into, int axis, const Tensor& index, const Tensor& src);
/// 1 where scatter() leaves the element of src in place, 0 where a later one takes it; of index's shape, f32 or f64.
Tensor scatter_survivors(const Shape& shape, int axis, const Tensor& index, DType type);

/// The slices index[0], index[1], ... of x along the axis; index is a list.
Tensor index_select(const Tensor& x, int axis, const Tensor& index);
/// x with slice index[j] += alpha * slice j of source. f32, f64.
Tensor index_add(const Tensor& x, int axis, const Tensor& index, const Tensor& source, double alpha = 1);
/// The same, in place. `into` is contiguous.
void index_add_in_place(Tensor& into, int axis, const Tensor& index, const Tensor& source, double alpha = 1);
/// x with the slices in index set to `value`.
Tensor index_fill(const Tensor& x, int axis, const Tensor& index, double value);

/// Row-major positions of the true elements of `mask` (bool): i64 [n].
Tensor positions_of(const Tensor& mask);
/// The elements of x where mask is true, both broadcast, in row-major order: [n].
Tensor masked_select(const Tensor& x, const Tensor& mask);

/// 1 at labels[i], else 0: labels of any shape -> [..., classes]. classes = -1: the largest label + 1. f32, f64, i64.
Tensor one_hot(const Tensor& labels, Index classes = -1, DType type = DType::i64);

/// Raises DTypeError unless `index` is i64, IndexError unless all of it is in [0, length). `what` ends the text:
/// "along axis 1 of x [4, 5]".
void check_indices(const char* op, const Tensor& index, Index length, const std::string& what);

}  // namespace espalier
