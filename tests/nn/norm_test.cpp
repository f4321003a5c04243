// Normalisation layers: statistics, running statistics, names, modes, training.
#include "espalier/nn/norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/nn/sequential.h"
#include "tests/support.h"

namespace espalier::nn {
namespace {

using testing::same_bytes;
using testing::throws;

std::vector<std::string> names(const Module& m) {
  std::vector<std::string> all;
  for (const NamedParameter& p : m.parameters()) all.push_back(p.name);
  for (const NamedBuffer& b : m.buffers()) all.push_back(b.name);
  return all;
}

TEST(LayerNorm, NormalisesTheLastAxes) {
  const Tensor x = Tensor::from({1., 2., 3., 6., -1., -1., -1., -1.}, {2, 4});
  const LayerNorm layer(4, {.eps = 0, .dtype = DType::f64});
  const Tensor y = layer(x.narrow(0, 0, 1)).value();
  const double s = std::sqrt(3.5);  // mean 3, variance (4 + 1 + 0 + 9) / 4
  EXPECT_TRUE(allclose(y, Tensor::from({-2 / s, -1 / s, 0., 3 / s}, {1, 4}), 0, 1e-15));
  const LayerNorm guarded(4, {.dtype = DType::f64});
  EXPECT_EQ(guarded(x.narrow(0, 1, 1)).value().to_vector<double>(), (std::vector<double>(4, 0)));  // constant row
  const LayerNorm two_axes(Shape{2, 4}, {.dtype = DType::f64});
  EXPECT_EQ(two_axes(Tensor::zeros({3, 2, 4}, DType::f64)).shape(), (Shape{3, 2, 4}));
  EXPECT_EQ(two_axes(Tensor::zeros({0, 2, 4}, DType::f64)).shape(), (Shape{0, 2, 4}));
}

TEST(LayerNorm, IsSoundWhereTheMeanIsFarLargerThanTheSpread) {
  Rng rng(1);
  const Tensor spread = rng.normal({4, 1000}, 0, 1, DType::f64);
  Tensor shifted = Tensor::empty({4, 1000});
  for (Index i = 0; i < 4000; ++i)  // 1e5 + a multiple of 2^-7: exact in f32
    shifted.write<float>("test")[i] = static_cast<float>(1e5 + std::round(spread.data<double>()[i] * 128) / 128);
  const LayerNorm narrow(1000), wide(1000, {.dtype = DType::f64});
  const Tensor y = narrow(shifted).value().to(DType::f64), expected = wide(shifted.to(DType::f64)).value();
  EXPECT_TRUE(allclose(y, expected, 1e-5, 2e-6));  // 1e5 in f32 ends at 2^-7: a mean of f32 would be off by as much
}

TEST(LayerNorm, TakesWhatOverflowsWhenSquared) {
  Tensor x = Tensor::full({1, 64}, 1e30);
  x.narrow(1, 0, 32).fill(-1e30);
  const std::vector<float> y = LayerNorm(64)(x).value().to_vector<float>();
  EXPECT_FLOAT_EQ(y[0], -1);
  EXPECT_FLOAT_EQ(y[63], 1);
  x.select(0, 0).narrow(0, 5, 1).fill(std::numeric_limits<double>::quiet_NaN());
  for (float v : LayerNorm(64)(x).value().to_vector<float>()) EXPECT_TRUE(std::isnan(v));
}

TEST(BatchNorm, NaNStaysInItsChannelsStatistics) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  BatchStatistics batch;
  batch_norm(Tensor::from({1., 1., nan, 2., 2., 3.}, {3, 2}), {}, {}, {}, &batch);
  EXPECT_TRUE(std::isnan(batch.mean.at({0})));
  EXPECT_TRUE(std::isnan(batch.variance.at({0})));
  EXPECT_EQ(batch.mean.at({1}), 2);
  EXPECT_NEAR(batch.variance.at({1}), 2. / 3, 1e-15);
}

TEST(BatchNorm, GradientsOfGivenStatisticsDoNotDependOnTheInput) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const DType type : {DType::f32, DType::f64}) {
    BatchNorm1d layer(2, {.eps = 0, .dtype = type});
    layer.eval();
    Tape tape;
    const Variable x = tape.watch(Tensor::from({1., 1., nan, 2., 2., inf}, {3, 2}).to(type));
    const Tensor dx = tape.gradient(sum(layer(x)), {x})[0].value();
    EXPECT_EQ(dx.to(DType::f64).to_vector<double>(), std::vector<double>(6, 1));
  }
}

TEST(LayerNorm, ListsWhatItHas) {
  EXPECT_EQ(names(LayerNorm(3)), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(names(LayerNorm(3, {.bias = false})), (std::vector<std::string>{"weight"}));
  EXPECT_TRUE(names(LayerNorm(3, {.affine = false})).empty());
  EXPECT_EQ(names(RmsNorm(3)), (std::vector<std::string>{"weight"}));
  EXPECT_EQ(names(GroupNorm(2, 4)), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_TRUE(names(InstanceNorm2d(4)).empty());
  EXPECT_EQ(names(BatchNorm2d(4)),
            (std::vector<std::string>{"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}));
  EXPECT_EQ(names(BatchNorm1d(4, {.affine = false, .track_running_stats = false})), std::vector<std::string>{});
  EXPECT_EQ(BatchNorm2d(4).num_batches_tracked.value().dtype(), DType::i64);
}

TEST(RmsNorm, DividesByTheRootMeanSquare) {
  const Tensor x = Tensor::from({3., 4., 0., 0.}, {1, 4});
  EXPECT_TRUE(allclose(RmsNorm(4, {.eps = 0, .dtype = DType::f64})(x).value(), Tensor::from({1.2, 1.6, 0., 0.}, {1, 4}),
                       1e-15, 0));
  EXPECT_EQ(RmsNorm(4)(Tensor::zeros({1, 4})).value().to_vector<float>(), std::vector<float>(4, 0));
}

TEST(GroupNorm, OfOneGroupAChannelIsInstanceNorm) {
  Rng rng(2);
  const Tensor x = rng.normal({3, 6, 5, 7});
  EXPECT_TRUE(same_bytes(GroupNorm(6, 6)(x).value(), InstanceNorm2d(6)(x).value()));
  const Tensor y = GroupNorm(2, 6)(x).value().reshape({3, 2, 105});
  EXPECT_TRUE(allclose(mean(Variable(y), {2}).value(), Tensor::zeros({3, 2}), 0, 1e-6));
  EXPECT_TRUE(allclose(mean(square(Variable(y)), {2}).value(), Tensor::ones({3, 2}), 1e-4, 0));
  EXPECT_TRUE(throws<ConfigError>([] { GroupNorm(4, 6); }, "6 channels", "4 equal groups"));
}

TEST(BatchNorm, MovesItsStatisticsInTrainingAndUsesThemInEvaluation) {
  const Tensor x = Tensor::from({1., 10., 2., 20., 3., 30., 6., 60.}, {4, 2});
  BatchNorm1d layer(2, {.dtype = DType::f64});
  layer.train();
  const Tensor y = layer(x).value();
  EXPECT_NEAR(y.at({1, 1}), -10 / std::sqrt(350 + 1e-5), 1e-14);
  EXPECT_NEAR(y.at({3, 0}), 3 / std::sqrt(3.5 + 1e-5), 1e-14);
  EXPECT_TRUE(allclose(layer.running_mean.value(), Tensor::from({0.3, 3.}), 1e-14, 0));
  EXPECT_TRUE(allclose(layer.running_var.value(), Tensor::from({0.9 + 0.1 * 14 / 3, 0.9 + 10 * 14. / 3}), 1e-14, 0));
  EXPECT_EQ(layer.num_batches_tracked.value().item(), 1);
  layer.eval();
  const Tensor before = layer.running_mean.value();
  const Tensor fixed = layer(x).value();
  EXPECT_NEAR(fixed.at({0, 0}), (1 - 0.3) / std::sqrt(0.9 + 0.1 * 14 / 3 + 1e-5), 1e-14);
  EXPECT_TRUE(same_bytes(layer.running_mean.value(), before));
  EXPECT_EQ(layer.num_batches_tracked.value().item(), 1);
}

TEST(BatchNorm, FollowsTheTapeUnlessForced) {
  Rng rng(3);
  const Tensor x = rng.normal({8, 3, 4, 4}, 5);
  BatchNorm2d layer(3);
  layer(x);
  EXPECT_EQ(layer.num_batches_tracked.value().item(), 0);
  {
    const Tape tape;
    layer(x);
  }
  EXPECT_EQ(layer.num_batches_tracked.value().item(), 1);
  BatchNorm2d untracked(3, {.track_running_stats = false});
  const Tensor y = untracked(x).value();  // statistics of the batch, without a tape too
  EXPECT_NEAR(mean(Variable(y)).item(), 0, 1e-6);
}

TEST(BatchNorm, WithoutMomentumAveragesAllBatches) {
  BatchNorm1d layer(1, {.momentum = std::nullopt, .dtype = DType::f64});
  layer.train();
  for (double shift : {1., 2., 6.}) layer(Tensor::from({shift - 1, shift + 1}, {2, 1}));
  EXPECT_NEAR(layer.running_mean.value().item(), 3, 1e-14);
  EXPECT_NEAR(layer.running_var.value().item(), 2, 1e-14);
  EXPECT_EQ(layer.num_batches_tracked.value().item(), 3);
}

TEST(BatchNorm, WithReluIsBatchNormAndRelu) {
  Rng rng(4);
  const Tensor x = rng.normal({6, 5, 9, 7}), g = rng.normal({6, 5, 9, 7});
  BatchNorm2d fused(5, {.relu = true}), plain(5);
  fused.weight.set_value(rng.normal({5}));
  fused.bias.set_value(rng.normal({5}));
  plain.weight.set_value(fused.weight.value());
  plain.bias.set_value(fused.bias.value());
  auto run = [&](const BatchNorm2d& layer, bool apply) {
    Tape tape;
    const Variable in = tape.watch(x), y = apply ? relu(layer(in)) : layer(in), weights(g);
    std::vector<Tensor> result{y.value()};
    const Variable leaves[] = {in, layer.weight, layer.bias};
    for (const Variable& v : tape.gradient({&y, 1}, {&weights, 1}, leaves)) result.push_back(v.value());
    return result;
  };
  const std::vector<Tensor> a = run(fused, false), b = run(plain, true);
  for (std::size_t k = 0; k < a.size(); ++k) EXPECT_TRUE(allclose(a[k], b[k], 1e-5, 1e-5)) << k;
  EXPECT_TRUE(same_bytes(fused.running_var.value(), plain.running_var.value()));
}

/// [N, C] goes through kernels of columns, [1, C, N] through those of runs.
TEST(BatchNorm, OfMatricesIsTheOneOfImagesOnOtherWays) {
  Rng rng(6);
  for (const Shape& shape : {Shape{2, 1}, Shape{3, 77}, Shape{130, 300}, Shape{3000, 65}, Shape{2100, 3}})
    for (const double mean : {0.0, 1e4}) {
      const Tensor view = rng.normal({shape[1], shape[0]}, mean, mean == 0 ? 1 : 1e-2).t(), g = rng.normal(shape);
      const Tensor w = rng.normal({shape[1]}), b = rng.normal({shape[1]});
      auto run = [&](bool as_matrix, bool fixed) {
        auto seen = [&](const Tensor& t) { return as_matrix ? t : t.t().contiguous().unsqueeze(0); };
        auto back = [&](const Tensor& t) { return as_matrix ? t : t.squeeze(0).t(); };
        Tape tape;
        const Variable in[] = {tape.watch(seen(view)), tape.watch(w), tape.watch(b)}, weights(seen(g));
        const BatchNormOptions options{.relu = true};
        const Tensor means = Tensor::full({shape[1]}, mean), variances = Tensor::full({shape[1]}, 0.3);
        BatchStatistics found{means, variances};
        const Variable y = fixed ? batch_norm_inference(in[0], means, variances, in[1], in[2], options)
                                 : batch_norm(in[0], in[1], in[2], options, &found);
        const std::vector<Variable> grads = tape.gradient({&y, 1}, {&weights, 1}, in);
        return std::vector<Tensor>{back(y.value()), back(grads[0].value()), grads[1].value(), grads[2].value(),
                                   found.mean,      found.variance};
      };
      for (const bool fixed : {false, true}) {
        const std::vector<Tensor> a = run(true, fixed), other = run(false, fixed);
        // Of gradients: what rounding leaves of the largest, 1 / deviation.
        const double steep = mean == 0 ? 10 : 100;
        for (std::size_t k = 0; k < a.size(); ++k) EXPECT_TRUE(allclose(a[k], other[k], 2e-6, 2e-6 * steep)) << k;
        const testing::Threads use(4);
        const std::vector<Tensor> many = run(true, fixed);
        for (std::size_t k = 0; k < a.size(); ++k) EXPECT_TRUE(same_bytes(a[k], many[k])) << k;
      }
    }
}

TEST(BatchNorm, OfMatricesIsSoundFarFromZero) {
  Rng rng(7);
  const Index n = 400, channels = 37;
  const Tensor x = rng.normal({n, channels}, 1e4, 1e-2);
  BatchStatistics found;
  const Tensor y = batch_norm(x, {}, {}, {.eps = 1e-9}, &found).value();
  for (Index c = 0; c < channels; ++c) {
    double mean = 0, variance = 0;
    for (Index i = 0; i < n; ++i) mean += x.at({i, c}) / static_cast<double>(n);
    for (Index i = 0; i < n; ++i) variance += (x.at({i, c}) - mean) * (x.at({i, c}) - mean) / static_cast<double>(n);
    EXPECT_NEAR(found.mean.at({c}), mean, 1e-8);
    EXPECT_NEAR(found.variance.at({c}), variance, 1e-5 * variance);
    for (Index i = 0; i < n; ++i) EXPECT_NEAR(y.at({i, c}), (x.at({i, c}) - mean) / std::sqrt(variance + 1e-9), 1e-5);
  }
}

TEST(BatchNorm, CopiesHaveStatisticsOfTheirOwnAndAssigningWritesIntoThem) {
  BatchNorm1d layer(2);
  layer.train();
  BatchNorm1d copy = layer;
  layer(Tensor::from({1.f, 2.f, 3.f, 4.f}, {2, 2}));
  EXPECT_EQ(copy.running_mean.value().to_vector<float>(), (std::vector<float>{0, 0}));
  copy = layer;
  EXPECT_TRUE(same_bytes(copy.running_mean.value(), layer.running_mean.value()));
}

TEST(BatchNorm, RefusesWhatHasNoVarianceOrOtherAxes) {
  BatchNorm1d layer(2);
  EXPECT_EQ(layer(Tensor::ones({1, 2})).shape(), (Shape{1, 2}));  // evaluation
  layer.train();
  EXPECT_TRUE(throws<ShapeError>([&] { layer(Tensor::ones({1, 2})); }, "one value a channel"));
  EXPECT_TRUE(throws<ShapeError>([&] { layer(Tensor::ones({2, 2, 1, 1})); }, "[N, C] or [N, C, L]"));
  EXPECT_TRUE(throws<ShapeError>([&] { layer(Tensor::ones({4, 3})); }, "[2]", "3 channels"));
  EXPECT_TRUE(throws<ShapeError>([&] { BatchNorm2d(2)(Tensor::ones({2, 2})); }, "[N, C, H, W]"));
  EXPECT_EQ(layer(Tensor::ones({0, 2})).shape(), (Shape{0, 2}));  // an empty batch moves nothing
  EXPECT_EQ(layer.running_var.value().to_vector<float>(), (std::vector<float>{1, 1}));
}

TEST(NormLayers, LearnTheirScaleAndShift) {
  Rng rng(5);
  const Tensor x = rng.normal({64, 4, 3, 3}, 3, 2);
  for (int which = 0; which < 3; ++which) {
    BatchNorm2d batch(4);
    GroupNorm group(2, 4);
    InstanceNorm2d instance(4, {.affine = true});
    Parameter& weight = which == 0 ? batch.weight : which == 1 ? group.weight : instance.weight;
    Parameter& bias = which == 0 ? batch.bias : which == 1 ? group.bias : instance.bias;
    double loss = 0;
    for (int step = 0; step < 60; ++step) {  // to the target 2 xhat - 1
      Tape tape;
      const Variable y = which == 0 ? batch(x) : which == 1 ? group(x) : instance(x);
      Variable xhat;
      {
        const NoTape quiet;
        xhat = which == 0 ? batch_norm(x) : which == 1 ? group_norm(x, 2) : instance_norm(x);
      }
      const Variable off = mean(square(y - (2 * xhat - 1)));
      loss = off.item();
      const std::vector<Variable> g = tape.gradient(off, {weight, bias});
      weight.set_value((Variable(weight.value()) - 1.0 * g[0].detach()).value());
      bias.set_value((Variable(bias.value()) - 1.0 * g[1].detach()).value());
    }
    EXPECT_LT(loss, 1e-4) << which;
  }
}

TEST(LayerNorm, KeepsItsShapeWithoutWeights) {
  EXPECT_THROW(LayerNorm(4, {.affine = false})(Tensor::ones({2, 5})), ShapeError);
  EXPECT_THROW(LayerNorm(Shape{2, 4}, {.affine = false})(Tensor::ones({4})), ShapeError);
  EXPECT_THROW(RmsNorm(4, {.affine = false})(Tensor::ones({2, 5})), ShapeError);
  EXPECT_EQ(LayerNorm(4, {.affine = false})(Tensor::ones({2, 4})).shape(), (Shape{2, 4}));
}

TEST(BatchNorm, StatisticsThatAreNotFiniteDoNotStay) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double poison : {std::nan(""), infinity, -infinity}) {
    BatchNorm1d layer(2);
    layer.train();
    Tensor x = Tensor::from({1.0f, 2.0f, 3.0f, 6.0f}, {2, 2});
    x.select(0, 1).select(0, 0).fill(poison);
    const Tensor y = layer(x).value();
    EXPECT_TRUE(std::isnan(y.at({0, 0}))) << "what comes out tells of it";
    EXPECT_EQ(layer.running_mean.value().at({0}), 0);
    EXPECT_EQ(layer.running_var.value().at({0}), 1);
    EXPECT_NEAR(layer.running_mean.value().at({1}), 0.1 * 4, 1e-6) << "the other channel moves";
    EXPECT_NEAR(layer.running_var.value().at({1}), 0.9 + 0.1 * 8, 1e-6);
    EXPECT_EQ(layer.num_batches_tracked.value().item(), 1);
  }
}

}  // namespace
}  // namespace espalier::nn
