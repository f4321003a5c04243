// Residual: a shortcut around a module or a function.
#pragma once

#include <concepts>
#include <type_traits>
#include <utility>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// y = x + f(x). He, Zhang, Ren, Sun 2016, eq. 1. f is a module, listed as "body", or a function of one Variable:
///
///   nn::Residual block(nn::Sequential(nn::Linear(rng, 64, 64), relu, nn::Linear(rng, 64, 64)));
///
/// Errors: ShapeError unless f keeps the shape of x.
template <class F>
requires std::is_invocable_r_v<Variable, const F&, const Variable&>
class Residual final : public Module {
 public:
  explicit Residual(F f) : body(std::move(f)) {}

  Variable operator()(const Variable& x) const {
    return forward([&] {
      Variable y = body(x);
      if (!(y.shape() == x.shape()))  // adding would broadcast
        fail<ShapeError>(
            "[residual] the body turns shape ", x.shape(), " into ", y.shape(),
            ", so there is nothing to add it to. Hint: a body that keeps the shape, or x projected by hand");
      return x + y;
    });
  }
  void members(Visitor& v) override {
    if constexpr (std::derived_from<F, Module>) v("body", body);
  }

  F body;
};

}  // namespace espalier::nn
