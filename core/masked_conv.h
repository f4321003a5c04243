// MaskedConv: the products of a training step with the weight of a convolution of which few entries are live, by sparse
// kernels: forward, its adjoint in x, and the gradient of the weight at the live entries alone.
//
// The adjoint is a convolution of g with the weight turned round (channels exchanged, taps from last to first). With a
// stride of s, pixels of x that lie s apart read the same taps: it is s convolutions an axis, each with its part of the
// taps.
// Groups are not for this class, nor strides above 8, which would be many small convolutions.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "espalier/core/conv.h"
#include "espalier/core/tensor.h"

namespace espalier {

class MaskedConv final {
 public:
  /// `weight`: the shape of what refresh() takes: [out, in, kh, kw], or [out, in, k] for images of height 1. Of the
  /// geometry, batch and sizes do not count here. `live`: a bit for each entry, row-major, 64 to a word. f32, f64.
  /// Errors: ShapeError, also where it does not suit() and for a weight without entries; DTypeError; ConfigError beyond
  /// 2^32 - 1 entries.
  MaskedConv(const Shape& weight, const ConvGeometry& geometry, DType type, std::span<const std::uint64_t> live);
  ~MaskedConv();
  MaskedConv(MaskedConv&&) noexcept;
  MaskedConv& operator=(MaskedConv&&) noexcept;

  /// Whether such a convolution can be had here at all: no groups, strides up to 8.
  static bool suits(const ConvGeometry& geometry) noexcept;
  /// Whether this is for a convolution as this one, of whatever batch and sizes.
  bool fits(const ConvGeometry& geometry) const noexcept;
  /// Takes over the live entries of `weight`, contiguous, of this shape and type. Cost: two reads of each.
  void refresh(const Tensor& weight);
  /// As espalier::conv2d with the weight as it was taken over. Errors of all that follow: ShapeError for a geometry
  /// that does not fit.
  Tensor conv2d(const Tensor& x, const Tensor* bias, const ConvGeometry& geometry) const;
  /// As conv2d_data.
  Tensor input_gradient(const Tensor& g, const ConvGeometry& geometry) const;
  /// As conv2d_weight at the live entries, in the shape of the weight, exactly 0 elsewhere. Sums run over parts of the
  /// pixels, at most 16 of them, by shapes alone, and then over the parts in order: the same bytes at any thread count,
  /// as of all of them.
  Tensor weight_gradient(const Tensor& g, const Tensor& x, const ConvGeometry& geometry) const;

 private:
  struct Form;
  void check(const ConvGeometry& geometry) const;
  std::unique_ptr<Form> form_;
};

/// Whether forward and both gradients together are at least 1.10 times faster so than by dense products, in interleaved
/// rounds on one thread. Of the geometry's batch as many images are used as make 2^26 multiply-adds.
bool sparse_training_is_faster(const Shape& weight, DType type, std::span<const std::uint64_t> live,
                               ConvGeometry geometry);

}  // namespace espalier
