// Differentiable views and their adjoints. Most share storage with x; see the Tensor functions of the same names.
//
// Settings: transpose the two axes, permute the order, slice and narrow axis, first element and step, select axis and
// index, diagonal offset and axes, tril and triu the diagonal; flip, roll, repeat_interleave by a list and pad (but for
// constant) the axis and, for each element of the result, the place it comes from; pad with a constant the pads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "espalier/autograd/tape.h"

namespace espalier {

/// Same elements in row-major order in another shape; one length may be -1. Errors: ShapeError.
Variable reshape(const Variable& x, const Shape& shape);
/// One axis in place of `first_axis` ... `last_axis`. Errors: IndexError.
Variable flatten(const Variable& x, int first_axis = 0, int last_axis = -1);
/// Swaps two axes. Errors: IndexError.
Variable transpose(const Variable& x, int axis_a, int axis_b);
/// Reorders the axes. Errors: ShapeError, IndexError.
Variable permute(const Variable& x, const Dims& axes);

/// Drops every axis of length 1. A view, as are the next nine.
Variable squeeze(const Variable& x);
/// Drops `axis` if its length is 1. Errors: IndexError.
Variable squeeze(const Variable& x, int axis);
/// Puts an axis of length 1 before `axis`, in [-rank-1, rank]. Errors: IndexError.
Variable unsqueeze(const Variable& x, int axis);
/// x[..., start:stop:step, ...] along `axis`, by Python's rules. Gradient: g written into zeros, which the whole of x
/// costs; split() and unbind() read a tensor piece by piece for the price of one. Errors: ConfigError for step < 1.
Variable slice(const Variable& x, int axis, Index start, Index stop, Index step = 1);
/// `length` elements from `start` on along `axis`. Errors: IndexError if they do not exist. Gradient: as slice.
Variable narrow(const Variable& x, int axis, Index start, Index length);
/// Element `index` of `axis`, which is dropped. Errors: IndexError. Gradient: as slice.
Variable select(const Variable& x, int axis, Index index);
/// Elements (i, i + offset) of two axes along a new last one; (i - offset, i) for a negative offset. Gradient: as slice.
Variable diagonal(const Variable& x, Index offset = 0, int axis_a = 0, int axis_b = 1);
/// broadcast_to, where -1 keeps the length of an axis. Errors: ShapeError.
Variable expand(const Variable& x, const Shape& shape);
/// Moves axes `from` to the places `to`; the others stay in order. Errors: IndexError, ShapeError.
Variable movedim(const Variable& x, const Dims& from, const Dims& to);

/// Keeps what is on and below (tril), on and above (triu) a diagonal of the last two axes; the rest is 0, also where x is
/// NaN. Gradient: the same of g. Errors: ShapeError.
Variable tril(const Variable& x, Index diagonal = 0);
Variable triu(const Variable& x, Index diagonal = 0);
/// Reverses the order along `axes`. Errors: IndexError.
Variable flip(const Variable& x, const Dims& axes);
/// Moves elements `shifts[k]` places along `axes[k]`; what leaves at the end comes in at the beginning. Without axes, one
/// shift along the flattened tensor. Errors: ShapeError, IndexError.
Variable roll(const Variable& x, const Dims& shifts, const Dims& axes = {});
/// The whole tensor repeats[k] times along axis k; further repeats in front add axes. Errors: ShapeError.
Variable repeat(const Variable& x, const Dims& repeats);
/// Each element `repeats` times, one behind the other, along `axis`. Errors: ShapeError, IndexError.
Variable repeat_interleave(const Variable& x, Index repeats, int axis);
/// Element k repeats[k] times. Errors: ShapeError, IndexError.
Variable repeat_interleave(const Variable& x, std::span<const Index> repeats, int axis);

/// What pad() puts around: a value, the mirrored inside (without the edge), the edge itself, or the other end.
enum class PadMode : std::uint8_t { constant, reflect, replicate, circular };
/// `pads` are pairs (before, behind) from the last axis on, for as many axes as are given: {left, right, top, bottom}.
/// Negative ones crop. reflect needs pads below the axis' length, circular not above it.
/// Gradient: of constant, g with the pads taken off again; of the others, each element gathers what came of it.
/// Errors: ShapeError.
Variable pad(const Variable& x, const std::vector<Index>& pads, PadMode mode = PadMode::constant, double value = 0);

}  // namespace espalier
