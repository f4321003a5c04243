// Constraints of values behind the update; clamp_parameters is also tested with the pipeline.
#include "espalier/optim/constraint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/rng.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"
#include "tests/support.h"

namespace espalier::optim {
namespace {

using testing::throws;

/// One step that does not move the values, but for the constraint.
void constrain(const Parameter& p, const Chain& constraint) {
  p.ref()->accumulate(Tensor::zeros(p.shape(), p.dtype()));
  Optimizer(ParameterList{{"p", p.ref()}}, chain(sgd({.lr = 0.1}), constraint)).step();
}

TEST(MaxNorm, ScalesTheUnitsAboveTheBoundAndLeavesTheOthersTheirBits) {
  Parameter p(Tensor::from({3.0, 4.0, 0.1, 0.2, 0.0, 0.0}, {3, 2}), "p");
  constrain(p, max_norm(1.0));
  const std::vector<double> w = p.value().to_vector<double>();
  EXPECT_NEAR(w[0], 0.6, 1e-15);
  EXPECT_NEAR(w[1], 0.8, 1e-15);
  EXPECT_EQ(w[2], 0.1);
  EXPECT_EQ(w[3], 0.2);
  EXPECT_EQ(w[4], 0.0);
}

TEST(MaxNorm, TakesAVectorAsOneUnitAndUnitsLongerThanABlock) {
  Parameter vector(Tensor::full({4}, 1.0, DType::f64), "v");
  constrain(vector, max_norm(1.0));
  EXPECT_NEAR(vector.value().at({3}), 0.5, 1e-15);

  const Index n = 10000;
  Parameter longer(Tensor::full({2, n}, 0.1), "p");
  Tensor half = longer.value().clone();
  half.narrow(0, 1, 1).fill(1e-4);
  longer.set_value(half);
  constrain(longer, max_norm(2.0));  // the first unit has the norm 10, the second 0.01
  EXPECT_NEAR(longer.value().at({0, n - 1}), 0.02, 0.02 * 4 * std::numeric_limits<float>::epsilon());
  EXPECT_EQ(longer.value().at({1, 0}), static_cast<double>(1e-4f));
}

TEST(MaxNorm, WithEpsIsKerasRuleAlsoWithinTheBound) {
  Parameter p(Tensor::from({3.0, 4.0, 0.3, 0.4}, {2, 2}), "p");
  constrain(p, max_norm({.max_norm = 1.0, .eps = 0.5}));
  const std::vector<double> w = p.value().to_vector<double>();
  EXPECT_NEAR(w[0], 3 * 1 / 5.5, 1e-15);
  EXPECT_NEAR(w[2], 0.3 * 0.5 / 1.0, 1e-15);
}

TEST(MaxNorm, NeitherOverflowsNorMovesPrunedWeights) {
  Parameter p(Tensor::from({3e30f, 4e30f, 5.f, 1.f}, {2, 2}), "p");
  Mask mask(4);
  mask.set(2, false);
  p.set_mask(mask);
  constrain(p, max_norm(0.5));
  const std::vector<float> w = p.value().to_vector<float>();
  EXPECT_NEAR(w[0], 0.3f, 1e-6);
  EXPECT_NEAR(w[1], 0.4f, 1e-6);
  EXPECT_EQ(w[2], 0.f);
  EXPECT_NEAR(w[3], 0.5f, 1e-6);  // the pruned weight is no part of the norm
}

TEST(MaxNorm, HasTheSameBytesAtAnyThreadCount) {
  auto run = [](int n) {
    const testing::Threads threads(n);
    Parameter p(Rng(3).normal({300, 700}), "p");
    constrain(p, max_norm(20.0));
    return p.value();
  };
  const Tensor one = run(1);
  EXPECT_TRUE(testing::same_bytes(run(2), one));
  EXPECT_TRUE(testing::same_bytes(run(4), one));
}

TEST(MaxNorm, RefusesBoundsThatMakeNoSense) {
  EXPECT_TRUE(throws<ConfigError>([] { max_norm(-1.0); }, "[max_norm]", "negative"));
  EXPECT_TRUE(throws<ConfigError>([] { max_norm(std::nan("")); }, "[max_norm]"));
  EXPECT_TRUE(throws<ConfigError>([] { max_norm({.max_norm = 1.0, .eps = -1}); }, "eps"));
  Parameter p(Tensor::ones({2}), "p");
  EXPECT_TRUE(throws<ConfigError>([&] { constrain(p, max_norm([](std::int64_t) { return -1.0; })); }, "[max_norm]"));
  EXPECT_EQ(p.value().at({0}), 1.0);
}

}  // namespace
}  // namespace espalier::optim
