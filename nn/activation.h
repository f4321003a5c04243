// Activations as layers, for lists of modules. The functions themselves (relu, tanh, ...) may stand in a Sequential
// too.
#pragma once

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// max(x, 0)
class Relu final : public Module {
 public:
  Variable operator()(const Variable& x) const { return relu(x); }
  void members(Visitor&) override {}
};

/// x where x > 0, else slope x
class LeakyRelu final : public Module {
 public:
  explicit LeakyRelu(double negative_slope = 0.01) : slope_(negative_slope) {}
  Variable operator()(const Variable& x) const { return leaky_relu(x, slope_); }
  void members(Visitor&) override {}

 private:
  double slope_;
};

/// tanh(x)
class Tanh final : public Module {
 public:
  Variable operator()(const Variable& x) const { return tanh(x); }
  void members(Visitor&) override {}
};

/// 1 / (1 + exp(-x))
class Sigmoid final : public Module {
 public:
  Variable operator()(const Variable& x) const { return sigmoid(x); }
  void members(Visitor&) override {}
};

/// log(1 + exp(beta x)) / beta
class Softplus final : public Module {
 public:
  explicit Softplus(double beta = 1, double threshold = 20) : beta_(beta), threshold_(threshold) {}
  Variable operator()(const Variable& x) const { return softplus(x, beta_, threshold_); }
  void members(Visitor&) override {}

 private:
  double beta_, threshold_;
};

}  // namespace espalier::nn
