// Dims: up to eight axis lengths (a Shape) or strides, inline, without a heap allocation.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>

#include "espalier/core/error.h"

namespace espalier {

/// Axis lengths or strides, in elements. Negative positions count from the last axis: dims[-1].
class Dims {
 public:
  static constexpr int max_rank = 8;

  Dims() noexcept = default;
  Dims(std::initializer_list<Index> values) : Dims(std::span<const Index>(values.begin(), values.size())) {}
  /// Errors: ShapeError beyond eight axes.
  explicit Dims(std::span<const Index> values) {
    if (values.size() > max_rank) [[unlikely]]
      fail<ShapeError>("[shape] ", values.size(), " axes; at most ", max_rank, " are possible");
    rank_ = static_cast<std::int32_t>(values.size());
    for (std::size_t i = 0; i < max_rank; ++i)  // of known length: the compiler calls no memmove
      if (i < values.size()) values_[i] = values[i];
  }

  int rank() const noexcept { return rank_; }
  Index operator[](int axis) const noexcept { return values_[position(axis)]; }
  Index& operator[](int axis) noexcept { return values_[position(axis)]; }
  const Index* begin() const noexcept { return values_; }
  const Index* end() const noexcept { return values_ + rank_; }
  std::span<const Index> span() const noexcept { return {values_, static_cast<std::size_t>(rank_)}; }

  /// Appends an axis. Errors: ShapeError beyond eight.
  void push_back(Index value) {
    if (rank_ == max_rank) [[unlikely]]
      fail<ShapeError>("[shape] at most ", max_rank, " axes are possible");
    values_[rank_++] = value;
  }
  /// Puts `value` before axis `at`, in [0, rank].
  void insert(int at, Index value) {
    push_back(value);
    std::rotate(values_ + at, values_ + rank_ - 1, values_ + rank_);
  }
  void erase(int at) noexcept {
    std::copy(values_ + at + 1, values_ + rank_, values_ + at);
    --rank_;
  }

  friend bool operator==(const Dims& a, const Dims& b) noexcept {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a.values_[i] != b.values_[i]) return false;
    return true;
  }

 private:
  int position(int axis) const noexcept {
    assert(axis >= -rank_ && axis < rank_);
    return axis < 0 ? axis + rank_ : axis;
  }

  std::int32_t rank_ = 0;
  Index values_[max_rank] = {};  // copied whole: a few moves and no call; those beyond the rank mean nothing
};

/// Axis lengths.
using Shape = Dims;

/// Product of the lengths; 1 for a scalar. Lengths of an existing tensor never overflow; see checked_count.
inline Index count(const Shape& shape) noexcept {
  Index n = 1;
  for (Index length : shape) n *= length;
  return n;
}
/// Product of the lengths. Errors: ShapeError for a negative length or a product beyond 2^63 - 1.
Index checked_count(const Shape& shape);
/// Strides of a dense row-major tensor of this shape.
Dims row_major(const Shape& shape) noexcept;
/// `axis` in [-rank, rank) as its place in [0, rank). Errors: IndexError, which names `op`.
int checked_axis(const char* op, int axis, int rank);
/// The same for ops that leave an axis as it is, drop it, or put a value in its place: a scalar counts as having one
/// axis for them (PyTorch's rule), and 0 and -1 of it are 0, which no length or stride stands behind.
inline int named_axis(const char* op, int axis, int rank) { return checked_axis(op, axis, std::max(rank, 1)); }

void append(std::string& text, const Dims& dims);  ///< "[3, 4]"
std::ostream& operator<<(std::ostream& out, const Dims& dims);

}  // namespace espalier
