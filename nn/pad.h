// Layers that pad: nothing to learn. See pad() in autograd/ops/shape.h, whose limits and errors they have.
//
//   nn::ReflectionPad2d(1), nn::ZeroPad2d({0, 1, 0, 1}), nn::ConstantPad1d(2, -1.0)
#pragma once

#include <initializer_list>
#include <vector>

#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// x [..., L] or [..., H, W], longer by `padding` on every side, or by {left, right} or {left, right, top, bottom};
/// negative ones crop. Errors: ShapeError; ConfigError for another number of lengths.
template <PadMode mode, int axes>
class Pad final : public Module {
 public:
  explicit Pad(Index padding, double value = 0) : pads_(2 * axes, padding), value_(value) {}
  explicit Pad(std::initializer_list<Index> padding, double value = 0) : pads_(padding), value_(value) {
    if (pads_.size() == 1) pads_.resize(2 * axes, pads_[0]);
    if (pads_.size() != 2 * axes)
      fail<ConfigError>("[pad] ", pads_.size(), " lengths given; it takes one, or ", 2 * axes, ", two an axis");
  }
  Variable operator()(const Variable& x) const {
    return forward([&] { return pad(x, pads_, mode, value_); });
  }
  void members(Visitor&) override {}

 private:
  std::vector<Index> pads_;
  double value_;  // of a constant padding
};
using ConstantPad1d = Pad<PadMode::constant, 1>;  ///< takes the value behind the padding
using ConstantPad2d = Pad<PadMode::constant, 2>;
using ZeroPad1d = ConstantPad1d;
using ZeroPad2d = ConstantPad2d;
using ReflectionPad1d = Pad<PadMode::reflect, 1>;
using ReflectionPad2d = Pad<PadMode::reflect, 2>;
using ReplicationPad1d = Pad<PadMode::replicate, 1>;
using ReplicationPad2d = Pad<PadMode::replicate, 2>;
using CircularPad1d = Pad<PadMode::circular, 1>;
using CircularPad2d = Pad<PadMode::circular, 2>;

}  // namespace espalier::nn
