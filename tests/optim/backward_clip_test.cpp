#include "espalier/optim/backward_clip.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"

namespace espalier::optim {
namespace {

using Values = std::vector<double>;
Values values(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }
constexpr double inf = std::numeric_limits<double>::infinity();

/// dL/dx behind a clip of x, L = sum(weights x).
Values through(const Tensor& weights, double max_norm, BackwardClipOptions options = {}) {
  const Parameter p(Tensor::ones(weights.shape(), weights.dtype()), "p");
  Tape tape;
  const Variable x = Variable(p) * 1;
  clip_backward_norm(x, max_norm, options);
  tape.backward(sum(x * Variable(weights)));
  return values(p.grad());
}

TEST(ClipBackwardNorm, BoundsWhatFlowsOn) {
  for (DType type : {DType::f32, DType::f64}) {
    const Tensor g = Tensor::from<double>({3, -4, 0, 0}, {2, 2}).to(type);
    EXPECT_NEAR(through(g, 1.0)[0], 0.6, 1e-7);
    EXPECT_NEAR(through(g, 1.0)[1], -0.8, 1e-7);
    EXPECT_EQ(through(g, 5.0), (Values{3, -4, 0, 0}));
    EXPECT_EQ(through(g, inf), (Values{3, -4, 0, 0}));
    EXPECT_EQ(through(g, 0.0), (Values{0, 0, 0, 0}));
    EXPECT_NEAR(through(g, 1.0, {.p = 1})[1], -4 / 7.0, 1e-7);
    EXPECT_NEAR(through(g, 1.0, {.p = inf})[0], 0.75, 1e-7);
    EXPECT_EQ(through(Tensor::zeros({3}, type), 1.0), (Values{0, 0, 0}));
    EXPECT_EQ(through(Tensor::zeros({3}, type), 0.0), (Values{0, 0, 0}));
    EXPECT_TRUE(through(Tensor::zeros({0, 4}, type), 1.0, {.per_row = true}).empty());
    EXPECT_TRUE(std::isnan(through(Tensor::from<double>({1, NAN}, {2}).to(type), 1.0)[0]));
  }
  EXPECT_NEAR(through(Tensor::from<float>({3e25f, 4e25f}, {2}), 1.0)[1], 0.8, 1e-6);
}

TEST(ClipBackwardNorm, OfEachRow) {
  const Tensor g = Tensor::from<double>({3, 4, 0.3, 0.4, 0, 0}, {3, 2});
  const Values rows = through(g, 1.0, {.per_row = true});
  EXPECT_NEAR(rows[0], 0.6, 1e-15);
  EXPECT_NEAR(rows[1], 0.8, 1e-15);
  EXPECT_EQ((Values{rows.begin() + 2, rows.end()}), (Values{0.3, 0.4, 0, 0}));
  const Values cube = through(Tensor::from<double>({6, 0, 0, 8, 1, 0, 0, 0}, {2, 2, 2}), 2.0, {.per_row = true});
  EXPECT_NEAR(cube[3], 1.6, 1e-15);
  EXPECT_EQ(cube[4], 1);
  EXPECT_EQ(through(Tensor::from<double>({5, -0.5}, {2}), 1.0, {.per_row = true}), (Values{1, -0.5}));
  EXPECT_EQ(through(Tensor::from<double>({5}, {}), 1.0, {.per_row = true}), (Values{1}));
}

TEST(ClipBackwardValue, BoundsEntries) {
  const Parameter p(Tensor::from({1., 1., 1.}), "p");
  Tape tape;
  const Variable x = Variable(p) * 1;
  clip_backward_value(x, 2.0);
  tape.backward(sum(x * Variable(Tensor::from({-5., 1.5, double(NAN)}))));
  EXPECT_EQ(values(p.grad())[0], -2);
  EXPECT_EQ(values(p.grad())[1], 1.5);
  EXPECT_TRUE(std::isnan(values(p.grad())[2]));
}

/// A recurrence h <- tanh(x_t + h w) over `steps`, whose dL/dh_t grow by the factor of w; returns the norms of dL/dh_t.
Values recurrence(const Parameter& w, int steps, double bound, bool by_value) {
  Rng rng(1);
  Tape tape;
  Values norms;
  Variable h = Tensor::zeros({2, 4}, DType::f64);
  for (int t = 0; t < steps; ++t) {
    h = tanh(Variable(rng.normal({2, 4}, 0, 1e-8, DType::f64)) + matmul(h, w));
    if (by_value)
      clip_backward_value(h, bound);
    else
      clip_backward_norm(h, bound, {.per_row = true});
    on_gradient(h, [&](const Variable& g) {
      norms.push_back(by_value ? norm(g.value(), inf).item() : norm(g.value().select(0, 0)).item());
    });
  }
  tape.backward(sum(h * 100.0));
  return norms;
}

TEST(ClipBackward, HoldsTheGradientOfEveryStateOfARecurrence) {
  const Parameter w(Tensor::eye(4, DType::f64), "w");
  w.ref()->set_value(
      mul(Variable(Tensor::eye(4, DType::f64)), Variable(Tensor::full({4, 4}, 1.5, DType::f64))).value());
  for (bool by_value : {false, true}) {
    const Values free = recurrence(w, 30, inf, by_value), held = recurrence(w, 30, 0.5, by_value);
    ASSERT_EQ(free.size(), 30);
    EXPECT_GT(free.back(), 1e4);  // exploding, without
    for (double n : held) EXPECT_LE(n, 0.5 * (1 + 1e-12));
    EXPECT_GT(held.back(), 0.1);
    w.ref()->clear_grad();
  }
}

/// <w, clipped dL/dx> for L = sum(x^3) / 3, and its gradient: kinds 0 and 1 hold x^2 to a norm of 2, of all and of each
/// row, kind 2 holds its entries to 2.
struct OfClipped {
  double value;
  Values gradient;
};
OfClipped of_clipped(const Values& at, int kind) {
  Tape tape;
  const Variable p = tape.watch(Tensor::from(at, {2, 2})), x = p * 1;
  Hook hook = kind == 2 ? clip_backward_value(x, 2.0) : clip_backward_norm(x, 2.0, {.per_row = kind == 1});
  const Variable g = tape.gradient(sum(x * x * x) * (1 / 3.0), {p}, {.create_graph = true})[0];
  hook.remove();  // what follows is not to be clipped, too
  const Variable y = sum(g * Variable(Tensor::from<double>({0.3, -1, 2, 0.7}, {2, 2})));
  return {y.item(), values(tape.gradient(y, {p})[0].value())};
}

TEST(ClipBackward, IsDifferentiableUnderCreateGraph) {
  constexpr double step = 1e-5;
  for (int kind : {0, 1, 2}) {
    for (const Values& at : {Values{1.2, -2, 0.5, 3}, Values{0.2, 0.1, -0.3, 0.4}}) {
      const Values analytic = of_clipped(at, kind).gradient;
      for (std::size_t i = 0; i < 4; ++i) {
        Values up = at, down = at;
        up[i] += step;
        down[i] -= step;
        const double numeric = (of_clipped(up, kind).value - of_clipped(down, kind).value) / (2 * step);
        EXPECT_NEAR(analytic[i], numeric, 1e-8) << "kind " << kind << " at " << i;
      }
    }
    for (double d : of_clipped({0, 0, 0, 0}, kind).gradient) EXPECT_EQ(d, 0);  // finite, where the norm is 0
  }
}

TEST(ClipBackward, HandlesAndErrors) {
  const Parameter p(Tensor::from({3.}), "p");
  EXPECT_FALSE(clip_backward_norm(Variable(Tensor::ones({2})), 1.0).attached());  // no tape
  Tape tape;
  EXPECT_FALSE(clip_backward_value(Variable(Tensor::ones({2})), 1.0).attached());  // a constant
  const Variable x = Variable(p) * 1;
  Hook hook = clip_backward_norm(x, 1.0);
  EXPECT_TRUE(hook.attached());
  hook.remove();
  tape.backward(sum(x * 7.0));
  EXPECT_EQ(values(p.grad()), (Values{7}));
  EXPECT_THROW(clip_backward_norm(x, -1.0), ConfigError);
  EXPECT_THROW(clip_backward_norm(x, NAN), ConfigError);
  EXPECT_THROW(clip_backward_norm(x, 1.0, {.p = 0}), ConfigError);
  EXPECT_THROW(clip_backward_value(x, -1.0), ConfigError);
}

}  // namespace
}  // namespace espalier::optim
