// Upsample: images and sequences in another size.
#pragma once

#include "espalier/autograd/ops/interpolate.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// x [N, C, ...], every further axis `scale` times as long; see interpolate. Errors: as interpolate.
class Upsample final : public Module {
 public:
  explicit Upsample(double scale, Interpolation mode = Interpolation::nearest, InterpolateOptions options = {})
      : scale_(scale), mode_(mode), options_(options) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return interpolate_by(x, scale_, mode_, options_); });
  }
  void members(Visitor&) override {}

 private:
  double scale_;
  Interpolation mode_;
  InterpolateOptions options_;
};

}  // namespace espalier::nn
