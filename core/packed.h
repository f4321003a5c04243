// Packed: what a weight's storage may hold instead of dense values.
#pragma once

#include <memory>
#include <string>

#include "espalier/core/error.h"

namespace espalier {

class Tensor;

/// A sparse representation of a weight W [out, in]. Immutable, so copies of a tensor share it. Ops that can run on it
/// (linear) ask the tensor for it; everything else calls densify(). Reading packed storage with data<T>() is an error.
class Packed {
 public:
  virtual ~Packed() = default;
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;

  /// Which kernel runs at batch size `batch`, for reports: "dense", "sparse".
  virtual std::string kernel(Index batch) const = 0;
  /// y = x W^T + bias. x [N, in], bias [out] or null -> y [N, out].
  virtual Tensor linear(const Tensor& x, const Tensor* bias) const = 0;
  /// The dense weight, zeros where nothing is stored.
  virtual Tensor densify() const = 0;
  /// Entries stored.
  virtual Index live() const = 0;
  /// The same values in another floating type are another representation: errors of `to` name it.
  virtual std::string describe() const = 0;

 protected:
  Packed() = default;
};

}  // namespace espalier
