// Differentiable pooling of images [N, C, H, W] and sequences [N, C, L], with or without N. f32, f64.
//
// Window i of an axis begins at i stride - padding. The result has (H + 2 padding - dilation (kernel - 1) - 1) / stride
// + 1 windows, rounded down; with ceil_mode up, but none that would begin behind the image and its first padding.
// Errors of all: ShapeError; ConfigError for options without meaning.
// Settings: of each spatial axis its kernel, then of each its stride, its padding, its dilation; for means then
// count_include_pad (0, 1) and divisor_override. None for adaptive ones.
#pragma once

#include "espalier/autograd/tape.h"
#include "espalier/core/pair.h"

namespace espalier {

/// Extent: IndexPair for images, Index for sequences.
template <class Extent>
struct MaxPoolOptions {
  Extent stride = 0;   ///< 0: the kernel's size
  Extent padding = 0;  ///< counts as minus infinity; at most half the kernel
  Extent dilation = 1;
  bool ceil_mode = false;
};
using MaxPool2dOptions = MaxPoolOptions<IndexPair>;
using MaxPool1dOptions = MaxPoolOptions<Index>;

template <class Extent>
struct AvgPoolOptions {
  Extent stride = 0;  ///< 0: the kernel's size
  Extent padding = 0;
  bool ceil_mode = false;
  bool count_include_pad = true;  ///< zeros of the padding count in the mean
  Index divisor_override = 0;     ///< 0: the number of elements
};
using AvgPool2dOptions = AvgPoolOptions<IndexPair>;
using AvgPool1dOptions = AvgPoolOptions<Index>;

/// Values and where they came from: positions y W + x in the plane, i64.
struct MaxPoolResult {
  Variable values;
  Tensor indices;
};

/// Largest value of each window. All of the gradient goes to it, the first of equals; a NaN is larger than all.
Variable max_pool2d(const Variable& x, IndexPair kernel_size, const MaxPool2dOptions& options = {});
Variable max_pool1d(const Variable& x, Index kernel_size, const MaxPool1dOptions& options = {});
MaxPoolResult max_pool2d_with_indices(const Variable& x, IndexPair kernel_size, const MaxPool2dOptions& options = {});
/// Mean of each window.
Variable avg_pool2d(const Variable& x, IndexPair kernel_size, const AvgPool2dOptions& options = {});
Variable avg_pool1d(const Variable& x, Index kernel_size, const AvgPool1dOptions& options = {});
/// Window i of n is [i H / n, (i + 1) H / n), rounded outwards; 1 is the pool over the whole image.
Variable adaptive_max_pool2d(const Variable& x, IndexPair output_size);
Variable adaptive_max_pool1d(const Variable& x, Index output_size);
Variable adaptive_avg_pool2d(const Variable& x, IndexPair output_size);
Variable adaptive_avg_pool1d(const Variable& x, Index output_size);

}  // namespace espalier
