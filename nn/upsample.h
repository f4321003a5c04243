// Layers that bring images and sequences into another size: Upsample, PixelShuffle and PixelUnshuffle.
#pragma once

#include <optional>

#include "espalier/autograd/ops/interpolate.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// x [N, C, ...], every further axis `scale` times as long, or of a given size; see interpolate. Errors: as
/// interpolate.
///
///   nn::Upsample(2), nn::Upsample::to({32, 48}, Interpolation::linear)
class Upsample final : public Module {
 public:
  explicit Upsample(double scale, Interpolation mode = Interpolation::nearest, InterpolateOptions options = {})
      : scale_(scale), mode_(mode), options_(options) {}
  static Upsample to(const Dims& size, Interpolation mode = Interpolation::nearest, InterpolateOptions options = {}) {
    Upsample layer(1, mode, options);
    layer.size_ = size;
    return layer;
  }
  Variable operator()(const Variable& x) const {
    return forward(
        [&] { return size_ ? interpolate(x, *size_, mode_, options_) : interpolate_by(x, scale_, mode_, options_); });
  }
  void members(Visitor&) override {}

 private:
  double scale_;
  std::optional<Dims> size_;  // instead of the scale
  Interpolation mode_;
  InterpolateOptions options_;
};

/// r^2 channels become one, r times as high and wide: y[..., c, i r + a, j r + b] = x[..., c r^2 + a r + b, i, j].
/// x [..., C r^2, H, W] -> [..., C, H r, W r]. Shi et al. 2016, equation 4. Errors: ShapeError; ConfigError unless
/// r is in [1, 2^30].
class PixelShuffle final : public Module {
 public:
  explicit PixelShuffle(Index upscale_factor) : r_(upscale_factor) {
    if (r_ < 1 || r_ > most_) fail<ConfigError>("[PixelShuffle] upscale_factor must be in [1, 2^30], got ", r_);
  }
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if (x.rank() < 3 || x.shape()[-3] % (r_ * r_) != 0)
        fail<ShapeError>("[PixelShuffle] x ", x.shape(), " must be [..., C r^2, H, W] with r = ", r_);
      const Index c = x.shape()[-3] / (r_ * r_), h = x.shape()[-2], w = x.shape()[-1];
      const Index n = count(Shape(x.shape().span().first(static_cast<std::size_t>(x.rank() - 3))));
      const Variable apart = permute(reshape(x, {n, c, r_, r_, h, w}), {0, 1, 4, 2, 5, 3});
      Shape shape = x.shape();
      shape[-3] = c, shape[-2] = h * r_, shape[-1] = w * r_;
      return reshape(apart, shape);
    });
  }
  void members(Visitor&) override {}

 private:
  static constexpr Index most_ = Index{1} << 30;  // whose square an Index holds
  Index r_;
};

/// What undoes it: x [..., C, H r, W r] -> [..., C r^2, H, W]. Errors: as PixelShuffle.
class PixelUnshuffle final : public Module {
 public:
  explicit PixelUnshuffle(Index downscale_factor) : r_(downscale_factor) {
    if (r_ < 1 || r_ > most_) fail<ConfigError>("[PixelUnshuffle] downscale_factor must be in [1, 2^30], got ", r_);
  }
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if (x.rank() < 3 || x.shape()[-2] % r_ != 0 || x.shape()[-1] % r_ != 0)
        fail<ShapeError>("[PixelUnshuffle] x ", x.shape(), " must be [..., C, H r, W r] with r = ", r_);
      const Index c = x.shape()[-3], h = x.shape()[-2] / r_, w = x.shape()[-1] / r_;
      const Index n = count(Shape(x.shape().span().first(static_cast<std::size_t>(x.rank() - 3))));
      const Variable apart = permute(reshape(x, {n, c, h, r_, w, r_}), {0, 1, 3, 5, 2, 4});
      Shape shape = x.shape();
      shape[-3] = c * r_ * r_, shape[-2] = h, shape[-1] = w;
      return reshape(apart, shape);
    });
  }
  void members(Visitor&) override {}

 private:
  static constexpr Index most_ = Index{1} << 30;  // whose square an Index holds
  Index r_;
};

}  // namespace espalier::nn
