// Activations as layers, for lists of modules. The functions themselves (relu, tanh, ...) may stand in a Sequential
// too. Shapes: y is like x, unless said otherwise. Formulas, sources and errors: autograd/ops/activation.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

namespace detail {
/// A name as a template argument.
template <std::size_t size>
struct Literal {
  constexpr Literal(const char (&literal)[size]) { std::copy_n(literal, size, text); }  // NOLINT: a literal is one
  char text[size];
};
}  // namespace detail

/// A layer around a function without options, and what it is called in texts.
template <detail::Literal name, Variable (*f)(const Variable&)>
class Elementwise final : public Module {
 public:
  Variable operator()(const Variable& x) const {
    return forward([&] { return f(x); });
  }
  void members(Visitor&) override {}
  std::string type_name() const override { return name.text; }
};

using Relu = Elementwise<"Relu", relu>;                       ///< max(x, 0)
using Relu6 = Elementwise<"Relu6", relu6>;                    ///< x within [0, 6]
using Selu = Elementwise<"Selu", selu>;                       ///< lambda elu(x, alpha)
using Silu = Elementwise<"Silu", silu>;                       ///< x sigmoid(x)
using Mish = Elementwise<"Mish", mish>;                       ///< x tanh(log(1 + exp(x)))
using Tanh = Elementwise<"Tanh", tanh>;                       ///< tanh(x)
using Tanhshrink = Elementwise<"Tanhshrink", tanhshrink>;     ///< x - tanh(x)
using Sigmoid = Elementwise<"Sigmoid", sigmoid>;              ///< 1 / (1 + exp(-x))
using LogSigmoid = Elementwise<"LogSigmoid", logsigmoid>;     ///< log(sigmoid(x))
using Softsign = Elementwise<"Softsign", softsign>;           ///< x / (1 + |x|)
using Hardsigmoid = Elementwise<"Hardsigmoid", hardsigmoid>;  ///< relu6(x + 3) / 6
using Hardswish = Elementwise<"Hardswish", hardswish>;        ///< x relu6(x + 3) / 6

/// x where x > 0, else negative_slope x
class LeakyRelu final : public Module {
 public:
  explicit LeakyRelu(double negative_slope = 0.01) : slope_(negative_slope) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return leaky_relu(x, slope_); });
  }
  void members(Visitor&) override {}

 private:
  double slope_;
};

struct PReluOptions {
  double init = 0.25;
  DType dtype = DType::f32;
};

/// x where x > 0, else weight x, the slopes learned. weight [1], or [channels] along axis 1. He et al. 2015.
class PRelu final : public Module {
 public:
  explicit PRelu(Index channels = 1, PReluOptions options = {})
      : weight(Parameter(Tensor::full({channels}, options.init, options.dtype))) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return prelu(x, weight); });
  }
  void members(Visitor& v) override { v("weight", weight); }

  Parameter weight;
};

/// x where x > 0, else alpha (exp(x) - 1)
class Elu final : public Module {
 public:
  explicit Elu(double alpha = 1) : alpha_(alpha) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return elu(x, alpha_); });
  }
  void members(Visitor&) override {}

 private:
  double alpha_;
};

/// x where x > 0, else alpha (exp(x / alpha) - 1)
class Celu final : public Module {
 public:
  explicit Celu(double alpha = 1) : alpha_(alpha) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return celu(x, alpha_); });
  }
  void members(Visitor&) override {}

 private:
  double alpha_;
};

/// x Phi(x), or its approximation by tanh
class Gelu final : public Module {
 public:
  explicit Gelu(GeluForm form = GeluForm::exact) : form_(form) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return gelu(x, form_); });
  }
  void members(Visitor&) override {}

 private:
  GeluForm form_;
};

/// log(1 + exp(beta x)) / beta
class Softplus final : public Module {
 public:
  explicit Softplus(double beta = 1, double threshold = 20) : beta_(beta), threshold_(threshold) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return softplus(x, beta_, threshold_); });
  }
  void members(Visitor&) override {}

 private:
  double beta_, threshold_;
};

/// x within [low, high]
class Hardtanh final : public Module {
 public:
  explicit Hardtanh(double low = -1, double high = 1) : low_(low), high_(high) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return hardtanh(x, low_, high_); });
  }
  void members(Visitor&) override {}

 private:
  double low_, high_;
};

/// 0 where |x| <= lambda, else x
class Hardshrink final : public Module {
 public:
  explicit Hardshrink(double lambda = 0.5) : lambda_(lambda) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return hardshrink(x, lambda_); });
  }
  void members(Visitor&) override {}

 private:
  double lambda_;
};

/// 0 where |x| <= lambda, else x brought nearer to 0 by lambda
class Softshrink final : public Module {
 public:
  explicit Softshrink(double lambda = 0.5) : lambda_(lambda) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return softshrink(x, lambda_); });
  }
  void members(Visitor&) override {}

 private:
  double lambda_;
};

/// x where x > bound, else value
class Threshold final : public Module {
 public:
  Threshold(double bound, double value) : bound_(bound), value_(value) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return threshold(x, bound_, value_); });
  }
  void members(Visitor&) override {}

 private:
  double bound_, value_;
};

/// a sigmoid(b), a and b the halves of x along `axis`, which y has half as long as x
class Glu final : public Module {
 public:
  explicit Glu(int axis = -1) : axis_(axis) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return glu(x, axis_); });
  }
  void members(Visitor&) override {}

 private:
  int axis_;
};

/// exp(x) / sum(exp(x)) along `axis`
class Softmax final : public Module {
 public:
  explicit Softmax(int axis = -1) : axis_(axis) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return softmax(x, axis_); });
  }
  void members(Visitor&) override {}

 private:
  int axis_;
};

/// log(softmax(x)) along `axis`
class LogSoftmax final : public Module {
 public:
  explicit LogSoftmax(int axis = -1) : axis_(axis) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return log_softmax(x, axis_); });
  }
  void members(Visitor&) override {}

 private:
  int axis_;
};

}  // namespace espalier::nn
