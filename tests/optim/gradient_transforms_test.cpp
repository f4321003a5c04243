// Gradient transforms besides clipping, against plain loops; noise and masks at any thread count.
#include "espalier/optim/gradient_transforms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/core/kernels/random_normal.h"
#include "tests/optim/values.h"
#include "tests/support.h"

namespace espalier::optim {
namespace {

using namespace testing;
using espalier::testing::Threads;

/// What is left of the gradient behind the chain.
std::vector<double> transformed(const Parameter& p, const std::vector<double>& g, const Chain& chain,
                                std::int64_t step = 0) {
  give_gradient(p, g);
  apply_to_gradients({{"p", p.ref()}}, chain, {.step = step});
  return values_of(p.grad());
}
std::vector<double> transformed(const std::vector<double>& g, const Chain& chain, Shape shape = {-1}) {
  return transformed(parameter("p", std::vector<double>(g.size(), 1), DType::f64, shape), g, chain);
}
bool is_live(const Parameter& p, std::size_t i) { return !p.mask().defined() || p.mask()[static_cast<Index>(i)]; }

const Shape shapes[] = {{6, 5}, {100, 333}, {3, 9001}, {1000, 3}, {4, 3, 3, 3}};

/// Transforms that stand ahead of a clip, whose norm then is the finite check.
const Chain ahead_of_clips[] = {
    centralize({.select = Select()}),           scale(0.5),       scale(0), add_noise({.eta = 0.01}),
    weight_decay(0.1, {.how = Decay::coupled}), weight_decay(0.1)};

TEST(TransformsAheadOfAClip, LetWhatIsNotFiniteBeFound) {
  for (const Chain& first : ahead_of_clips)
    for (const DType type : {DType::f32, DType::f64})
      for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        const Parameter fine = parameter("fine", {1, 2, 3, 4}, type, {2, 2});
        const Parameter broken = parameter("broken", std::vector<double>(6, 1), type, {2, 3});
        Optimizer opt(list_of(fine, broken), chain(first, clip_by_global_norm(1.0), sgd({.lr = 0.1})));
        give_gradient(fine, {1, 2, 3, 4});
        give_gradient(broken, {1, 1, 1, 1, bad, 2});
        EXPECT_TRUE(espalier::testing::throws<NonFiniteError>([&] { opt.step(); }, "'broken'", "index 4", "; 1 of all"))
            << opt.describe();
        EXPECT_EQ(values_of(fine.value()), (std::vector<double>{1, 2, 3, 4}));
        EXPECT_EQ(values_of(broken.value()), std::vector<double>(6, 1));

        broken.ref()->set_mask(every_dead(6, 3, 1));  // entry 4 is dead: its gradient is of no meaning
        give_gradient(broken, {1, 1, 1, 1, bad, 2});
        EXPECT_NO_THROW(opt.step()) << opt.describe();
        for (double w : values_of(broken.value())) EXPECT_TRUE(std::isfinite(w)) << opt.describe();
      }
}

TEST(TransformsAheadOfAClip, MayOverflowThemselves) {
  const auto step = [](Nonfinite policy, const Parameter& p) {
    Optimizer opt(list_of(p), chain(centralize({.select = Select()}), clip_by_global_norm(1.0), sgd({.lr = 0.1})),
                  {.nonfinite = policy});
    give_gradient(p, {3e38, -3e38, -3e38, -3e38});  // the first lies 4.5e38 above the mean
    return opt.step();
  };
  const Parameter p = parameter("p", {1, 2, 3, 4}, DType::f32, {1, 4});
  EXPECT_TRUE(espalier::testing::throws<NonFiniteError>([&] { step(Nonfinite::throw_error, p); }, "are finite",
                                                        "centralize", "or the norm of that", "No weight was changed"));
  EXPECT_EQ(step(Nonfinite::skip_step, p).skipped_by, "nonfinite");
  EXPECT_EQ(values_of(p.value()), (std::vector<double>{1, 2, 3, 4}));
}

TEST(Centralize, SubtractsTheMeanOfTheLiveWeightsOfEachUnit) {
  for (const Shape& shape : shapes)
    for (const DType type : {DType::f64, DType::f32})
      for (const bool masked : {false, true}) {
        const Index n = count(shape);
        const auto unit = static_cast<std::size_t>(n / shape[0]);
        Parameter p = parameter("p", std::vector<double>(static_cast<std::size_t>(n), 1), type, shape);
        if (masked) p.set_mask(every_dead(n, 4, 1));
        auto g = values_of(tensor(numbers(static_cast<std::size_t>(n), 3), type));
        for (double& x : g) x += 0.25;
        const auto got = transformed(p, g, centralize());
        for (std::size_t u = 0; u < g.size(); u += unit) {
          double sum = 0, live = 0;
          for (std::size_t i = u; i < u + unit; ++i)
            if (is_live(p, i)) sum += g[i], ++live;
          for (std::size_t i = u; i < u + unit; ++i) {
            ASSERT_NEAR(got[i], is_live(p, i) ? g[i] - sum / live : 0, type == DType::f32 ? 1e-6 : 1e-13) << shape;
            ASSERT_TRUE(is_live(p, i) || !std::signbit(got[i]));
          }
        }
      }
}

TEST(Centralize, LeavesVectorsAloneUnlessTheyAreSelected) {
  EXPECT_EQ(transformed({1, 2, 6}, centralize()), (std::vector<double>{1, 2, 6}));
  EXPECT_EQ(transformed({1, 2, 6}, centralize({.select = Select()})), (std::vector<double>{-2, -1, 3}));
}

TEST(Normalize, DividesByTheNorm) {
  const auto g = numbers(60, 4);
  for (const Over over : {Over::everything, Over::tensor}) {
    const auto got = transformed(g, normalize({.over = over}), {6, 10});
    for (std::size_t i = 0; i < 60; ++i) EXPECT_NEAR(got[i], g[i] / norm({g}), 1e-15);
  }
  const auto rows = transformed({3, 4, 0, 0, 0, -2}, normalize({.over = Over::unit}), {3, 2});
  EXPECT_NEAR(distance(rows, {0.6, 0.8, 0, 0, 0, -1}), 0, 1e-15);
  for (const Over over : {Over::everything, Over::tensor, Over::unit})
    EXPECT_EQ(transformed({0, 0}, normalize({.over = over})), (std::vector<double>{0, 0}));
  EXPECT_NEAR(transformed({3e200, 4e200}, normalize())[0], 0.6, 1e-15);
  EXPECT_NEAR(transformed({3e-200, 4e-200}, normalize())[1], 0.8, 1e-15);
}

TEST(Normalize, TakesTheNormOfAllOrOfEachTensor) {
  for (const Over over : {Over::everything, Over::tensor}) {
    const Parameter a = parameter("a", {1}, DType::f64), b = parameter("b", {1}, DType::f32);
    give_gradient(a, {3});
    give_gradient(b, {4});
    apply_to_gradients({{"a", a.ref()}, {"b", b.ref()}}, normalize({.over = over}));
    EXPECT_NEAR(values_of(a.grad())[0], over == Over::tensor ? 1 : 0.6, 1e-15);
    EXPECT_NEAR(values_of(b.grad())[0], over == Over::tensor ? 1 : 0.8, 1e-7);
  }
}

TEST(Sign, AndScale) {
  EXPECT_EQ(transformed({-3, 0, 1e-300}, sign()), (std::vector<double>{-1, 0, 1}));
  EXPECT_EQ(transformed({-3, 0, 2}, chain(scale(-2.0), scale([](std::int64_t) { return 0.5; }))),
            (std::vector<double>{3, 0, -2}));
}

TEST(AddNoise, IsGaussianWithAVarianceThatFades) {
  constexpr std::size_t n = 100000;
  const Parameter p = parameter("p", std::vector<double>(n, 1), DType::f32);
  for (const std::int64_t step : {0, 1, 99}) {
    const auto g = transformed(p, std::vector<double>(n, 2.0), add_noise({.eta = 0.3}), step);
    double sum = 0, squares = 0;
    for (double x : g) sum += x - 2, squares += (x - 2) * (x - 2);
    const double variance = 0.3 / std::pow(1 + static_cast<double>(step), 0.55);
    EXPECT_NEAR(sum / n, 0, 5 * std::sqrt(variance / n));
    EXPECT_NEAR(squares / n, variance, 5 * variance * std::sqrt(2.0 / n));
  }
  const auto g = numbers(100, 1);
  EXPECT_EQ(transformed(g, add_noise({.eta = 0.0})), g);
}

TEST(AddNoise, DependsOnSeedStepParameterAndIndexAlone) {
  const auto zeros = std::vector<double>(9000, 0);
  const Chain noise = add_noise({.eta = 1.0, .gamma = 0, .seed = 5});
  const Parameter p = parameter("p", zeros, DType::f64, {3, 3000});
  const auto plain = transformed(p, zeros, noise);
  std::vector<double> direct(9000);
  kernels::random_normal<double>().fill({5 ^ 0x6772616469656e74u, 0, 0}, 0, direct.data(), 9000);
  EXPECT_EQ(plain, direct);
  // Behind a unit's measure, blocks begin elsewhere; behind a norm, the block is run twice.
  EXPECT_EQ(transformed(p, zeros, chain(normalize({.over = Over::unit}), noise)), plain);
  const auto replayed = transformed(p, zeros, chain(noise, normalize()));
  for (std::size_t i = 0; i < 9000; ++i) ASSERT_NEAR(replayed[i], plain[i] / norm({plain}), 1e-15);
  EXPECT_NE(transformed(p, zeros, noise, 1)[0], plain[0]);
  EXPECT_NE(transformed(p, zeros, add_noise({.eta = 1.0, .gamma = 0, .seed = 6}))[0], plain[0]);

  p.ref()->set_mask(every_dead(9000, 5));
  const auto masked = transformed(p, zeros, noise);
  for (std::size_t i = 0; i < 9000; ++i) ASSERT_EQ(masked[i], i % 5 == 0 ? 0 : plain[i]);

  const Parameter other = parameter("q", zeros, DType::f64, {9000});
  give_gradient(p, zeros);
  give_gradient(other, zeros);
  apply_to_gradients({{"p", p.ref()}, {"q", other.ref()}}, noise);
  EXPECT_EQ(values_of(p.grad()), masked);
  EXPECT_NE(values_of(other.grad())[1], plain[1]);
}

TEST(SkipLarge, SkipsStepsWhoseNormIsTooLargeOrUnknown) {
  const Parameter p = parameter("p", {1, 1}, DType::f64);
  const auto make = [&](Nonfinite policy) {
    return Optimizer({{"p", p.ref()}}, chain(skip_large(5.0), adam({.lr = 0.1})), {.nonfinite = policy});
  };
  Optimizer opt = make(Nonfinite::throw_error);
  give_gradient(p, {3, 4});
  EXPECT_FALSE(opt.step().skipped);
  const auto before = values_of(p);
  give_gradient(p, {3, 4.001});
  const StepReport report = opt.step();
  EXPECT_TRUE(report.skipped);
  EXPECT_EQ(report.skipped_by, "skip_large");
  EXPECT_EQ(values_of(p), before);
  EXPECT_EQ(opt.steps(), 1);
  Optimizer careless = make(Nonfinite::propagate);
  give_gradient(p, {std::numeric_limits<double>::quiet_NaN(), 1});
  EXPECT_TRUE(careless.step().skipped);
  EXPECT_EQ(values_of(p), before);
  EXPECT_THROW(Optimizer({{"p", p.ref()}}, chain(adam(), skip_large(5.0))), ConfigError);
}

TEST(WeightDecay, StandsAloneOrJoinsTheGradient) {
  for (const bool behind : {false, true}) {
    const Parameter w = parameter("w", {4, -2, 0, 1}, DType::f64, {2, 2}), b = parameter("b", {4}, DType::f64);
    w.ref()->set_mask(every_dead(4, 4, 3));
    const Chain decay = weight_decay(0.25), rule = sgd({.lr = 0.5, .momentum = 0.9});
    Optimizer opt({{"w", w.ref()}, {"b", b.ref()}}, behind ? chain(rule, decay) : chain(decay, rule));
    give_gradient(w, {1, 1, 1, 1});
    give_gradient(b, {1});
    opt.step();
    EXPECT_EQ(values_of(w), (std::vector<double>{2.5, -2, -0.5, 0}));
    EXPECT_EQ(values_of(b), (std::vector<double>{3.5}));
    EXPECT_EQ(values_of(opt.state("sgd", "momentum", 0)), (std::vector<double>{1, 1, 1, 0}));  // it did not see it
  }
  const Parameter v = parameter("v", {4, 2}, DType::f64);
  EXPECT_EQ(transformed(v, {1, 1}, weight_decay(0.5, {.how = Decay::coupled, .select = Select()})),
            (std::vector<double>{3, 2}));
  EXPECT_EQ(transformed(v, {1, 1}, weight_decay(0.5, {.how = Decay::coupled})), (std::vector<double>{1, 1}));
}

TEST(WeightDecay, WithARateTimesDecayIsAdamw) {
  const auto run = [](const Chain& chain) {
    const Parameter p = parameter("p", numbers(30, 1), DType::f64, {5, 6});
    Optimizer opt({{"p", p.ref()}}, chain);
    for (unsigned t = 0; t < 4; ++t) {
      give_gradient(p, numbers(30, 10 + t));
      opt.step();
    }
    return values_of(p);
  };
  EXPECT_EQ(run(chain(weight_decay(0.1 * 0.01), adam({.lr = 0.1}))), run(adamw({.lr = 0.1, .weight_decay = 0.01})));
}

TEST(TrustRatio, ScalesEachTensorByItsNorms) {
  const Parameter w = parameter("w", {3, 4, 100}, DType::f64);
  w.ref()->set_mask(every_dead(3, 3, 2));
  EXPECT_EQ(transformed(w, {0, 2, 50}, trust_ratio({.trust = 0.5})), (std::vector<double>{0, 2.5, 0}));
  EXPECT_EQ(transformed(w, {0, 2, 50}, trust_ratio({.max_weight_norm = 3.0})), (std::vector<double>{0, 3, 0}));
  EXPECT_EQ(transformed(w, {0, 2, 50}, trust_ratio({.min_weight_norm = 8.0})), (std::vector<double>{0, 8, 0}));
  EXPECT_EQ(transformed(w, {0, 0, 0}, trust_ratio()), (std::vector<double>{0, 0, 0}));
  const Parameter zero = parameter("z", {0, 0}, DType::f64);
  EXPECT_EQ(transformed(zero, {3, 4}, trust_ratio({.trust = 0.5, .min_weight_norm = 1.0})),
            (std::vector<double>{3, 4}));
  const Parameter rows = parameter("r", {3, 4, 0, 1}, DType::f64, {2, 2});
  EXPECT_EQ(transformed(rows, {0, 1, 0, 4}, trust_ratio({.over = Over::unit})), (std::vector<double>{0, 5, 0, 1}));
}

TEST(TrustRatio, BehindAnOptimizerCancelsItsRate) {
  for (const double lr : {1.0, 0.125}) {
    const Parameter p = parameter("p", numbers(5000, 1), DType::f64, {5, 1000});
    const auto before = values_of(p);
    Optimizer opt({{"p", p.ref()}}, chain(adam({.lr = lr}), trust_ratio(), scale(0.01)));
    give_gradient(p, numbers(5000, 2));
    opt.step();
    EXPECT_NEAR(distance(values_of(p), before), 0.01 * norm({before}), 1e-12);
  }
}

Chain everything() {
  return chain(skip_large(1e6), centralize(), add_noise({.eta = 0.01}), normalize({.over = Over::unit}), scale(0.1),
               weight_decay(0.01), adam({.lr = 0.01}), centralize(), trust_ratio({.trust = 0.01}));
}

TEST(GradientTransforms, AreTheSameBytesAtAnyThreadCountAndAfterAResume) {
  std::vector<std::vector<double>> results;
  for (const int threads : {1, 2, 4}) {
    const Threads limit(threads);
    Parameter a = parameter("a", numbers(200000, 1), DType::f32, {1000, 200});
    Parameter b = parameter("b", numbers(60000, 2), DType::f64, {6, 10000});
    a.set_mask(every_dead(a.size()));
    const ParameterList list = {{"a", a.ref()}, {"b", b.ref()}};
    auto opt = std::make_unique<Optimizer>(list, everything());
    for (unsigned t = 0; t < 4; ++t) {
      give_gradient(a, numbers(200000, 10 + t));
      give_gradient(b, numbers(60000, 20 + t));
      opt->step();
      if (threads != 2 || t != 1) continue;
      const OptimizerState state = opt->state();
      opt = std::make_unique<Optimizer>(list, everything());
      opt->load_state(state);
    }
    results.push_back(values_of(a));
    for (double x : values_of(b)) results.back().push_back(x);
    for (Index i = 0; i < a.size(); i += 3) ASSERT_EQ(results.back()[static_cast<std::size_t>(i)], 0);
    for (double m : {values_of(opt->state("adam", "m", 0))[0], values_of(opt->state("adam", "v", 0))[0]})
      EXPECT_EQ(m, 0);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(GradientTransforms, SayWhatTheyAre) {
  const Parameter p = parameter("p", numbers(6, 1), DType::f64, {2, 3});
  EXPECT_EQ(
      Optimizer({{"p", p.ref()}}, everything()).describe(),
      "sweep 1: finite check > mask > measure skip_large\n"
      "sweep 2: mask > skip_large(bound 1e+06) > centralize > add_noise(eta 0.01, gamma 0.55, seed 0) > "
      "normalize(over units) > scale(factor 0.1) > weight_decay(rate 0.01, decoupled) > adam > centralize.2 > measure "
      "trust_ratio > store\n"
      "sweep 3: mask > trust_ratio(trust 0.01, weight norm: min 0, max inf, over tensors) > apply > mask\n");
}

}  // namespace
}  // namespace espalier::optim
