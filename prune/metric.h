// Metric: what pruning is held against, as accuracy on validation data.
//
//   const prune::Metric accuracy = [&] { return train::accuracy(model(x), y); };
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>

#include "espalier/autograd/tape.h"

namespace espalier::prune {

/// Run with nothing recorded. Where training goes on around it, it must leave the model alone, and set it to eval() if
/// that matters.
using Metric = std::function<double()>;

enum class Better : std::uint8_t { higher, lower };

/// By how much `now` is worse than `before`; below 0 if it is better, NaN if either is.
inline double drop_of(double before, double now, Better better) {
  return better == Better::higher ? before - now : now - before;
}

/// The drop is at most max_drop, but for the rounding of the difference: 0.97 is within 0.01 of 0.98. NaN is not.
inline bool within_drop(double before, double now, Better better, double max_drop) {
  constexpr double rounding = 4 * std::numeric_limits<double>::epsilon();
  return drop_of(before, now, better) <= max_drop + rounding * std::max(std::abs(before), std::abs(now));
}

inline double measured(const Metric& metric) {
  const NoTape quiet;
  return metric();
}

}  // namespace espalier::prune
