// A user's own op, forward and backward, with lambdas only: no kernel table, no header of the library's inside.
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/gradcheck.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/rng.h"
#include "tests/support.h"

namespace espalier {
namespace {

/// Huber's loss of each element: e^2 / 2 within delta, delta (|e| - delta / 2) beyond. e = x - target, broadcast.
/// Gradient: clamp(e, -delta, delta). Huber 1964, equation 2.4.
Variable huber(const Variable& x, const Variable& target, double delta) {
  Tensor y = zip_with("huber", x.value(), target.value(), [delta](auto a, auto b) {
    using T = decltype(a);
    const T e = std::abs(a - b), d = static_cast<T>(delta);
    return e > d ? d * (e - d / 2) : e * e / 2;
  });
  if (!recording(x, target)) return y;
  return record("huber", std::move(y), {&x, &target},
                [x = Saved(x), t = Saved(target), delta](const Variable& g, Wants wants) {
                  const Variable slope = g * clamp(x.get() - t.get(), -delta, delta);
                  return gradients(wants[0] ? sum_to(slope, x.shape()) : no_gradient(),
                                   wants[1] ? sum_to(neg(slope), t.shape()) : no_gradient());
                });
}

/// x sin(x), one operand.
Variable x_sin(const Variable& x) {
  Tensor y = map_with("x_sin", x.value(), [](auto v) { return v * std::sin(v); });
  if (!recording(x)) return y;
  return record("x_sin", std::move(y), {&x}, [x = Saved(x)](const Variable& g, Wants) {
    return g * map_with("x_sin", x.value(), [](auto v) { return std::sin(v) + v * std::cos(v); });
  });
}

TEST(UserOp, TwoOperandsWithBroadcastingAndSecondDerivatives) {
  Rng rng(4);
  const Tensor x = rng.uniform({5, 3}, -3, 3, DType::f64), t = rng.uniform({3}, -1, 1, DType::f64);
  auto f = [](std::span<const Variable> v) { return huber(v[0], v[1], 0.7); };
  GradcheckResult result = gradcheck(f, {x, t}, {.atol = 1e-7, .rtol = 1e-6});
  EXPECT_TRUE(result) << result.message;
  result = gradgradcheck(f, {x, t}, {.atol = 1e-7, .rtol = 1e-6});
  EXPECT_TRUE(result) << result.message;
  EXPECT_TRUE(
      testing::throws<ShapeError>([&] { huber(x, rng.uniform({4}, 0, 1, DType::f64), 1); }, "[huber]", "[5, 3]"));
  EXPECT_TRUE(testing::throws<DTypeError>([&] { huber(x, Tensor::ones({3}), 1); }, "[huber]"));
}

TEST(UserOp, OneOperandTrainsAParameterInF32) {
  const Parameter theta(Tensor::scalar(2), "theta");
  Tape tape;
  tape.backward(x_sin(theta));
  EXPECT_NEAR(theta.grad().item(), std::sin(2.) + 2 * std::cos(2.), 1e-6);
  EXPECT_FALSE(x_sin(Tensor::ones({3})).recorded());
  EXPECT_EQ(x_sin(Tensor::zeros({0, 2})).size(), 0);
  EXPECT_TRUE(testing::throws<DTypeError>([] { x_sin(Tensor::ones({2}, DType::i64)); }, "[x_sin]", "i64"));
}

}  // namespace
}  // namespace espalier
