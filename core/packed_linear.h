// PackedLinear: a pruned weight W [out, in], stored as its entries that are not zero, for y = x W^T + bias.
//
// Which kernel is faster depends on the batch, so there is a choice for each of three batch classes: 1, few (2 to 16)
// and many. The choice is made once, belongs to the weight (it is saved with it), and does not depend on the number of
// threads.
//
//   KernelChoices choices = measure_kernels(weight);  // or fixed_kernels(...): the table in the source
//   if (choices.any(KernelChoice::sparse))
//     weight = Tensor::packed(weight.shape(), weight.dtype(), std::make_unique<PackedLinear>(weight, choices));
#pragma once

#include <array>
#include <memory>
#include <string>

#include "espalier/core/dims.h"
#include "espalier/core/dtype.h"
#include "espalier/core/packed.h"
#include "espalier/core/tensor.h"

namespace espalier {

enum class KernelChoice : std::uint8_t { dense, sparse };
/// "dense", "sparse".
const char* name_of(KernelChoice choice) noexcept;

/// The kernel of each batch class.
struct KernelChoices {
  KernelChoice one = KernelChoice::sparse;   ///< batch 1
  KernelChoice few = KernelChoice::sparse;   ///< batch 2 to 16
  KernelChoice many = KernelChoice::sparse;  ///< larger batches

  KernelChoice at(Index batch) const noexcept { return batch <= 1 ? one : batch <= 16 ? few : many; }
  bool any(KernelChoice choice) const noexcept { return one == choice || few == choice || many == choice; }
  friend bool operator==(const KernelChoices&, const KernelChoices&) = default;
};

/// Holds the sparse form if a class chose it, and a dense copy if a class chose that. Works in the weight's own type.
class PackedLinear final : public Packed {
 public:
  /// weight [out, in], f32 or f64; may itself be packed. Zeros are dropped (NaN is kept).
  /// Errors: ShapeError; DTypeError; ConfigError beyond 2^32 - 1 entries.
  explicit PackedLinear(const Tensor& weight, KernelChoices choices = {});
  ~PackedLinear() override;

  const Shape& shape() const noexcept { return shape_; }  ///< [out, in]
  DType dtype() const noexcept { return type_; }
  KernelChoices choices() const noexcept { return choices_; }
  Index live() const override { return live_; }
  /// Memory held, in bytes.
  Index bytes() const noexcept;

  std::string kernel(Index batch) const override { return name_of(choices_.at(batch)); }
  /// y = x W^T + bias. x [N, in], bias [out] or null -> y [N, out]. Same bytes at any thread count.
  /// Errors: ShapeError, DTypeError. Cost: 2 N live operations where the class runs sparse, 2 N in out where dense.
  Tensor linear(const Tensor& x, const Tensor* bias) const override;
  Tensor densify() const override;
  std::string describe() const override;

 private:
  struct Form;

  Shape shape_;
  DType type_;
  KernelChoices choices_;
  Index live_ = 0;
  std::unique_ptr<const Form> form_;
};

/// What measure_kernels saw: medians in microseconds at batch 1, 8 and 64.
struct KernelTimes {
  std::array<double, 3> dense_us = {}, sparse_us = {};
};

/// Times both kernels on one thread at batch 1, 8 and 64 in interleaved rounds; sparse where its median is at
/// least 1.10 times faster. Errors as PackedLinear's. Cost: some milliseconds, up to a second for the largest layers.
KernelChoices measure_kernels(const Tensor& weight, KernelTimes* times = nullptr);
/// The same question answered from a table in the source: by shape, entries and type alone, the same on every machine.
KernelChoices fixed_kernels(const Shape& shape, Index live, DType type);

}  // namespace espalier
