// A harness for optimizers: many parameters of both types through 20 steps beside a plain loop in double.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/optim/support.h"

namespace espalier::optim::testing {

/// A setting as a number, or as a schedule that wavers below it.
struct Setting {
  double base;
  bool scheduled;
  operator Scalar() const {  // NOLINT: that is what it is for
    if (!scheduled) return base;
    return [s = *this](std::int64_t step) { return s.at(step); };
  }
  double at(std::int64_t step) const { return scheduled ? base * (1 - 0.002 * static_cast<double>(step % 7)) : base; }
};

/// One weight in one step of the plain loop: its gradient, its value and its states, in the order of the optimizer's.
struct PlainStep {
  double g;
  double& w;
  double* s;
  std::int64_t t;     ///< updates of the parameter, this one included
  std::int64_t step;  ///< for schedules
};
using PlainRule = std::function<void(PlainStep)>;

/// Runs both and compares values and states after each step. Sizes 0 to 10,000, types mixed; every parameter goes
/// without gradient now and then; half of them have masks, which change on the way, so that weights also grow back.
/// Gradients of a step may be all zero, huge or tiny.
void expect_rule(const Chain& chain, const std::vector<std::string>& states, const PlainRule& rule,
                 double f32_tolerance = 2e-6);

}  // namespace espalier::optim::testing
