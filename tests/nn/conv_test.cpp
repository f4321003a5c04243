// Layers of convolution, pooling and upsampling: names, shapes, laws, copies, a training step, errors.
#include "espalier/nn/conv.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/pad.h"
#include "espalier/nn/pool.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/upsample.h"
#include "tests/support.h"

namespace espalier::nn {
namespace {

using espalier::testing::throws;

double largest(const Tensor& t) {
  double most = 0;
  for (float v : t.to_vector<float>()) most = std::max(most, std::abs(static_cast<double>(v)));
  return most;
}
std::vector<std::string> names(Module& m) {
  std::vector<std::string> all;
  for (const auto& p : m.parameters()) all.push_back(p.name);
  return all;
}

TEST(ConvLayers, ParametersHavePyTorchsNamesAndShapes) {
  Rng rng(1);
  Conv2d a(rng, 6, 8, {3, 5}, {.groups = 2});
  EXPECT_EQ(names(a), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(a.weight.value().shape(), (Shape{8, 3, 3, 5}));
  EXPECT_EQ(a.bias.value().shape(), (Shape{8}));
  Conv1d b(rng, 6, 8, 3, {.bias = false});
  EXPECT_EQ(names(b), (std::vector<std::string>{"weight"}));
  EXPECT_EQ(b.weight.value().shape(), (Shape{8, 6, 3}));
  ConvTranspose2d c(rng, 6, 8, 4, {.groups = 2});
  EXPECT_EQ(c.weight.value().shape(), (Shape{6, 4, 4, 4}));
  EXPECT_EQ(c.bias.value().shape(), (Shape{8}));
  ConvTranspose1d d(rng, 6, 8, 4, {.dtype = DType::f64});
  EXPECT_EQ(d.weight.value().shape(), (Shape{6, 8, 4}));
  EXPECT_EQ(d.weight.value().dtype(), DType::f64);
}

TEST(ConvLayers, DrawWithinOneOverRootFanIn) {
  Rng rng(2);
  Conv2d layer(rng, 16, 100, 5);  // 40,000 draws, fan-in 400
  EXPECT_LE(largest(layer.weight.value()), 0.05);
  EXPECT_GT(largest(layer.weight.value()), 0.0499);
  EXPECT_LE(largest(layer.bias.value()), 0.05);
  ConvTranspose2d transposed(rng, 100, 16, 5);  // the second axis counts: 400 again
  EXPECT_LE(largest(transposed.weight.value()), 0.05);
  EXPECT_GT(largest(transposed.weight.value()), 0.0499);
}

TEST(ConvLayers, ShapesFollowTheFormulas) {
  Rng rng(1);
  const Variable image = Tensor::zeros({2, 4, 9, 11}), sequence = Tensor::zeros({2, 4, 11});
  EXPECT_EQ(Conv2d(rng, 4, 6, 3)(image).shape(), (Shape{2, 6, 7, 9}));
  EXPECT_EQ(Conv2d(rng, 4, 6, 3, {.stride = 2, .padding = 1})(image).shape(), (Shape{2, 6, 5, 6}));
  EXPECT_EQ(Conv2d(rng, 4, 6, {4, 2}, {.padding = "same", .dilation = {1, 3}})(image).shape(), (Shape{2, 6, 9, 11}));
  EXPECT_EQ(Conv2d(rng, 4, 6, 3, {.padding = "valid"})(image).shape(), (Shape{2, 6, 7, 9}));
  EXPECT_EQ(Conv2d(rng, 4, 6, 3)(Tensor::zeros({4, 9, 11})).shape(), (Shape{6, 7, 9}));
  EXPECT_EQ(Conv1d(rng, 4, 6, 3, {.stride = 2})(sequence).shape(), (Shape{2, 6, 5}));
  EXPECT_EQ(Conv1d(rng, 4, 6, 4, {.padding = "same"})(sequence).shape(), (Shape{2, 6, 11}));
  EXPECT_EQ(ConvTranspose2d(rng, 4, 6, 3, {.stride = 2, .padding = 1, .output_padding = 1})(image).shape(),
            (Shape{2, 6, 18, 22}));
  EXPECT_EQ(ConvTranspose1d(rng, 4, 6, 4, {.stride = 2})(sequence).shape(), (Shape{2, 6, 24}));
  EXPECT_EQ(MaxPool2d(2)(image).shape(), (Shape{2, 4, 4, 5}));
  EXPECT_EQ(MaxPool2d(2, {.ceil_mode = true})(image).shape(), (Shape{2, 4, 5, 6}));
  EXPECT_EQ(MaxPool1d(3)(sequence).shape(), (Shape{2, 4, 3}));
  EXPECT_EQ(AvgPool2d({3, 2}, {.stride = 1, .padding = 1})(image).shape(), (Shape{2, 4, 9, 12}));
  EXPECT_EQ(AvgPool1d(2)(sequence).shape(), (Shape{2, 4, 5}));
  EXPECT_EQ(AdaptiveAvgPool2d(1)(image).shape(), (Shape{2, 4, 1, 1}));
  EXPECT_EQ(AdaptiveMaxPool2d({3, 4})(image).shape(), (Shape{2, 4, 3, 4}));
  EXPECT_EQ(AdaptiveAvgPool1d(5)(sequence).shape(), (Shape{2, 4, 5}));
  EXPECT_EQ(AdaptiveMaxPool1d(1)(sequence).shape(), (Shape{2, 4, 1}));
  EXPECT_EQ(Upsample(2)(image).shape(), (Shape{2, 4, 18, 22}));
  EXPECT_EQ(Upsample(1.5, Interpolation::linear)(sequence).shape(), (Shape{2, 4, 16}));
}

TEST(ConvLayers, SamePaddingPutsTheOddZeroLast) {
  Rng rng(1);
  Conv1d layer(rng, 1, 1, 2, {.padding = "same", .bias = false});
  layer.weight.set_value(Tensor::from({1.0f, 10.0f}, {1, 1, 2}));
  const Tensor y = layer(Tensor::from({1.0f, 2.0f, 3.0f}, {1, 1, 3})).value();
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{21, 32, 3}));
}

Tensor counted(const Shape& shape, double first) {
  const Index n = count(shape);
  return Tensor::arange(first, first + static_cast<double>(n)).reshape(shape);
}
void expect_values(const Variable& y, const Shape& shape, const std::vector<float>& values) {
  EXPECT_TRUE(allclose(y.value(), Tensor::from(values, shape), 0, 1e-5)) << y.value();
}

/// Numbers of PyTorch 1.13.
TEST(ConvLayers, PadWithWhatIsInX) {
  Rng rng(1);
  const std::vector<std::pair<PadMode, std::vector<float>>> lines = {{PadMode::constant, {100, 321, 543, 5}},
                                                                     {PadMode::reflect, {123, 321, 543, 345}},
                                                                     {PadMode::replicate, {111, 321, 543, 555}},
                                                                     {PadMode::circular, {154, 321, 543, 215}}};
  for (const auto& [mode, values] : lines) {
    Conv1d layer(rng, 1, 1, 3, {.stride = 2, .padding = 2, .bias = false, .padding_mode = mode});
    layer.weight.set_value(Tensor::from({1.0f, 10.0f, 100.0f}, {1, 1, 3}));
    expect_values(layer(counted({1, 1, 5}, 1)), {1, 1, 4}, values);
    expect_values(layer(counted({1, 5}, 1)), {1, 4}, values);
  }
  auto image = [&](PadMode mode, ConvPadding padding) {
    Conv2d layer(rng, 1, 1, {2, 3}, {.padding = padding, .bias = false, .padding_mode = mode});
    layer.weight.set_value(counted({1, 1, 2, 3}, 1));
    return layer(counted({1, 1, 3, 4}, 0));
  };
  expect_values(
      image(PadMode::reflect, {1, 2}), {1, 1, 4, 6},
      {41, 38, 49, 70, 73, 62, 77, 74, 85, 106, 109, 98, 161, 158, 169, 190, 193, 182, 125, 122, 133, 154, 157, 146});
  expect_values(
      image(PadMode::replicate, {1, 2}), {1, 1, 4, 6},
      {0, 9, 25, 46, 58, 63, 60, 69, 85, 106, 118, 123, 144, 153, 169, 190, 202, 207, 168, 177, 193, 214, 226, 231});
  expect_values(
      image(PadMode::circular, {1, 2}), {1, 1, 4, 6},
      {79, 72, 73, 94, 79, 72, 91, 84, 85, 106, 91, 84, 175, 168, 169, 190, 175, 168, 79, 72, 73, 94, 79, 72});
  expect_values(image(PadMode::reflect, "same"), {1, 1, 3, 4},
                {74, 85, 106, 109, 158, 169, 190, 193, 122, 133, 154, 157});
  expect_values(image(PadMode::replicate, "same"), {1, 1, 3, 4},
                {69, 85, 106, 118, 153, 169, 190, 202, 177, 193, 214, 226});
  expect_values(image(PadMode::circular, "same"), {1, 1, 3, 4}, {84, 85, 106, 91, 168, 169, 190, 175, 72, 73, 94, 79});
  EXPECT_EQ(image(PadMode::reflect, "valid").shape(), (Shape{1, 1, 2, 2}));
  EXPECT_EQ(image(PadMode::reflect, 0).shape(), (Shape{1, 1, 2, 2}));
  EXPECT_TRUE(throws<ShapeError>([&] { image(PadMode::reflect, 3); }, "[pad]"));
  auto refuses = [&](Conv2dLayerOptions options, const char* text) {
    options.padding_mode = PadMode::reflect;
    return throws<ConfigError>([&] { Conv2d(rng, 1, 1, 3, options); }, "[Conv2d]", text);
  };
  EXPECT_TRUE(refuses({.stride = 2, .padding = "same"}, "stride 1"));
  EXPECT_TRUE(refuses({.padding = "some"}, "some"));
  EXPECT_TRUE(refuses({.padding = -1}, "negative"));
}

/// Numbers of PyTorch 1.13, output_size=.
TEST(ConvLayers, ATransposedOneGivesTheSizeThatIsAskedFor) {
  Rng rng(1);
  ConvTranspose2d layer(rng, 1, 1, 3, {.stride = 2, .padding = 1, .bias = false});
  layer.weight.set_value(counted({1, 1, 3, 3}, 1));
  expect_values(layer(counted({1, 1, 2, 2}, 0), {4, 3}), {1, 1, 4, 3}, {0, 4, 5, 4, 16, 14, 10, 24, 15, 16, 39, 24});
  EXPECT_EQ(layer(counted({1, 2, 2}, 0), 4).shape(), (Shape{1, 4, 4}));
  EXPECT_TRUE(throws<ShapeError>([&] { layer(counted({1, 1, 2, 2}, 0), {4, 5}); }, "[4, 5]", "axis -1 is 3 to 4"));
  EXPECT_TRUE(throws<ShapeError>([&] { layer(counted({1, 1, 2, 2}, 0), {2, 3}); }, "axis -2"));
  EXPECT_TRUE(throws<ShapeError>([&] { layer(counted({2}, 0), 4); }, "[conv_transpose2d]"));
  ConvTranspose1d line(rng, 1, 1, 3, {.stride = 3, .bias = false});
  line.weight.set_value(counted({1, 1, 3}, 1));
  expect_values(line(counted({1, 1, 2}, 1), 8), {1, 1, 8}, {1, 2, 3, 2, 4, 6, 0, 0});
}

/// Numbers of PyTorch 1.13.
TEST(ConvLayers, ResizeToASizeAndShufflePixels) {
  expect_values(Upsample::to({3, 5}, Interpolation::linear)(counted({1, 1, 2, 3}, 0)), {1, 1, 3, 5},
                {0, 0.4f, 1, 1.6f, 2, 1.5f, 1.9f, 2.5f, 3.1f, 3.5f, 3, 3.4f, 4, 4.6f, 5});
  EXPECT_EQ(Upsample::to({7})(Tensor::zeros({2, 4, 11})).shape(), (Shape{2, 4, 7}));
  expect_values(PixelShuffle(2)(counted({1, 8, 1, 2}, 0)), {1, 2, 2, 4},
                {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15});
  expect_values(PixelUnshuffle(2)(counted({1, 1, 4, 4}, 0)), {1, 4, 2, 2},
                {0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15});
  const Tensor x = counted({18, 2, 5}, 0);
  EXPECT_EQ(PixelShuffle(3)(x).shape(), (Shape{2, 6, 15}));
  EXPECT_TRUE(equal(PixelUnshuffle(3)(PixelShuffle(3)(x)).value(), x));
  EXPECT_EQ(PixelShuffle(3)(Tensor::zeros({0, 18, 2, 5})).shape(), (Shape{0, 2, 6, 15}));
  EXPECT_TRUE(throws<ShapeError>([&] { PixelShuffle(2)(x); }, "[PixelShuffle]", "[18, 2, 5]"));
  EXPECT_TRUE(throws<ShapeError>([&] { PixelUnshuffle(2)(x); }, "[PixelUnshuffle]"));
  EXPECT_THROW(PixelShuffle(0), ConfigError);
  EXPECT_THROW(PixelShuffle(Index{1} << 32), ConfigError);  // its square would be 0
}

TEST(PadLayers, AreThePadOfTheirMode) {
  const Tensor x = counted({2, 3, 4, 5}, 0), line = counted({2, 3, 5}, 0);
  auto is = [](const Module&, const Variable& y, const Variable& expected) {
    EXPECT_TRUE(equal(y.value(), expected.value()));
  };
  const ReflectionPad2d reflection({1, 2, 3, 0});
  is(reflection, reflection(x), pad(x, {1, 2, 3, 0}, PadMode::reflect));
  const ReplicationPad2d replication(2);
  is(replication, replication(x), pad(x, {2, 2, 2, 2}, PadMode::replicate));
  const CircularPad1d circular({1, 2});
  is(circular, circular(line), pad(line, {1, 2}, PadMode::circular));
  const ReflectionPad1d mirror(1);
  is(mirror, mirror(line), pad(line, {1, 1}, PadMode::reflect));
  const ConstantPad1d constant({1, -1}, -1.5);
  is(constant, constant(line), pad(line, {1, -1}, PadMode::constant, -1.5));
  const Sequential zeros(ZeroPad2d(1), ConstantPad2d({0, 1, 0, 1}, 2));
  is(zeros, zeros(x), pad(pad(x, {1, 1, 1, 1}), {0, 1, 0, 1}, PadMode::constant, 2));
  EXPECT_TRUE(throws<ShapeError>([&] { ReflectionPad1d(5)(line); }, "[pad]"));
  EXPECT_TRUE(throws<ConfigError>([&] { ReflectionPad2d({1, 2}); }, "it takes one, or 4"));
}

TEST(ConvLayers, CopiesAreNewParameters) {
  Rng rng(1);
  const Conv2d a(rng, 2, 3, 3);
  Conv2d b = a;
  b.weight.set_value(Tensor::zeros({3, 2, 3, 3}));
  EXPECT_GT(largest(a.weight.value()), 0);
}

TEST(ConvLayers, GroupsFollowTheWeightWhenItShrinks) {
  Rng rng(1);
  Conv2d depthwise(rng, 4, 4, 3, {.groups = 4, .bias = false});
  const Tensor all = randn(rng, {1, 4, 5, 5});
  const Tensor whole = depthwise(all).value();
  Conv2d smaller(rng, 3, 3, 3, {.groups = 3, .bias = false});
  depthwise.weight = Parameter(depthwise.weight.value().narrow(0, 0, 3).clone());
  EXPECT_TRUE(
      espalier::testing::same_bytes(depthwise(all.narrow(1, 0, 3).clone()).value(), whole.narrow(1, 0, 3).clone()));
}

TEST(ConvLayers, ASmallNetworkLearns) {
  Rng rng(4);
  Sequential net(
      Conv2d(rng, 1, 4, 3, {.padding = 1}), relu, MaxPool2d(2), Conv2d(rng, 4, 8, 3), relu, AdaptiveAvgPool2d(1),
      [](const Variable& x) { return flatten(x, 1); }, Linear(rng, 8, 2));
  // Bars that lie and bars that stand.
  Tensor x = Tensor::zeros({16, 1, 8, 8});
  std::vector<std::int64_t> labels;
  for (Index n = 0; n < 16; ++n) {
    labels.push_back(n % 2);
    Tensor image = x.select(0, n).select(0, 0);
    image.select(static_cast<int>(n % 2), n / 2).fill(1);
  }
  const Tensor y = Tensor::from(labels, {16});
  double first = 0, last = 0;
  for (int step = 0; step < 150; ++step) {
    Tape tape;
    const Variable loss = cross_entropy(net(x), y);
    if (step == 0) first = loss.item();
    last = loss.item();
    tape.backward(loss);
    for (const auto& p : net.parameters()) {
      Tensor w = p.parameter->value().clone();
      const float* g = p.parameter->grad().data<float>();
      float* to = w.write<float>("test");
      for (Index i = 0; i < w.size(); ++i) to[i] -= 0.5f * g[i];
      p.parameter->set_value(w);
      p.parameter->clear_grad();
    }
  }
  EXPECT_LT(last, 0.2 * first);
}

TEST(ConvLayers, ErrorsNameTheLayer) {
  Rng rng(1);
  Sequential net(Conv2d(rng, 3, 4, 3), MaxPool2d(2));
  net.parameters();
  EXPECT_TRUE(throws<ShapeError>([&] { net(Tensor::zeros({1, 2, 8, 8})); }, "[conv2d]", "2 channels", "0"));
  EXPECT_TRUE(throws<ShapeError>([&] { net(Tensor::zeros({1, 3, 2, 8})); }, "[conv2d]", "kernel"));
  EXPECT_TRUE(throws<DTypeError>([&] { net(Tensor::zeros({1, 3, 8, 8}, DType::f64)); }, "conv2d"));
  EXPECT_THROW(Conv2d(rng, 3, 4, 3, {.groups = 2}), ConfigError);
}

TEST(ConvLayers, GroupsAreReadOffXOnlyWhereUnitsWereCut) {
  Rng rng(1);
  Conv2d layer(rng, 8, 8, 3, {.groups = 8});
  for (const Index channels : {1, 2, 4, 16})
    EXPECT_TRUE(throws<ShapeError>([&] { layer(Tensor::ones({1, channels, 5, 5})); }, "groups 8 takes 8"));
  EXPECT_TRUE(throws<ShapeError>([&] { layer(Tensor::ones({5, 5})); }, "[N, C, H, W]"));
  layer.weight.ref()->replace(layer.weight.value().narrow(0, 0, 3).clone(), {});
  layer.bias.ref()->replace(layer.bias.value().narrow(0, 0, 3).clone(), {});
  EXPECT_EQ(layer(Tensor::ones({1, 3, 5, 5})).shape(), (Shape{1, 3, 3, 3}));
  EXPECT_EQ(Conv2d(layer)(Tensor::ones({1, 3, 5, 5})).shape(), (Shape{1, 3, 3, 3}));
}

TEST(ConvLayers, TakeOnePaddingForASequence) {
  Rng rng(1);
  EXPECT_TRUE(throws<ConfigError>([&] { Conv1d(rng, 2, 2, 3, {.padding = {7, 0}})(Tensor::ones({1, 2, 5})); }, "pair"));
  EXPECT_EQ(Conv1d(rng, 2, 2, 3, {.padding = {2, 2}})(Tensor::ones({1, 2, 5})).shape(), (Shape{1, 2, 7}));
}

}  // namespace
}  // namespace espalier::nn
