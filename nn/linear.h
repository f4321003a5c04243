// Linear: the fully connected layer.
#pragma once

#include "espalier/autograd/ops/linalg.h"
#include "espalier/nn/init.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

struct LinearOptions {
  bool bias = true;
  DType dtype = DType::f32;
};

/// y = x W^T + b. x [..., in] -> y [..., out]. W [out, in] and b [out] ~ U(-k, k), k = 1 / sqrt(in).
class Linear final : public Module {
 public:
  Linear(Rng& rng, Index in, Index out, LinearOptions options = {}) {
    const double fan_in = static_cast<double>(in);
    weight = Parameter(init::fan_in_uniform(rng, {out, in}, fan_in, options.dtype));
    if (options.bias) bias = Parameter(init::fan_in_uniform(rng, {out}, fan_in, options.dtype));
  }

  Variable operator()(const Variable& x) const {
    return forward([&] { return linear(x, weight, bias.defined() ? Variable(bias) : Variable()); });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;
};

}  // namespace espalier::nn
