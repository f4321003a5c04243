// Parameters with gradients made by hand, and a plain reference of what an optimizer does to them.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/core/rng.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/constraint.h"
#include "espalier/optim/mask_gradient.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"

namespace espalier::optim::testing {

inline Tensor tensor(const std::vector<double>& values, DType type, Shape shape = {-1}) {
  if (shape.rank() == 1 && shape[0] == -1) shape = {static_cast<Index>(values.size())};
  return Tensor::from(values, shape).to(type);
}
inline Parameter parameter(const std::string& name, const std::vector<double>& values, DType type = DType::f32,
                           Shape shape = {-1}) {
  return Parameter(tensor(values, type, shape), name);
}
inline void give_gradient(const Parameter& p, const std::vector<double>& values) {
  p.ref()->clear_grad();
  p.ref()->accumulate(tensor(values, p.dtype(), p.shape()).clone());
}
inline std::vector<double> values_of(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }
inline std::vector<double> values_of(const Parameter& p) { return values_of(p.value()); }

/// Repeatable values in (-1, 1), not too regular.
inline std::vector<double> numbers(std::size_t n, unsigned seed, double scale = 1) {
  std::vector<double> x(n);
  std::uint64_t s = seed * 2654435761u + 12345;
  for (double& v : x) {
    s = s * 6364136223846793005u + 1442695040888963407u;
    v = scale * (static_cast<double>(s >> 11) / 4503599627370496.0 - 1);
  }
  return x;
}
inline double norm(const std::vector<std::vector<double>>& gradients, double p = 2) {
  long double sum = 0;
  for (const auto& g : gradients)
    for (double x : g) {
      const long double a = std::abs(static_cast<long double>(x));
      sum = std::isinf(p) ? std::max(sum, a) : sum + std::pow(a, static_cast<long double>(p));
    }
  return static_cast<double>(std::isinf(p) ? sum : std::pow(sum, 1 / static_cast<long double>(p)));
}

}  // namespace espalier::optim::testing
