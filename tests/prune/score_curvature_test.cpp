// Scores from second derivatives, on quadratic losses L = w' A w / 2 + c' w, whose Hessian is A and gradient A w + c.
#include "espalier/prune/scores_curvature.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/prune/pruner.h"

namespace espalier::prune {
namespace {

std::vector<double> vec(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }

struct Quadratic {
  explicit Quadratic(DType type = DType::f64) {
    Rng rng(11);
    const Tensor root = rng.normal({5, 5}, 0, 1, DType::f64);
    a = matmul(root, root.t());
    c = rng.normal({5}, 0, 1, DType::f64);
    w = Parameter(rng.normal({5}, 0, 1, type), "w");
  }
  Variable loss(const Variable& v, double scale = 1) const {
    const DType type = v.dtype();
    return (dot(matmul(Variable(a.to(type)), v), v) * 0.5 + dot(v, Variable(c.to(type)))) * scale;
  }
  std::vector<double> scores(const Score& score, const Loss& l, Index batches = 1, GatherOptions options = {}) const {
    const Gathered g = gather(list_of(w), l, batches, score.needs(), options);
    return vec(score({"w", w.ref()}, g.of(*w.ref())));
  }
  Tensor a, c;
  Parameter w;
};

TEST(ScoresCurvature, ObdOfAQuadraticIsExact) {
  for (const DType type : {DType::f64, DType::f32}) {
    const Quadratic q(type);
    const auto s = q.scores(obd(), [&](Index b) { return q.loss(q.w, b == 0 ? 1.0 : 3.0); }, 2, {.probes = 0});
    const auto w = vec(q.w.value());
    for (Index i = 0; i < 5; ++i)  // the mean of two batches: 2 A
      EXPECT_NEAR(s[static_cast<std::size_t>(i)],
                  q.a.at({i, i}) * w[static_cast<std::size_t>(i)] * w[static_cast<std::size_t>(i)],
                  type == DType::f64 ? 1e-13 : 2e-5);
  }
}

TEST(ScoresCurvature, ProbesAreExactWhereTheHessianIsDiagonal) {
  const Parameter w(Tensor::from<double>({1, -2, 3}), "w");
  const Tensor d = Tensor::from<double>({4, 0.5, -1});
  const Gathered g =
      gather(list_of(w), [&](Index) { return sum(square(w) * d) * 0.5; }, 1, obd().needs(), {.probes = 1});
  EXPECT_EQ(vec(obd()({"w", w.ref()}, g.of(*w.ref()))), (std::vector<double>{2, 1, -4.5}));
}

TEST(ScoresCurvature, ProbesComeNearTheDiagonalAndRepeat) {
  const Quadratic q;
  const Needs needs = obd().needs();
  const Loss loss = [&](Index) { return q.loss(q.w); };
  auto diagonal = [&](std::uint64_t seed, Index probes) {
    return vec(gather(list_of(q.w), loss, 1, needs, {.probes = probes, .seed = seed}).of(*q.w.ref()).hessian_diagonal);
  };
  const auto many = diagonal(1, 4000);
  for (Index i = 0; i < 5; ++i) {
    double off = 0;  // the variance of one probe
    for (Index j = 0; j < 5; ++j) off += i == j ? 0 : q.a.at({i, j}) * q.a.at({i, j});
    EXPECT_NEAR(many[static_cast<std::size_t>(i)], q.a.at({i, i}), 5 * std::sqrt(off / 4000));
  }
  EXPECT_EQ(diagonal(7, 3), diagonal(7, 3));
  EXPECT_NE(diagonal(7, 3), diagonal(8, 3));
}

TEST(ScoresCurvature, ALossLinearInTheWeightsHasNoCurvature) {
  const Parameter w(Tensor::from<double>({1, -2, 3}), "w");
  for (const Index probes : {0, 2}) {
    const Gathered g = gather(list_of(w), [&](Index) { return sum(w * 3.0); }, 1,
                              {.hessian_gradient = true, .hessian_diagonal = true}, {.probes = probes});
    EXPECT_EQ(vec(g.of(*w.ref()).hessian_diagonal), std::vector<double>(3, 0));
    EXPECT_EQ(vec(g.of(*w.ref()).hessian_gradient), std::vector<double>(3, 0));
  }
}

TEST(ScoresCurvature, GraspIsWeightTimesHessianTimesGradient) {
  const Quadratic q;
  const auto s = q.scores(
      grasp(), [&](Index b) { return q.loss(q.w, b == 0 ? 0.5 : 1.5); }, 2);  // the mean is L
  const Tensor g = add(matmul(q.a, q.w.value()), q.c).value();
  const auto hg = vec(matmul(q.a, g)), w = vec(q.w.value());
  for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(s[i], w[i] * hg[i], 1e-12);
}

TEST(ScoresCurvature, GraspPrunesWhatHoldsTheGradientBack) {
  // |g|^2 / 2 with w_i gone, against its first-order change -w_i (H g)_i: the weight with the smallest score is the one
  // whose going raises the norm of the gradient most, to first order.
  const Parameter w(Tensor::from<double>({0.01, 0.01}), "w");
  const Tensor c = Tensor::from<double>({1, -1}), d = Tensor::from<double>({1, 1});
  auto loss = [&](const Variable& v) { return sum(square(v) * d) * 0.5 + sum(v * c); };
  const Gathered g = gather(
      list_of(w), [&](Index) { return loss(w); }, 1, grasp().needs());
  const auto s = vec(grasp()({"w", w.ref()}, g.of(*w.ref())));
  auto norm_without = [&](std::size_t gone) {  // g = d w + c
    std::vector<double> v = {0.01, 0.01};
    v[gone] = 0;
    return std::pow(v[0] + 1, 2) + std::pow(v[1] - 1, 2);
  };
  EXPECT_GT(s[0], 0);
  EXPECT_LT(s[1], 0);
  EXPECT_LT(norm_without(0), norm_without(1));  // without weight 1 more gradient flows, so it goes first
  Pruner pruner(list_of(w), {.score = grasp(), .select = optim::Select(), .loss = [&](Index) { return loss(w); }});
  pruner.prune_count(1);
  EXPECT_FALSE(w.mask()[1]);
}

TEST(ScoresCurvature, HessianOfTwoLayersAgreesWithDifferences) {
  Rng rng(2);
  const Parameter a(rng.normal({4, 3}, 0, 1, DType::f64), "a"), b(rng.normal({2, 4}, 0, 1, DType::f64), "b");
  const Tensor x = rng.normal({6, 3}, 0, 1, DType::f64);
  auto loss = [&](Index) { return mean(square(linear(tanh(linear(x, a)), b))); };
  const Gathered g = gather(list_of(a, b), loss, 1,
                            {.gradient = true, .hessian_gradient = true, .hessian_diagonal = true}, {.probes = 0});
  auto gradient_at = [&](Parameter& p, const Tensor& value) {
    const Tensor old = p.value().clone();
    p.set_value(value);
    const Gathered at = gather(list_of(a, b), loss, 1, {.gradient = true});
    p.set_value(old);
    return at;
  };
  const double h = 1e-5;
  Parameter& p = const_cast<Parameter&>(a);
  for (Index i = 0; i < 12; ++i) {
    Tensor up = a.value().clone(), down = a.value().clone();
    up.write<double>("test")[i] += h;
    down.write<double>("test")[i] -= h;
    const Tensor gu = gradient_at(p, up).of(*a.ref()).gradient, gd = gradient_at(p, down).of(*a.ref()).gradient;
    const auto k = static_cast<std::size_t>(i);
    EXPECT_NEAR(vec(g.of(*a.ref()).hessian_diagonal)[k], (vec(gu)[k] - vec(gd)[k]) / (2 * h), 1e-8);
  }
  // H g as the directional difference of the gradient along g, over both parameters.
  Parameter pa = a, pb = b;
  auto moved = [&](double t) {
    pa.set_value(add(a.value(), Variable(g.of(*a.ref()).gradient) * t).value());
    pb.set_value(add(b.value(), Variable(g.of(*b.ref()).gradient) * t).value());
    return gather(list_of(pa, pb), [&](Index) { return mean(square(linear(tanh(linear(x, pa)), pb))); }, 1,
                  {.gradient = true});
  };
  const auto up = vec(moved(h).of(*pb.ref()).gradient), down = vec(moved(-h).of(*pb.ref()).gradient);
  const auto hg = vec(g.of(*b.ref()).hessian_gradient);
  for (std::size_t i = 0; i < hg.size(); ++i) EXPECT_NEAR(hg[i], (up[i] - down[i]) / (2 * h), 1e-7);
}

TEST(ScoresCurvature, ObsOfADiagonalHessianIsObd) {
  const Parameter w(Tensor::from<double>({1, -2, 3, 4}, {2, 2}), "w");
  const Tensor x = Tensor::from<double>({2, 0, 0, 3}, {2, 2});  // X'X = diag(4, 9)
  const Gathered g = gather(
      list_of(w), [&](Index) { return linear(x, w); }, 1, obs().needs());
  const NamedParameter named{"w", w.ref()};
  EXPECT_EQ(vec(obs({.damping = 0})(named, g.of(*w.ref()))), (std::vector<double>{2, 18, 18, 72}));
  // damping 2 adds 13 to both
  const std::vector<double> damped = {8.5, 44, 76.5, 176};
  const auto s = vec(obs({.damping = 2})(named, g.of(*w.ref())));
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(s[i], damped[i], 1e-12 * damped[i]);
}

TEST(ScoresCurvature, ObsIsTheErrorThatIsLeftWhenTheOthersMakeUp) {
  Rng rng(6);
  const Tensor x = rng.normal({20, 2}, 0, 1, DType::f64), wide = matmul(x, rng.normal({2, 2}, 0, 1, DType::f64));
  const Parameter w(Tensor::from<double>({0.7, -1.2}, {1, 2}), "w");
  const Gathered g = gather(
      list_of(w), [&](Index) { return linear(wide, w); }, 1, obs().needs());
  const auto s = vec(obs({.damping = 0})({"w", w.ref()}, g.of(*w.ref())));
  // Without w_0 the best w_1 solves one normal equation; what is left is half of the squared distance.
  const auto v = vec(wide);
  double xx = 0, xy = 0, yy = 0;
  for (std::size_t r = 0; r < 20; ++r) {
    const double a = v[2 * r], b = v[2 * r + 1], y = 0.7 * a - 1.2 * b;
    xx += b * b, xy += b * y, yy += y * y;
  }
  EXPECT_NEAR(s[0], (yy - xy * xy / xx) / 2, 1e-12 * yy);
}

TEST(ScoresCurvature, ObsOfAConstantZeroInputIsZero) {
  const Parameter w(Tensor::ones({1, 3}), "w");
  const Tensor x = Tensor::from<float>({1, 0, 1, 1, 0, -1}, {2, 3});
  const Gathered g = gather(
      list_of(w), [&](Index) { return linear(x, w); }, 1, obs().needs());
  const auto s = vec(obs()({"w", w.ref()}, g.of(*w.ref())));
  EXPECT_EQ(s[1], 0);
  EXPECT_GT(s[0], 0);
}

TEST(ScoresCurvature, ASingularHessianIsAnErrorThatNamesTheWeight) {
  const Parameter w(Tensor::ones({1, 3}), "fc.weight");
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});  // rank 2
  const Gathered g = gather(
      list_of(w), [&](Index) { return linear(x, w); }, 1, obs().needs());
  EXPECT_THROW(obs({.damping = 0})({"w", w.ref()}, g.of(*w.ref())), ConfigError);
  EXPECT_NO_THROW(obs()({"w", w.ref()}, g.of(*w.ref())));
  EXPECT_THROW(obs({.damping = -1}), ConfigError);
}

TEST(ScoresCurvature, TheSameBytesAtAnyThreadCount) {
  Rng rng(4);
  const Parameter a(rng.normal({90, 150}), "a"), b(rng.normal({70, 90}), "b");
  const Tensor x = rng.normal({200, 150});
  auto run = [&](int threads) {
    ThreadLimit limit(threads);
    const Gathered g = gather(list_of(a, b), [&](Index) { return mean(square(linear(tanh(linear(x, a)), b))); }, 1,
                              {.hessian_gradient = true, .hessian_diagonal = true, .gram = true}, {.probes = 2});
    std::vector<Tensor> all;
    for (const ParameterRef& p : {a.ref(), b.ref()})
      for (const Score& s : {obd(), obs(), grasp()}) all.push_back(s({"p", p}, g.of(*p)));
    return all;
  };
  const std::vector<Tensor> one = run(1), two = run(2), four = run(4);
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_TRUE(equal(one[i], two[i])) << i;
    EXPECT_TRUE(equal(one[i], four[i])) << i;
  }
}

}  // namespace
}  // namespace espalier::prune
