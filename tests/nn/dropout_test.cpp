#include "espalier/nn/dropout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/autograd/ops/reduce.h"
#include "espalier/io/model_file.h"
#include "tests/support.h"
#include "tests/support/temp_folder.h"

namespace espalier::nn {
namespace {

using testing::same_bytes;
using testing::throws;

template <class Layer>
Tensor in_training(const Layer& layer, const Tensor& x) {
  Tape tape;
  return layer(x).value();
}

TEST(Dropout, DropsInTrainingOnlyAndKeepsTheMean) {
  Rng rng(1);
  Dropout layer(rng, 0.25);
  const Tensor x = Tensor::ones({1000, 100});
  EXPECT_TRUE(layer(x).value().shares_storage(x));  // evaluation: x itself
  const Tensor y = in_training(layer, x);
  Index zeros = 0;
  for (float v : y.to_vector<float>()) {
    zeros += v == 0;
    EXPECT_TRUE(v == 0 || v == static_cast<float>(1 / 0.75));
  }
  EXPECT_NEAR(static_cast<double>(zeros) / 1e5, 0.25, 5 * std::sqrt(0.25 * 0.75 / 1e5));
  layer.eval();
  EXPECT_TRUE(same_bytes(in_training(layer, x), x));
}

TEST(Dropout, GoesOnFromUseToUseAndFromWhereItWasSaved) {
  Rng rng(1);
  Dropout layer(rng, 0.5);
  const Tensor x = Tensor::ones({500});
  const Tensor first = in_training(layer, x), second = in_training(layer, x);
  EXPECT_FALSE(equal(first, second));
  const Dropout copy = layer;  // with the generator where it stands
  const testing::TempFolder folder;
  const std::string path = folder / "model.safetensors";
  io::save(path, layer);
  const Tensor third = in_training(layer, x);
  EXPECT_TRUE(same_bytes(in_training(copy, x), third));
  Rng other(77);
  Dropout resumed(other, 0.5);
  io::load(path, resumed);
  EXPECT_TRUE(same_bytes(in_training(resumed, x), third));
  EXPECT_EQ(layer.parameters().size(), 0u);
  ASSERT_EQ(layer.buffers().size(), 1u);
  EXPECT_EQ(layer.buffers()[0].name, "rng");
}

TEST(Dropout, TwoLayersOfOneRngDiffer) {
  Rng rng(1);
  const Dropout a(rng, 0.5), b(rng, 0.5);
  EXPECT_FALSE(equal(in_training(a, Tensor::ones({500})), in_training(b, Tensor::ones({500}))));
}

TEST(ChannelDropout, DropsWholeChannels) {
  Rng rng(1);
  const ChannelDropout layer(rng, 0.5);
  const Tensor y = in_training(layer, Tensor::ones({20, 10, 3, 3}));
  Index dropped = 0;
  for (Index n = 0; n < 20; ++n)
    for (Index c = 0; c < 10; ++c) {
      const double first = y.at({n, c, 0, 0});
      dropped += first == 0;
      for (Index i = 0; i < 9; ++i) EXPECT_EQ(y.at({n, c, i / 3, i % 3}), first);
    }
  EXPECT_GT(dropped, 60);
  EXPECT_LT(dropped, 140);
  EXPECT_TRUE(throws<ShapeError>([&] { in_training(layer, Tensor::ones({3})); }, "[channel_dropout]", "[3]"));
}

TEST(DropPath, DropsWholeSamplesAndTheirGradient) {
  Rng rng(1);
  const DropPath layer(rng, 0.5);
  Tape tape;
  const Variable x = tape.watch(Tensor::ones({64, 5}));
  const Variable y = layer(x);
  const Tensor g = tape.gradient(sum(y), {x})[0].value();
  EXPECT_TRUE(same_bytes(g, y.value()));  // of ones, value and gradient are the same factors
  for (Index n = 0; n < 64; ++n) EXPECT_TRUE(g.at({n, 0}) == g.at({n, 4}) && (g.at({n, 0}) == 0 || g.at({n, 0}) == 2));
}

TEST(Dropout, EdgesOfP) {
  Rng rng(1);
  const Tensor x = Tensor::full({10}, std::numeric_limits<double>::infinity());
  EXPECT_TRUE(same_bytes(in_training(Dropout(rng, 1), x), Tensor::zeros({10})));
  EXPECT_TRUE(same_bytes(in_training(Dropout(rng, 0), x), x));
  EXPECT_TRUE(throws<ConfigError>([&] { Dropout(rng, 1.1); }, "1.1"));
  EXPECT_TRUE(throws<ConfigError>([&] { DropPath(rng, -0.1); }, "-0.1"));
}

}  // namespace
}  // namespace espalier::nn
