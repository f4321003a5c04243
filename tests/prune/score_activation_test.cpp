// Inputs and outputs of layers, and the scores that look at them, against plain loops.
#include "espalier/prune/scores_activation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/autograd/ops/patches.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/scores_weight.h"

namespace espalier::prune {
namespace {

std::vector<double> vec(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }
std::vector<double> scores(const Score& score, const Parameter& w, const Loss& loss, Index batches = 1) {
  const Gathered g = gather(list_of(w), loss, batches, score.needs());
  return vec(score({"w", w.ref()}, g.of(*w.ref())));
}

TEST(ScoresActivation, WandaAndItsKinMeasureInputsOfLinear) {
  Rng rng(1);
  for (const DType type : {DType::f32, DType::f64}) {
    const Parameter w(rng.normal({4, 5}, 0, 1, type), "w");
    const Tensor x = rng.normal({2, 6, 5}, 0, 1, type);  // two batches, and x [3, 2, 5] of each
    const std::vector<double> v = vec(x), weights = vec(w.value());
    const Loss run = [&](Index b) { return linear(x.select(0, b).reshape({3, 2, 5}), w); };
    const auto wanda_scores = scores(wanda(), w, run, 2), weighted = scores(activation_weighted(), w, run, 2),
               units = scores(activation_weighted({.units = true}), w, run, 2);
    for (std::size_t i = 0; i < 5; ++i) {
      double squares = 0, sum = 0, unit = 0;
      for (std::size_t r = 0; r < 12; ++r) squares += v[r * 5 + i] * v[r * 5 + i], sum += std::abs(v[r * 5 + i]);
      for (std::size_t o = 0; o < 4; ++o) {
        EXPECT_NEAR(wanda_scores[o * 5 + i], std::abs(weights[o * 5 + i]) * std::sqrt(squares), 1e-13);
        EXPECT_NEAR(weighted[o * 5 + i], std::abs(weights[o * 5 + i]) * sum, 1e-13);
        unit += std::abs(weights[o * 5 + i]) * sum;
      }
      EXPECT_NEAR(units[i], unit, 1e-13);
    }
  }
  EXPECT_EQ(activation_weighted({.units = true}).axis(), 1);
}

TEST(ScoresActivation, ColumnsOfAConvolutionAreItsPatches) {
  Rng rng(2);
  const Tensor x = rng.normal({3, 4, 7, 6}, 0, 1, DType::f64);
  const Conv2dOptions options{.stride = {2, 1}, .padding = ConvPadding(1, 2), .dilation = {1, 2}};
  const Parameter w(rng.normal({5, 4, 3, 2}, 0, 1, DType::f64), "w");
  const Gathered g =
      gather(list_of(w), [&](Index) { return conv2d(x, w, {}, options); }, 1, {.inputs = true, .gram = true});
  const Statistics& s = g.of(*w.ref());
  const Tensor patches =
      unfold(x, {3, 2}, {.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}}).value();  // [3, 24, L]
  const Index windows = patches.dim(2);
  EXPECT_EQ(s.input_rows, 3 * windows);
  EXPECT_EQ(s.input_squares.shape(), (Shape{1, 4, 3, 2}));
  EXPECT_EQ(s.gram.shape(), (Shape{1, 24, 24}));
  const auto p = vec(patches);
  auto at = [&](Index n, Index c, Index l) { return p[static_cast<std::size_t>((n * 24 + c) * windows + l)]; };
  for (Index c = 0; c < 24; ++c) {
    double sum = 0, squares = 0, product = 0;
    for (Index n = 0; n < 3; ++n)
      for (Index l = 0; l < windows; ++l) {
        sum += std::abs(at(n, c, l));
        squares += at(n, c, l) * at(n, c, l);
        product += at(n, c, l) * at(n, 5, l);
      }
    EXPECT_NEAR(vec(s.input_sum)[static_cast<std::size_t>(c)], sum, 1e-11);
    EXPECT_NEAR(vec(s.input_squares)[static_cast<std::size_t>(c)], squares, 1e-11);
    EXPECT_NEAR(s.gram.at({0, c, 5}), product, 1e-11);
  }
}

TEST(ScoresActivation, GroupsOfAConvolutionHaveColumnsOfTheirOwn) {
  Rng rng(3);
  const Tensor x = rng.normal({2, 4, 5, 5}, 0, 1, DType::f64);
  const Parameter grouped(rng.normal({6, 2, 3, 3}, 0, 1, DType::f64), "grouped");
  const auto got = scores(wanda(), grouped, [&](Index) { return conv2d(x, grouped, {}, {.groups = 2}); });
  for (Index group = 0; group < 2; ++group) {
    const Parameter half(grouped.value().narrow(0, 3 * group, 3).clone(), "half");
    const Tensor part = x.narrow(1, 2 * group, 2).contiguous();
    const auto expected = scores(wanda(), half, [&](Index) { return conv2d(part, half); });
    for (std::size_t k = 0; k < expected.size(); ++k)
      EXPECT_NEAR(got[static_cast<std::size_t>(group) * expected.size() + k], expected[k], 1e-12);
  }
}

TEST(ScoresActivation, SequencesAreImagesOfHeightOne) {
  Rng rng(4);
  const Tensor x = rng.normal({2, 3, 9}, 0, 1, DType::f64);
  const Parameter line(rng.normal({4, 3, 2}, 0, 1, DType::f64), "line");
  const Parameter image(line.value().unsqueeze(2).clone(), "image");
  const Conv1dOptions options{.stride = 2, .padding = 1, .dilation = 3};
  const auto a = scores(wanda(), line, [&](Index) { return conv1d(x, line, {}, options); });
  const auto b = scores(wanda(), image, [&](Index) {
    return conv2d(x.unsqueeze(2), image, {}, {.stride = {1, 2}, .padding = ConvPadding(0, 1), .dilation = {1, 3}});
  });
  EXPECT_EQ(a, b);
  // Without the axis N, and "same" padding of an even kernel, which has one zero more behind than in front.
  const Parameter even(rng.normal({1, 3, 2}, 0, 1, DType::f64), "even");
  const Gathered g = gather(list_of(even), [&](Index) { return conv1d(x.select(0, 0), even, {}, {.padding = "same"}); },
                            1, {.inputs = true});
  EXPECT_EQ(g.of(*even.ref()).input_rows, 9);
  double first = 0;
  for (Index t = 0; t < 9; ++t) first += std::abs(x.at({0, 1, t}));
  EXPECT_NEAR(g.of(*even.ref()).input_sum.at({0, 1, 0}), first, 1e-12);  // all of them
  EXPECT_NEAR(g.of(*even.ref()).input_sum.at({0, 1, 1}), first - std::abs(x.at({0, 1, 0})),
              1e-12);  // all but the first
}

TEST(ScoresActivation, OutputsAreThoseBehindTheActivation) {
  const Parameter w(Tensor::from<double>({1, 0, 0, 1, -1, -1}, {3, 2}), "w");
  const Tensor x = Tensor::from<double>({1, 2, 3, -1, -5, 6, 0, 0}, {4, 2});
  // relu: 1 2 0 | 3 0 0 | 0 6 0 | 0 0 0
  for (const int form : {0, 1}) {
    const Loss run = [&](Index) { return form == 0 ? linear(x, w, {}, Activation::relu) : relu(linear(x, w)); };
    EXPECT_EQ(scores(apoz(), w, run), (std::vector<double>{0.5, 0.5, 0}));
    EXPECT_EQ(scores(mean_activation(), w, run), (std::vector<double>{1, 2, 0}));
  }
  const Loss bare = [&](Index) { return linear(x, w); };
  EXPECT_EQ(scores(mean_activation(), w, bare), (std::vector<double>{-0.25, 1.75, -1.5}));
  // The first activation counts, not what comes behind it.
  const Loss twice = [&](Index) { return sigmoid(relu(linear(x, w))); };
  EXPECT_EQ(scores(mean_activation(), w, twice), (std::vector<double>{1, 2, 0}));
}

TEST(ScoresActivation, OutputsOfAConvolutionAreAveragedOverPixelsBehindItsNormalisation) {
  Rng rng(5);
  const Tensor x = rng.normal({3, 2, 6, 6}, 0, 1, DType::f64);
  const Parameter w(rng.normal({4, 2, 3, 3}, 0, 1, DType::f64), "w"), gamma(rng.normal({4}, 1, 1, DType::f64), "gamma"),
      beta(rng.normal({4}, 0, 1, DType::f64), "beta");
  for (const bool fused : {false, true}) {
    Tensor seen;
    const Loss run = [&](Index) {
      const Variable y = conv2d(x, w);
      const Variable z = fused ? batch_norm(y, gamma, beta, {.relu = true}) : relu(batch_norm(y, gamma, beta));
      seen = z.value();
      return z;
    };
    const auto zeros = scores(apoz(), w, run), means = scores(mean_activation(), w, run);
    for (Index c = 0; c < 4; ++c) {
      const auto values = vec(seen.narrow(1, c, 1).contiguous());
      double sum = 0, zero = 0;
      for (double v : values) sum += v, zero += v == 0;
      EXPECT_NEAR(means[static_cast<std::size_t>(c)], sum / 48, 1e-13);
      EXPECT_NEAR(zeros[static_cast<std::size_t>(c)], 1 - zero / 48, 1e-15);
    }
    const Gathered g = gather(list_of(w), run, 1, norm_scale().needs());
    const auto scale = vec(norm_scale()({"w", w.ref()}, g.of(*w.ref())));
    for (std::size_t c = 0; c < 4; ++c) EXPECT_EQ(scale[c], std::abs(vec(gamma.value())[c]));
  }
}

TEST(ScoresActivation, TheScaleOfANormalisationFurtherAwayIsNotTheLayers) {
  const Parameter w(Tensor::ones({2, 2}), "w"), gamma(Tensor::ones({2}), "gamma");
  const Tensor x = Tensor::from<float>({1, 2, 3, 5}, {2, 2});
  const Gathered g = gather(
      list_of(w), [&](Index) { return layer_norm(relu(linear(x, w)), {2}, gamma); }, 1, norm_scale().needs());
  EXPECT_EQ(g.of(*w.ref()).norm, nullptr);
  EXPECT_THROW(norm_scale()({"w", w.ref()}, g.of(*w.ref())), ConfigError);
}

TEST(ScoresActivation, ATiedWeightSumsOverAllThatReadIt) {
  const Parameter w(Tensor::from<double>({1, 2, 3, 4}, {2, 2}), "w");
  const Tensor x = Tensor::from<double>({1, 2}, {1, 2});  // then w x = (5, 11)
  const Gathered g = gather(
      list_of(w), [&](Index) { return linear(linear(x, w), w); }, 1, wanda().needs());
  EXPECT_EQ(vec(g.of(*w.ref()).input_squares), (std::vector<double>{26, 125}));
  EXPECT_EQ(g.of(*w.ref()).input_rows, 2);
}

TEST(ScoresActivation, MaskedWeightsScoreZeroAndEmptyOnesNothing) {
  Parameter w(Tensor::ones({2, 2}), "w");
  Mask mask(4);
  mask.set(2, false);
  w.set_mask(mask);
  const Tensor x = Tensor::ones({3, 2});
  EXPECT_EQ(scores(wanda(), w, [&](Index) { return linear(x, w); })[2], 0);
  const Parameter no_outputs(Tensor::zeros({0, 2}), "a"), no_inputs(Tensor::zeros({2, 0}), "b");
  EXPECT_TRUE(scores(wanda(), no_outputs, [&](Index) { return linear(x, no_outputs); }).empty());
  EXPECT_TRUE(scores(wanda(), no_inputs, [&](Index) { return linear(Tensor::zeros({3, 0}), no_inputs); }).empty());
  EXPECT_EQ(scores(mean_activation(), no_inputs,
                   [&](Index) {
                     return linear(Tensor::zeros({3, 0}), no_inputs);
                   }),
            std::vector<double>(2, 0));
}

TEST(ScoresActivation, NaNInTheInputsIsAnErrorThatNamesTheParameter) {
  const Parameter w(Tensor::ones({2, 2}), "fc.weight");
  const Tensor x = Tensor::full({3, 2}, std::numeric_limits<double>::quiet_NaN());
  try {
    Pruner(list_of(w), {.score = wanda(), .loss = [&](Index) { return linear(x, w); }}).to_sparsity(0.5);
    FAIL();
  } catch (const NonFiniteError& error) {
    EXPECT_NE(std::string(error.what()).find("fc.weight"), std::string::npos);
  }
}

TEST(ScoresActivation, AUsersOwnScoreIsALambda) {
  // Input-weighted magnitude, as one would write it.
  const Score mine("mine",
                   [](const ParameterState& p, const Statistics& s) {
                     return mul(abs(p.value().to(DType::f64)), sqrt(s.input_squares)).value();
                   },
                   {.inputs = true});
  Rng rng(1);
  const Parameter w(rng.normal({4, 5}), "w");
  const Tensor x = rng.normal({6, 5});
  const Loss run = [&](Index) { return linear(x, w); };
  EXPECT_EQ(scores(mine, w, run), scores(wanda(), w, run));
}

}  // namespace
}  // namespace espalier::prune
