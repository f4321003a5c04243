// PackedLinear: a pruned weight W [out, in], stored as its entries that are not zero, for y = x W^T + bias. A weight of
// more axes [out, ...] counts as the matrix of its rows; conv2d runs on that.
//
// Which kernel is faster depends on the batch, so there is a choice for each of three batch classes: 1, few (2 to 16)
// and many. The choice is made once, belongs to the weight (it is saved with it), and does not depend on the number of
// threads. Blocks and N:M are found in the weight itself (kernels::find_pattern).
//
//   KernelChoices choices = measure_kernels(weight);  // or fixed_kernels(...): the table in the source
//   if (choices.any_sparse())
//     weight = Tensor::packed(weight.shape(), weight.dtype(), std::make_unique<PackedLinear>(weight, choices));
#pragma once

#include <array>
#include <memory>
#include <string>

#include "espalier/core/conv.h"
#include "espalier/core/dims.h"
#include "espalier/core/dtype.h"
#include "espalier/core/packed.h"
#include "espalier/core/tensor.h"

namespace espalier {

enum class KernelChoice : std::uint8_t {
  dense,
  sparse,   ///< single entries
  blocked,  ///< blocks of 8x1, 4x1, 1x8 or 1x4
  grouped   ///< N:M
};
/// "dense", "sparse", "blocked", "n:m".
const char* name_of(KernelChoice choice) noexcept;
/// The choice of this name. False if there is none.
bool choice_of(std::string_view name, KernelChoice& choice) noexcept;

/// The kernel of each batch class.
struct KernelChoices {
  KernelChoice one = KernelChoice::sparse;   ///< batch 1
  KernelChoice few = KernelChoice::sparse;   ///< batch 2 to 16
  KernelChoice many = KernelChoice::sparse;  ///< larger batches

  KernelChoice at(Index batch) const noexcept { return batch <= 1 ? one : batch <= 16 ? few : many; }
  bool any(KernelChoice choice) const noexcept { return one == choice || few == choice || many == choice; }
  bool any_sparse() const noexcept {
    return one != KernelChoice::dense || few != KernelChoice::dense || many != KernelChoice::dense;
  }
  friend bool operator==(const KernelChoices&, const KernelChoices&) = default;
};

/// The structure of a weight that a kernel can use: blocked or grouped; sparse if it has none. f32, f64.
KernelChoice structure_of(const Tensor& weight);

/// Holds the forms that its classes chose. Works in the weight's own type.
class PackedLinear final : public Packed {
 public:
  /// weight [out, ...], f32 or f64; may itself be packed. Zeros are dropped (NaN is kept).
  /// Errors: ShapeError; DTypeError; ConfigError beyond 2^32 - 1 entries, or for a choice of blocks or N:M that the
  /// weight does not have.
  explicit PackedLinear(const Tensor& weight, KernelChoices choices = {});
  ~PackedLinear() override;

  const Shape& shape() const noexcept { return shape_; }  ///< [out, ...]
  DType dtype() const noexcept { return type_; }
  KernelChoices choices() const noexcept { return choices_; }
  Index live() const override { return live_; }
  /// Memory held, in bytes.
  Index bytes() const noexcept;

  std::string kernel(Index batch) const override { return name_of(choices_.at(batch)); }
  /// y = x W^T + bias. x [N, in], bias [out] or null -> y [N, out]. Same bytes at any thread count.
  /// Errors: ShapeError, DTypeError. Cost: 2 N live operations where the class runs sparse, 2 N in out where dense.
  Tensor linear(const Tensor& x, const Tensor* bias) const override;
  /// The convolution of core/conv.h; the batch class is that of geometry.batch. Patches are laid out for a few pixels
  /// at a time, never for the whole image. Groups of channels run dense. Errors as conv2d. Cost: 2 live operations a
  /// pixel, and in kernel elements moved.
  Tensor conv2d(const Tensor& x, const Tensor* bias, const ConvGeometry& geometry, bool relu) const;
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
  KernelChoice structure = KernelChoice::sparse;  ///< what structured_us is of; sparse: of nothing
  std::array<double, 3> structured_us = {};
};

/// Times the kernels on one thread at batch 1, 8 and 64 in interleaved rounds; for each class the fastest if its
/// median is at least 1.10 times faster than dense. Errors as PackedLinear's. Cost: some milliseconds, up to seconds for
/// the largest layers.
KernelChoices measure_kernels(const Tensor& weight, KernelTimes* times = nullptr);
/// The same for a convolution of images of this geometry (its batch does not count): 1, 8 and 64 images.
KernelChoices measure_kernels(const Tensor& weight, const ConvGeometry& geometry, KernelTimes* times = nullptr);
/// The same question answered from a table in the source: by shape, entries, type and structure alone, the same on every
/// machine. A weight of more than two axes is one of a convolution.
KernelChoices fixed_kernels(const Shape& shape, Index live, DType type, KernelChoice structure = KernelChoice::sparse);

}  // namespace espalier
