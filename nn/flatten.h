// Flatten and Identity: layers without parameters, for lists of modules.
#pragma once

#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// One axis in place of `first_axis` ... `last_axis`: [N, C, H, W] -> [N, C H W]. A view where x is contiguous.
/// Errors: IndexError.
class Flatten final : public Module {
 public:
  explicit Flatten(int first_axis = 1, int last_axis = -1) : first_axis_(first_axis), last_axis_(last_axis) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return flatten(x, first_axis_, last_axis_); });
  }
  void members(Visitor&) override {}

 private:
  int first_axis_, last_axis_;
};

/// y = x: where a place in a model is to stay empty.
class Identity final : public Module {
 public:
  Variable operator()(const Variable& x) const {
    return forward([&] { return x; });
  }
  void members(Visitor&) override {}
};

}  // namespace espalier::nn
