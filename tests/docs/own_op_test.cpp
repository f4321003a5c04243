// The op of docs/own_op.md, compiled, run, and held to the page.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "espalier/autograd/gradcheck.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/rng.h"
#include "tests/support.h"
#include "tests/support/snippets.h"

// Outside of the library, as a user's code is.
namespace mine {

using namespace espalier;

/// log cosh(x - target) of each element, broadcast: e^2 / 2 near 0, |e| - log 2 far away. Gradient: tanh(x - target).
Variable log_cosh(const Variable& x, const Variable& target) {
  Tensor y = zip_with("log_cosh", x.value(), target.value(), [](auto a, auto b) {
    const decltype(a) e = std::abs(a - b);
    return e + std::log1p(std::exp(-2 * e)) - std::numbers::ln2_v<decltype(a)>;  // no overflow, unlike cosh
  });
  if (!recording(x, target)) return y;
  return record("log_cosh", std::move(y), {&x, &target},
                [x = Saved(x), t = Saved(target)](const Variable& g, Wants wants) {
                  const Variable slope = g * tanh(x.get() - t.get());
                  return gradients(wants[0] ? sum_to(slope, x.shape()) : no_gradient(),
                                   wants[1] ? sum_to(neg(slope), t.shape()) : no_gradient());
                });
}

TEST(OwnOp, IsHeldAgainstDifferences) {
  Rng rng(1);
  const Tensor x = rng.normal({4, 3}, 0, 2, DType::f64), target = rng.normal({3}, 0, 2, DType::f64);
  auto f = [](std::span<const Variable> in) { return log_cosh(in[0], in[1]); };
  require(gradcheck(f, {x, target}));
  require(gradgradcheck(f, {x, target}));
  EXPECT_THROW(
      require(gradcheck([](std::span<const Variable> in) { return log_cosh(in[0], in[1].detach()); }, {x, target})),
      GradError)
      << "a check that cannot fail is none";
}

TEST(OwnOp, WorksAsThoseOfTheLibraryDo) {
  const Parameter theta(Tensor::from({3.0f, -800.0f}), "theta");
  EXPECT_FALSE(log_cosh(theta, Tensor::zeros({2})).recorded());
  Tape tape;
  const Variable y = log_cosh(theta, Tensor::zeros({2}));
  EXPECT_NEAR(y.value().at({0}), std::log(std::cosh(3.0)), 1e-6);
  EXPECT_NEAR(y.value().at({1}), 800 - std::numbers::ln2, 1e-4);
  tape.backward(sum(y));
  EXPECT_NEAR(theta.grad().at({0}), std::tanh(3.0), 1e-6);
  EXPECT_EQ(theta.grad().at({1}), -1);
  EXPECT_EQ(log_cosh(Tensor::zeros({0, 2}), Tensor::zeros({2})).shape(), (Shape{0, 2}));
  EXPECT_TRUE(espalier::testing::throws<ShapeError>([&] { log_cosh(theta, Tensor::zeros({3})); }, "[log_cosh]", "[3]"));
  EXPECT_TRUE(
      espalier::testing::throws<DTypeError>([&] { log_cosh(theta, Tensor::zeros({2}, DType::f64)); }, "[log_cosh]"));
}

TEST(OwnOp, ThePageIsTheCodeAboveAndShort) {
  EXPECT_EQ(espalier::testing::snippets_that_stand_in("tests/docs/own_op_test.cpp", "docs/own_op.md"), 2);
  EXPECT_LE(espalier::testing::longest_snippet("docs/own_op.md") + 5, 40) << "forward, backward and gradcheck together";
}

}  // namespace mine
