// Losses against their formulas where the golden cases do not reach; gradients by differences.
#include "espalier/nn/loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>

#include "espalier/autograd/gradcheck.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"
#include "tests/support.h"

namespace espalier::nn {
namespace {

using testing::same_bytes;
using testing::throws;

Tensor doubles(std::vector<double> values, const Shape& shape) { return Tensor::from(values, shape); }
Tensor random(const Shape& shape, std::uint64_t seed, double low = -2, double high = 2) {
  return Rng(seed).uniform(shape, low, high, DType::f64);
}
Tensor signs() { return doubles({1, -1, -1, 1, 1, -1}, {6}); }
Tensor labels() { return Tensor::from<Index>({0, 3, 1}); }

struct Loss {
  const char* name;
  std::function<Variable(std::span<const Variable>)> call;
  std::vector<Tensor> inputs;
};

TEST(Losses, GradientsOfAllAgreeWithDifferencesTwice) {
  constexpr Reduction mean = Reduction::mean;
  const Tensor x = random({6}, 1), t = random({6}, 2), p = random({6}, 3, 0.1, 0.9);
  const Tensor a = random({3, 4}, 4), b = random({3, 4}, 5), c = random({3, 4}, 6), soft = random({3, 4}, 7, 0.1, 0.9);
  using V = std::span<const Variable>;
  const std::vector<Loss> losses = {
      {"cross_entropy",
       [](V v) { return cross_entropy(v[0], labels(), {.ignore_index = 1, .label_smoothing = 0.2}); },
       {a}},
      {"cross_entropy of probabilities",
       [](V v) { return cross_entropy(v[0], v[1], {.label_smoothing = 0.1}); },
       {a, soft}},
      {"cross_entropy of [N, C, d]",
       [](V v) {
         return cross_entropy(v[0], Tensor::from<Index>({1, 0, 0, 1, 1, 0}, {2, 3}));
       },
       {random({2, 2, 3}, 8)}},
      {"nll_loss", [](V v) { return nll_loss(v[0], labels()); }, {a}},
      {"multi_margin_loss", [](V v) { return multi_margin_loss(v[0], labels()); }, {a}},
      {"multi_margin_loss, p = 2",
       [](V v) {
         return multi_margin_loss(v[0], labels(), {.p = 2, .weight = doubles({1, 2, 3, 4}, {4})});
       },
       {a}},
      {"huber_loss", [](V v) { return huber_loss(v[0], v[1], {.delta = 0.7}); }, {x, t}},
      {"smooth_l1_loss", [](V v) { return smooth_l1_loss(v[0], v[1], {.beta = 0.7}); }, {x, t}},
      {"poisson_nll_loss", [](V v) { return poisson_nll_loss(v[0], v[1]); }, {x, p}},
      {"poisson_nll_loss of rates", [](V v) { return poisson_nll_loss(v[0], v[1], {.log_input = false}); }, {p, x}},
      {"gaussian_nll_loss", [](V v) { return gaussian_nll_loss(v[0], v[1], v[2], {.full = true}); }, {x, t, p}},
      {"binary_cross_entropy", [](V v) { return binary_cross_entropy(v[0], v[1]); }, {p, random({6}, 9, 0.1, 0.9)}},
      {"with logits and weights",
       [](V v) {
         return binary_cross_entropy_with_logits(
             v[0], v[1], {.weight = Tensor::full({}, 0.5, DType::f64), .pos_weight = Tensor::full({6}, 3, DType::f64)});
       },
       {x, p}},
      {"multilabel_soft_margin_loss", [](V v) { return multilabel_soft_margin_loss(v[0], v[1]); }, {a, soft}},
      {"kl_div", [](V v) { return kl_div(v[0], v[1], {.reduction = Reduction::batch_mean}); }, {a, soft}},
      {"kl_div of logarithms", [](V v) { return kl_div(v[0], v[1], {.log_target = true}); }, {a, b}},
      {"margin_ranking_loss", [](V v) { return margin_ranking_loss(v[0], v[1], signs(), {.margin = 0.3}); }, {x, t}},
      {"hinge_embedding_loss", [](V v) { return hinge_embedding_loss(v[0], signs()); }, {x}},
      {"cosine_embedding_loss",
       [](V v) {
         return cosine_embedding_loss(v[0], v[1], doubles({1, -1, 1}, {3}), {.margin = -0.9});
       },
       {a, b}},
      {"soft_margin_loss", [](V v) { return soft_margin_loss(v[0], signs()); }, {x}},
      {"triplet_margin_loss", [](V v) { return triplet_margin_loss(v[0], v[1], v[2], {.margin = 5}); }, {a, b, c}},
      {"triplet_margin_loss, p = 3, swapped",
       [](V v) { return triplet_margin_loss(v[0], v[1], v[2], {.margin = 5, .p = 3, .swap = true}); },
       {a, b, c}},
      {"triplet_margin_loss, p = 1",
       [](V v) { return triplet_margin_loss(v[0], v[1], v[2], {.margin = 5, .p = 1}); },
       {a, b, c}},
      {"l1_loss", [](V v) { return l1_loss(v[0], v[1], {.reduction = mean}); }, {x, t}},
  };
  for (const Loss& loss : losses) {
    const GradcheckResult once = gradcheck(loss.call, loss.inputs, {.atol = 1e-7, .rtol = 1e-6});
    EXPECT_TRUE(once) << loss.name << ": " << once.message;
    const GradcheckResult twice = gradgradcheck(loss.call, loss.inputs, {.atol = 1e-6, .rtol = 1e-5});
    EXPECT_TRUE(twice) << loss.name << ": " << twice.message;
    const std::vector<Variable> plain(loss.inputs.begin(), loss.inputs.end());
    EXPECT_EQ(loss.call(plain).shape(), Shape{}) << loss.name;
  }
}

TEST(Losses, ValuesOfThoseWithoutGoldenCases) {
  const Tensor x = doubles({0.5, -1, 2}, {3}), t = doubles({1, -1, -1}, {3});
  double expected = 0;
  for (double z : {0.5, 1., -2.}) expected += std::log1p(std::exp(-z)) / 3;
  EXPECT_NEAR(soft_margin_loss(x, t).item(), expected, 1e-15);
  EXPECT_NEAR(multi_margin_loss(doubles({0.1, 0.2, 0.4, 0.8}, {1, 4}), Tensor::from<Index>({3})).item(),
              (0.3 + 0.4 + 0.6) / 4, 1e-15);  // the example of PyTorch's page
  const Tensor a = doubles({1, 0, 3, 4}, {2, 2}), b = doubles({1, 1, 3, 4}, {2, 2});
  const Tensor cosine =
      cosine_embedding_loss(a, b, doubles({1, -1}, {2}), {.margin = 0.25, .reduction = Reduction::none}).value();
  EXPECT_NEAR(cosine.at({0}), 1 - 1 / std::sqrt(2.), 1e-11);
  EXPECT_NEAR(cosine.at({1}), 0.75, 1e-11);
  EXPECT_NEAR(multilabel_soft_margin_loss(x.reshape({1, 3}), doubles({1, 0, 1}, {1, 3})).item(),
              (std::log1p(std::exp(-0.5)) + std::log1p(std::exp(-1.)) + std::log1p(std::exp(-2.))) / 3, 1e-15);
  EXPECT_NEAR(poisson_nll_loss(doubles({2}, {1}), doubles({5}, {1}), {.log_input = false, .full = true}).item(),
              2 - 5 * std::log(2 + 1e-8) + 5 * std::log(5.) - 5 + std::log(2 * M_PI * 5) / 2, 1e-14);
}

TEST(Losses, KlDivOfCertaintyIsFinite) {
  for (DType type : {DType::f32, DType::f64}) {
    Tape tape;
    const Variable x = tape.watch(doubles({-1, -2}, {2}).to(type));
    const Variable loss = kl_div(x, doubles({1, 0}, {2}).to(type), {.reduction = Reduction::sum});
    EXPECT_EQ(loss.item(), 1);
    EXPECT_EQ(tape.gradient(loss, {x})[0].value().at({1}), 0);
  }
}

TEST(Losses, KlDivOfANegativeTargetIsNotANumber) {
  for (DType type : {DType::f32, DType::f64}) {
    Tape tape;
    const Variable x = tape.watch(doubles({0, 0, 0}, {3}).to(type)),
                   t = tape.watch(doubles({-0.5, 0, 0.5}, {3}).to(type));
    const Variable losses = kl_div(x, t, {.reduction = Reduction::none});
    const auto g = tape.gradient(sum(losses), {x, t});
    EXPECT_TRUE(std::isnan(losses.value().at({0})));
    EXPECT_EQ(losses.value().at({1}), 0);
    EXPECT_NEAR(losses.value().at({2}), 0.5 * std::log(0.5), 1e-7);
    EXPECT_EQ(g[0].value().to(DType::f64).to_vector<double>(), (std::vector<double>{0.5, 0, -0.5}));
    EXPECT_TRUE(std::isnan(g[1].value().at({0})));
    EXPECT_TRUE(std::isnan(g[1].value().at({1}))) << "as PyTorch's: the slope of t log t is infinite there";
    EXPECT_NEAR(g[1].value().at({2}), std::log(0.5) + 1, 1e-7);
  }
}

TEST(Losses, GaussianNllTakesOneVarianceForEachSample) {
  const Tensor x = random({2, 2}, 12), t = random({2, 2}, 13), each = doubles({1, 2}, {2});
  const Tensor square_case = gaussian_nll_loss(x, t, each, {.reduction = Reduction::none}).value();
  const Tensor column = gaussian_nll_loss(x, t, each.reshape({2, 1}), {.reduction = Reduction::none}).value();
  EXPECT_TRUE(same_bytes(square_case, column)) << "of a square x, too";
  EXPECT_NO_THROW(gaussian_nll_loss(random({3, 2}, 14), random({3, 2}, 15), doubles({1, 2, 3}, {3})));
}

TEST(Losses, ConfidentLogitsLoseNoDigits) {
  const double small = std::log1p(std::exp(-15.));
  const Tensor x = Tensor::from({15.f, -15.f, 15.f}), t = Tensor::from({1.f, 0.f, 0.f});
  const Tensor losses = binary_cross_entropy_with_logits(x, t, {.reduction = Reduction::none}).value();
  EXPECT_NEAR(losses.at({0}), small, 1e-6 * small);
  EXPECT_NEAR(losses.at({1}), small, 1e-6 * small);
  EXPECT_NEAR(losses.at({2}), 15 + small, 2e-6);
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor far = binary_cross_entropy_with_logits(doubles({inf, inf, -inf}, {3}), doubles({0, 0.5, 1}, {3}),
                                                      {.reduction = Reduction::none})
                         .value();
  EXPECT_EQ(far.to_vector<double>(), (std::vector<double>{inf, inf, inf}));
}

TEST(Losses, TripletGradientsAreZeroAtDistanceZero) {
  for (double p : {1., 2., 3.}) {
    Tape tape;
    const Variable anchor = tape.watch(doubles({1, 2, 3, 4}, {2, 2})), same = tape.watch(doubles({1, 2, 3, 5}, {2, 2}));
    const Variable loss =
        triplet_margin_loss(anchor, same, doubles({1, 2.5, 3, 9}, {2, 2}), {.margin = 9, .p = p, .eps = 0});
    const Tensor g = tape.gradient(loss, {same})[0].value();
    EXPECT_EQ(g.to_vector<double>(), (std::vector<double>{0, 0, 0, 0.5})) << p;
  }
}

TEST(Losses, TheBranchNotTakenSendsNothing) {
  const double inf = std::numeric_limits<double>::infinity();
  Tape tape;
  const Variable x = tape.watch(doubles({-inf, inf, 0.25}, {3}));
  const Variable losses =
      hinge_embedding_loss(x, doubles({1, -1, -1}, {3}), {.margin = 1, .reduction = Reduction::none});
  EXPECT_EQ(losses.value().to_vector<double>(), (std::vector<double>{-inf, 0, 0.75}));
  EXPECT_EQ(tape.gradient(sum(losses), {x})[0].value().to_vector<double>(), (std::vector<double>{1, 0, -1}));
  const Variable own = multi_margin_loss(doubles({inf, 0}, {1, 2}), Tensor::from<Index>({0}));
  EXPECT_EQ(own.item(), 0);
}

TEST(CrossEntropy, OneSampleNeedsNoBatchAxis) {
  const Tensor x = random({4}, 16), label = Tensor::from<Index>({2}), row = x.reshape({1, 4});
  const Tensor soft = random({4}, 17, 0.1, 0.9);
  for (Reduction reduction : {Reduction::mean, Reduction::sum, Reduction::none}) {
    const Variable one = cross_entropy(x, label.reshape({}), {.reduction = reduction});
    EXPECT_EQ(one.shape(), Shape{});
    EXPECT_EQ(one.item(), cross_entropy(row, label, {.reduction = reduction}).item());
    EXPECT_EQ(nll_loss(x, label.reshape({}), {.reduction = reduction}).item(),
              nll_loss(row, label, {.reduction = reduction}).item());
    const Variable of_soft = cross_entropy(x, soft, {.reduction = reduction});
    EXPECT_EQ(of_soft.shape(), Shape{});
    EXPECT_EQ(of_soft.item(), cross_entropy(row, soft.reshape({1, 4}), {.reduction = reduction}).item());
  }
  EXPECT_TRUE(throws<ShapeError>([&] { cross_entropy(x, label); }, "labels [1] for logits [4]; they must be []"));
  EXPECT_TRUE(throws<ShapeError>([] { nll_loss(Tensor::ones({}), Tensor::from<Index>({0}).reshape({})); }, "[C]"));
}

TEST(CrossEntropy, IgnoredRowsMayHoldAnything) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Tape tape;
  const Variable x = tape.watch(doubles({1, 2, nan, nan}, {2, 2}));
  const Variable loss = cross_entropy(x, Tensor::from<Index>({0, -100}));
  EXPECT_NEAR(loss.item(), std::log1p(std::exp(1.)), 1e-15);
  EXPECT_EQ(tape.gradient(loss, {x})[0].value().at({1, 0}), 0);
}

TEST(CrossEntropy, ClassesMayStandOnTheSecondAxis) {
  const Tensor x = random({2, 5, 3, 4}, 11), rows = x.permute({0, 2, 3, 1}).reshape({24, 5});
  std::vector<Index> list;
  for (Index i = 0; i < 24; ++i) list.push_back(i % 5);
  const Tensor y = Tensor::from(list, {2, 3, 4});
  EXPECT_TRUE(same_bytes(cross_entropy(x, y).value(), cross_entropy(rows, y.reshape({24})).value()));
  EXPECT_EQ(cross_entropy(x, y, {.reduction = Reduction::none}).shape(), (Shape{2, 3, 4}));
}

TEST(CrossEntropy, EmptyBatches) {
  const Tensor none = Tensor::zeros({0, 3}), labels_of_none = Tensor::zeros({0}, DType::i64);
  EXPECT_TRUE(std::isnan(cross_entropy(none, labels_of_none).item()));
  EXPECT_EQ(cross_entropy(none, labels_of_none, {.reduction = Reduction::sum}).item(), 0);
  EXPECT_EQ(cross_entropy(none, none, {.reduction = Reduction::none}).shape(), (Shape{0}));
}

TEST(Losses, LargeFloatsStayFinite) {
  const Tensor x = Tensor::from({1e4f, -1e4f}), t = Tensor::from({0.f, 1.f});
  EXPECT_EQ(binary_cross_entropy_with_logits(x, t).item(), 1e4);
  EXPECT_EQ(soft_margin_loss(x, Tensor::from({-1.f, 1.f})).item(), 1e4);
}

TEST(Losses, StirlingsPartIsInTheTargetsGradient) {
  const Tensor x = random({6}, 1), t = doubles({0.2, 0.9, 1.5, 2, 3.25, 7}, {6});
  const PoissonNllOptions full{.full = true, .reduction = Reduction::none}, plain{.reduction = Reduction::none};
  Tape tape;
  const Variable target = tape.watch(t);
  const Variable stirling = sub(poisson_nll_loss(x, target, full), poisson_nll_loss(x, target, plain));
  const Tensor slope = tape.gradient(sum(stirling), {target})[0].value();
  for (Index i = 0; i < 6; ++i) {
    const double n = t.at({i});
    const double expected = n > 1 ? n * std::log(n) - n + std::log(2 * std::numbers::pi * n) / 2 : 0;
    EXPECT_NEAR(stirling.value().at({i}), expected, 1e-14);
    EXPECT_NEAR(slope.at({i}), n > 1 ? std::log(n) + 1 / (2 * n) : 0, 1e-14) << n;
  }
}

TEST(Losses, WhatIsNoProbabilityIsAnError) {
  const Tensor t = Tensor::from({1.0, 0.0});
  EXPECT_THROW(binary_cross_entropy(Tensor::from({0.5, -0.1}), t), ConfigError);
  EXPECT_THROW(binary_cross_entropy(Tensor::from({1.1, 0.5}), t), ConfigError);
  EXPECT_EQ(binary_cross_entropy(Tensor::from({1.0, 0.0}), t).item(), 0);
  EXPECT_TRUE(std::isnan(binary_cross_entropy(Tensor::from({0.5, std::nan("")}), t).item()));
}

}  // namespace
}  // namespace espalier::nn
