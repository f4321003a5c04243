// MaskedLinear: the products of a training step with a weight W [out, in] of which few entries are live, by sparse
// kernels: forward, dX by W^T, and dW at the live entries alone.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "espalier/core/tensor.h"

namespace espalier {

class MaskedLinear final {
 public:
  /// `live`: a bit for each entry, row-major, 64 to a word. f32, f64. Errors: ShapeError; DTypeError; ConfigError beyond
  /// 2^32 - 1 entries.
  MaskedLinear(Index out, Index in, DType type, std::span<const std::uint64_t> live);
  ~MaskedLinear();
  MaskedLinear(MaskedLinear&&) noexcept;
  MaskedLinear& operator=(MaskedLinear&&) noexcept;

  /// Takes over the live entries of `weight` [out, in], contiguous, of this type. Cost: two reads of each.
  void refresh(const Tensor& weight);
  /// x W^T + bias. x [N, in], bias [out] or null.
  Tensor linear(const Tensor& x, const Tensor* bias) const;
  /// g W. g [N, out].
  Tensor input_gradient(const Tensor& g) const;
  /// g^T x at the live entries [out, in], exactly 0 elsewhere. Same bytes at any thread count, as all of them.
  Tensor weight_gradient(const Tensor& g, const Tensor& x) const;

 private:
  struct Form;
  std::unique_ptr<Form> form_;
};

/// Whether forward and both gradients together are at least 1.10 times faster so than by dense products, in interleaved
/// rounds on one thread with `batch` samples.
bool sparse_training_is_faster(Index out, Index in, DType type, std::span<const std::uint64_t> live, Index batch);

}  // namespace espalier
