// Variable: a tensor and where it stands on a tape.
#pragma once

#include <cstdint>

#include "espalier/autograd/parameter.h"
#include "espalier/core/tensor.h"

namespace espalier {

/// A value plus (tape id, slot): an index, not a pointer, so there are no cycles and nothing dangles. Where no tape is
/// alive it is a plain value. Recording with a Variable of another tape is an error that says `.detach()`.
class Variable {
 public:
  /// Undefined.
  Variable() noexcept = default;
  /// A constant.
  Variable(Tensor value) noexcept : value_(std::move(value)) {}  // NOLINT: a tensor is a constant variable
  /// A leaf of the tape that records on this thread, or a constant if there is none.
  Variable(const Parameter& parameter);  // NOLINT: a parameter may stand wherever a variable may

  const Tensor& value() const noexcept { return value_; }
  const Shape& shape() const noexcept { return value_.shape(); }
  int rank() const noexcept { return value_.rank(); }
  Index size() const noexcept { return value_.size(); }
  Index dim(int axis) const { return value_.dim(axis); }
  DType dtype() const noexcept { return value_.dtype(); }
  double item() const { return value_.item(); }
  bool defined() const noexcept { return value_.defined(); }
  /// It stands on a tape, alive or not.
  bool recorded() const noexcept { return tape_ != 0; }
  /// The same value, as a constant: no gradient flows through.
  Variable detach() const { return Variable(value_); }

 private:
  friend class Tape;
  friend class Saved;
  Tensor value_;
  std::uint64_t tape_ = 0;  // 0: a constant
  std::uint32_t slot_ = 0;
};

}  // namespace espalier
