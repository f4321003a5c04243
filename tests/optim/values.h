// A constraint by itself: steps that move no value but for it.
#pragma once

#include <vector>

#include "tests/optim/support.h"

namespace espalier::optim::testing {

/// One step of a rate of 0, then the constraint.
inline void constrain(const Parameter& p, const Chain& constraint) {
  give_gradient(p, std::vector<double>(static_cast<std::size_t>(p.size()), 0));
  Optimizer({{"p", p.ref()}}, chain(sgd({.lr = 0.1}), constraint)).step();
}
/// What it makes of these values, in double.
inline std::vector<double> constrained(const std::vector<double>& values, const Chain& constraint, Shape shape = {-1},
                                       DType type = DType::f64) {
  const Parameter p = parameter("p", values, type, shape);
  constrain(p, constraint);
  return values_of(p);
}

/// Every `period`-th weight pruned, from `first` on.
inline Mask every_dead(Index n, Index period = 3, Index first = 0) {
  Mask mask(n);
  for (Index i = first; i < n; i += period) mask.set(i, false);
  return mask;
}

inline double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

}  // namespace espalier::optim::testing
