// Scores from gradients, and what gather() collects for them, on losses whose gradients are known.
#include "espalier/prune/scores_gradient.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/parallel.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/pruner.h"

namespace espalier::prune {
namespace {

std::vector<double> vec(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }

/// L_b = sum c_b w: its gradient is c_b.
struct LinearLoss {
  Parameter w{Tensor::from<double>({2, -1, 0.5, 4, 0, -3}, {2, 3}), "w"};
  std::vector<Tensor> c = {Tensor::from<double>({1, 2, 3, 4, 5, 6}, {2, 3}),
                           Tensor::from<double>({-1, 0, 1, 2, 3, -4}, {2, 3})};
  Gathered gather(const Score& score, Index batches = 2) const {
    return prune::gather(
        list_of(w), [this](Index b) { return sum(w * c[static_cast<std::size_t>(b)]); }, batches, score.needs());
  }
  std::vector<double> scores(const Score& score, Index batches = 2) const {
    const Gathered g = gather(score, batches);
    return vec(score({"w", w.ref()}, g.of(*w.ref())));
  }
};

TEST(ScoresGradient, TaylorIsWeightTimesMeanGradient) {
  const LinearLoss loss;
  EXPECT_EQ(loss.scores(taylor()), (std::vector<double>{0, 1, 1, 12, 0, 3}));  // means 0 1 2 3 4 1
  EXPECT_EQ(loss.scores(taylor({.p = 2})), (std::vector<double>{0, 1, 1, 144, 0, 9}));
  EXPECT_EQ(loss.scores(taylor({.p = 2}), 1), (std::vector<double>{4, 4, 2.25, 256, 0, 324}));
  EXPECT_THROW(taylor({.p = -1}), ConfigError);
  EXPECT_FALSE(loss.w.ref()->has_grad());  // the parameter's own gradient is left alone
}

TEST(ScoresGradient, TaylorTakesTheRawGradientWhereNothingWasGathered) {
  const LinearLoss loss;
  {
    Tape tape;
    tape.backward(sum(loss.w * loss.c[0]));
  }
  Pruner pruner(list_of(loss.w), {.score = taylor()});
  pruner.prune_count(3);  // |w g| = 2 2 1.5 16 0 18; of equals the lower goes first
  EXPECT_EQ(loss.w.mask().words()[0], 0b101010u);
}

TEST(ScoresGradient, TaylorUnitsAverageOverBatches) {
  const LinearLoss loss;
  // Sums over units of w g: 2 - 2 + 1.5, 16 + 0 - 18; -2 + 0 + 0.5, 8 + 0 + 12.
  EXPECT_EQ(loss.scores(taylor_units()), (std::vector<double>{(2.25 + 2.25) / 2, (4 + 400) / 2.0}));
}

TEST(ScoresGradient, FisherIsTheMeanOfSquaredGradients) {
  const LinearLoss loss;
  EXPECT_EQ(loss.scores(fisher()),
            (std::vector<double>{4 * 1 / 2.0, 1 * 2 / 2.0, 0.25 * 5 / 2, 16 * 10 / 2.0, 0, 9 * 26 / 2.0}));
}

TEST(ScoresGradient, FisherOfTheNormalLikelihoodIsTheHessian) {
  // -log N(x; w, 1) with one example a batch: the mean squared gradient is mean (w - x)^2, and at the maximum of the
  // likelihood that is the variance of x.
  Rng rng(3);
  const Tensor x = rng.normal({400}, 0, 1, DType::f64);
  double mean = 0, squares = 0;
  for (double v : vec(x)) mean += v / 400;
  for (double v : vec(x)) squares += (v - mean) * (v - mean) / 400;
  const Parameter w(Tensor::full({1}, mean, DType::f64), "w");
  const Gathered g = gather(
      list_of(w), [&](Index b) { return sum(square(w - x.narrow(0, b, 1))) * 0.5; }, 400, fisher().needs());
  EXPECT_NEAR(fisher()({"w", w.ref()}, g.of(*w.ref())).item(), mean * mean * squares / 2, 1e-15);
}

TEST(ScoresGradient, SnipAddsUpToOneOverAllParameters) {
  Rng rng(1);
  for (const DType type : {DType::f32, DType::f64}) {
    const Parameter a(rng.normal({5, 4}, 0, 1, type), "a"), b(rng.normal({3, 5}, 0, 1, type), "b");
    const Tensor x = rng.normal({6, 4}, 0, 1, type);
    const Gathered g = gather(
        list_of(a, b), [&](Index) { return mean(square(linear(tanh(linear(x, a)), b))); }, 1, snip().needs());
    double total = 0;
    for (const ParameterRef& p : {a.ref(), b.ref()})
      for (double s : vec(snip()({"p", p}, g.of(*p)))) total += s;
    EXPECT_NEAR(total, 1, 1e-14);
  }
}

TEST(ScoresGradient, AParameterListedTwiceCountsOnce) {
  const Parameter w(Tensor::from<double>({1, 2}), "w");
  const ParameterList twice = {{"encoder.weight", w.ref()}, {"decoder.weight", w.ref()}};
  const Gathered g = gather(
      twice, [&](Index) { return sum(square(w)); }, 1, snip().needs());
  EXPECT_EQ(g.of(*w.ref()).total_saliency, 10);  // 1 * 2 + 2 * 4
}

TEST(ScoresGradient, SnipOfNoGradientAtAllIsZero) {
  const Parameter w(Tensor::ones({2, 2}), "w");
  const Gathered g = gather(
      list_of(w), [&](Index) { return sum(w * 0.0); }, 1, snip().needs());
  EXPECT_EQ(vec(snip()({"w", w.ref()}, g.of(*w.ref()))), std::vector<double>(4, 0));
}

TEST(ScoresGradient, TaylorActivationLooksBehindTheActivation) {
  const Parameter w(Tensor::from<double>({1, 0, 0, 1, -1, -1}, {3, 2}), "w");
  const Tensor x = Tensor::from<double>({1, 2, 3, -1}, {2, 2});  // h = relu: 1 2 0; 3 0 0
  const Tensor c = Tensor::from<double>({5, -7, 2}, {3});        // dL/dh
  for (const bool fused : {false, true}) {
    const Gathered g = gather(
        list_of(w), [&](Index) { return sum((fused ? linear(x, w, {}, Activation::relu) : relu(linear(x, w))) * c); },
        1, taylor_activation().needs());
    EXPECT_EQ(vec(taylor_activation()({"w", w.ref()}, g.of(*w.ref()))), (std::vector<double>{10, 7, 0}));
  }
}

TEST(ScoresGradient, PrunedWeightsScoreZeroInHardModeAndComeBackInSoftMode) {
  for (const MaskMode mode : {MaskMode::hard, MaskMode::soft}) {
    const LinearLoss loss;
    Mask mask(6);
    mask.set(3, false);
    Parameter w = loss.w;
    w.set_mask(mask, mode);
    const Gathered g = gather(
        list_of(w), [&](Index) { return sum(w * loss.c[0]); }, 1, taylor().needs());
    EXPECT_EQ(vec(taylor()({"w", w.ref()}, g.of(*w.ref())))[3], mode == MaskMode::hard ? 0 : 16);
  }
}

TEST(ScoresGradient, OfParametersOfUnlikeTypeAndOfNone) {
  const Parameter a(Tensor::from<float>({1, 2}), "a"), b(Tensor::from<double>({3}), "b"),
      none(Tensor::zeros({0, 4}), "n");
  const Gathered g = gather(
      list_of(a, b, none), [&](Index) { return sum(b * 2.0); }, 1, taylor().needs());
  EXPECT_EQ(vec(taylor()({"b", b.ref()}, g.of(*b.ref()))), (std::vector<double>{6}));
  EXPECT_THROW(taylor()({"a", a.ref()}, g.of(*a.ref())), ConfigError);  // the loss does not depend on it
  const Gathered empty = gather(
      list_of(none), [&](Index) { return sum(none); }, 1, taylor().needs());
  EXPECT_EQ(taylor()({"n", none.ref()}, empty.of(*none.ref())).size(), 0);
}

TEST(ScoresGradient, AFrozenParameterIsGatheredLikeAnyOther) {
  LinearLoss loss;
  const auto free = loss.scores(taylor());
  loss.w.freeze();
  EXPECT_EQ(loss.scores(taylor()), free);
  EXPECT_TRUE(loss.w.frozen());
}

TEST(ScoresGradient, ThePrunerGathersByItself) {
  const LinearLoss loss;
  Pruner pruner(list_of(loss.w), {.score = fisher(),
                                  .loss = [&](Index b) { return sum(loss.w * loss.c[static_cast<std::size_t>(b)]); },
                                  .batches = 2});
  pruner.prune_count(3);  // 2 1 0.6 80 0 117
  EXPECT_EQ(loss.w.mask().words()[0], 0b101001u);
}

TEST(ScoresGradient, AnAttachedPrunerGathersAnewBeforeEachStepThatIsDue) {
  const Parameter w(Tensor::from<double>({1, 2, 3, 4}), "w");
  const Tensor c[] = {Tensor::from<double>({9, 9, 0.1, 9}), Tensor::from<double>({9, 0.1, 9, 9})};
  Index asked = 0;
  Pruner pruner(list_of(w),
                {.score = taylor(),
                 .schedule = polynomial(
                     {.final_sparsity = 0.5, .initial_sparsity = 0.25, .begin = 1, .end = 3, .every = 2, .power = 1}),
                 .select = optim::Select(),
                 .loss = [&](Index) { return sum(w * c[static_cast<std::size_t>(asked++)]); }});
  optim::Optimizer opt(list_of(w), optim::sgd({.lr = 1e-3}));
  opt.attach(pruner);
  for (int k = 0; k < 4; ++k) {
    Tape tape;
    tape.backward(sum(w));
    const Tensor gradient = w.grad().clone();
    EXPECT_TRUE(equal(gradient, Tensor::ones({4}, DType::f64)));  // not touched by what was gathered
    opt.step();
    EXPECT_EQ(asked, k == 0 ? 0 : k < 3 ? 1 : 2);
  }
  EXPECT_EQ(w.mask().words()[0], 0b1001u);
}

TEST(ScoresGradient, NaNIsAnErrorThatNamesTheParameter) {
  const LinearLoss loss;
  Tensor c = loss.c[0].clone();
  c.write<double>("test")[2] = std::numeric_limits<double>::quiet_NaN();
  for (const Score& score : {taylor(), fisher(), snip()}) {
    Pruner pruner(list_of(loss.w), {.score = score, .loss = [&](Index) { return sum(loss.w * c); }});
    try {
      pruner.to_sparsity(0.5);
      FAIL() << score.name();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("'w'"), std::string::npos) << error.what();
    }
    EXPECT_FALSE(loss.w.mask().defined());
  }
}

TEST(ScoresGradient, TheSameBytesAtAnyThreadCount) {
  Rng rng(4);
  const Parameter a(rng.normal({120, 90}), "a"), b(rng.normal({70, 120}), "b");
  const Tensor x = rng.normal({150, 90});
  auto run = [&](int threads) {
    ThreadLimit limit(threads);
    const Needs needs{.gradient = true,
                      .squared_gradient = true,
                      .unit_saliency = true,
                      .total_saliency = true,
                      .inputs = true,
                      .gram = true,
                      .outputs = true,
                      .output_saliency = true};
    const Gathered g = gather(
        list_of(a, b), [&](Index k) { return mean(square(linear(relu(linear(x * (k == 0 ? 1.0 : -2.0), a)), b))); }, 2,
        needs);
    std::vector<Tensor> all;
    for (const ParameterRef& p : {a.ref(), b.ref()}) {
      const Statistics& s = g.of(*p);
      for (const Tensor& t : {s.gradient.to(DType::f64), s.squared_gradient, s.unit_saliency, s.input_sum,
                              s.input_squares, s.gram, s.output_mean, s.output_zeros, s.output_saliency})
        all.push_back(t);
      all.push_back(Tensor::scalar(s.total_saliency, DType::f64));
    }
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
