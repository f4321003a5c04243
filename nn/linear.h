// Linear: the fully connected layer.
#pragma once

#include "espalier/autograd/ops/linalg.h"
#include "espalier/nn/init.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

struct LinearOptions {
  bool bias = true;
  Activation activation = Activation::none;  ///< done as the product is stored, as saves a layer behind it
  DType dtype = DType::f32;
};

/// y = activation(x W^T + b). x [..., in] -> y [..., out]. W [out, in] and b [out] ~ U(-k, k), k = 1 / sqrt(in).
class Linear final : public Module {
 public:
  Linear(Rng& rng, Index in, Index out, LinearOptions options = {}) : activation_(options.activation) {
    const double fan_in = static_cast<double>(in);
    weight = Parameter(init::fan_in_uniform(rng, {out, in}, fan_in, options.dtype));
    if (options.bias) bias = Parameter(init::fan_in_uniform(rng, {out}, fan_in, options.dtype));
  }

  Variable operator()(const Variable& x) const {
    return forward([&] { return linear(x, weight, bias.defined() ? Variable(bias) : Variable(), activation_); });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  Activation activation_;
};

}  // namespace espalier::nn
