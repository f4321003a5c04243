#include "espalier/nn/embedding.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/optimizer.h"
#include "tests/support.h"

namespace espalier::nn {
namespace {

using testing::same_bytes;
using testing::throws;

TEST(Embedding, IsNamedAndShapedAsPyTorchs) {
  Rng rng(1);
  Embedding layer(rng, 1000, 16);
  const ParameterList list = layer.parameters();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].name, "weight");
  EXPECT_EQ(layer.weight.shape(), (Shape{1000, 16}));
  EXPECT_EQ(layer(Tensor::zeros({2, 5}, DType::i64)).shape(), (Shape{2, 5, 16}));
  const double variance = mean(square(Variable(layer.weight))).item();
  EXPECT_NEAR(variance, 1, 0.05);  // N(0, 1): 16,000 squares scatter by sqrt(2 / 16000) = 0.011
}

TEST(Embedding, ThePaddingRowIsZeroAndStaysSo) {
  Rng rng(1);
  Embedding layer(rng, 6, 3, {.padding_idx = -2, .sparse = true});
  EXPECT_EQ(layer.weight.value().at({4, 1}), 0);
  auto optimizer = optim::Optimizer(layer.parameters(), optim::chain(optim::adam({.lr = 0.1})));
  for (int step = 0; step < 3; ++step) {
    Tape tape;
    tape.backward(sum(square(affine(layer(Tensor::from<Index>({4, 1, 4})), 1, -1))));
    optimizer.step();
  }
  EXPECT_EQ(layer.weight.value().at({4, 1}), 0);
  EXPECT_NE(layer.weight.value().at({1, 1}), 0);
}

/// A model tied at both ends, so that sparse and dense gradients meet.
class Tied final : public Module {
 public:
  Tied(Rng& rng, bool sparse) : words(rng, 30, 8, {.sparse = sparse}), hidden(rng, 8, 8) {}
  Variable operator()(const Tensor& index) const { return linear(tanh(hidden(words(index))), words.weight); }
  void members(Visitor& v) override { v("words", words)("hidden", hidden)("out", words.weight); }
  Embedding words;
  Linear hidden;
};

TEST(Embedding, TrainsTheSameWithEitherGradientUnderClippingAndAMask) {
  const Tensor index = Tensor::from<Index>({1, 2, 3, 2}), next = Tensor::from<Index>({2, 3, 4, 5});
  std::vector<Tensor> results;
  for (bool sparse : {false, true}) {
    Rng rng(5);
    Embedding layer(rng, 30, 8, {.sparse = sparse});
    Mask mask(30 * 8);
    for (Index i = 0; i < 240; i += 3) mask.set(i, false);
    layer.weight.set_mask(mask);
    auto optimizer =
        optim::Optimizer(layer.parameters(), optim::chain(optim::clip_by_global_norm(0.5), optim::adam({.lr = 0.05})));
    for (int step = 0; step < 5; ++step) {
      Tape tape;
      tape.backward(cross_entropy(layer(index), next.reshape({4})));
      EXPECT_EQ(layer.weight.ref()->row_gradient() != nullptr, sparse);
      optimizer.step();
      for (Index i = 0; i < 240; i += 3) ASSERT_EQ(layer.weight.value().data<float>()[i], 0);
    }
    results.push_back(layer.weight.value());
  }
  EXPECT_TRUE(same_bytes(results[0], results[1]));
}

TEST(Embedding, TiedWeightsLearn) {
  const Tensor index = Tensor::from<Index>({1, 2, 3, 4}), next = Tensor::from<Index>({2, 3, 4, 5});
  for (bool sparse : {false, true}) {
    Rng rng(5);
    Tied model(rng, sparse);
    ASSERT_EQ(model.aliases().size(), 1u);
    auto optimizer = optim::Optimizer(model.parameters(), optim::chain(optim::adam({.lr = 0.05})));
    double first = 0, last = 0;
    for (int step = 0; step < 60; ++step) {
      Tape tape;
      const Variable loss = cross_entropy(model(index), next);
      last = loss.item();
      if (step == 0) first = last;
      tape.backward(loss);
      optimizer.step();
    }
    EXPECT_LT(last, 0.2 * first) << "sparse " << sparse;
  }
}

// --- max_norm; numbers of PyTorch 1.13 -------------------------------------------------------------------------------

Tensor long_rows() {
  return Tensor::from({1.0f, 2.0f, 2.0f, 0.1f, 0.2f, 0.3f, -4.0f, 0.0f, 3.0f, 9.0f, 9.0f, 9.0f}, {4, 3});
}

TEST(Embedding, ShortensTheRowsThatItReads) {
  Rng rng(1);
  Embedding layer(rng, 4, 3, {.max_norm = 2});
  layer.weight.set_value(long_rows());
  const Tensor index = Tensor::from<Index>({2, 0, 2, 1});
  const Tensor after =
      Tensor::from({2 / 3.0f, 4 / 3.0f, 4 / 3.0f, 0.1f, 0.2f, 0.3f, -1.6f, 0.0f, 1.2f, 9.0f, 9.0f, 9.0f}, {4, 3});
  Tape tape;
  tape.backward(sum(square(layer(index))));
  EXPECT_TRUE(allclose(layer.weight.value(), after, 0, 1e-6));
  EXPECT_TRUE(allclose(
      layer.weight.grad(),
      Tensor::from({4 / 3.0f, 8 / 3.0f, 8 / 3.0f, 0.2f, 0.4f, 0.6f, -6.4f, 0.0f, 4.8f, 0.0f, 0.0f, 0.0f}, {4, 3}), 0,
      1e-5));
  const std::uint32_t version = layer.weight.value().version();
  layer(index);
  EXPECT_EQ(layer.weight.value().version(), version) << "short rows are not written";
  Embedding manhattan(rng, 4, 3, {.max_norm = 2, .norm_type = 1});
  manhattan.weight.set_value(long_rows());
  manhattan(index);
  EXPECT_TRUE(allclose(
      manhattan.weight.value(),
      Tensor::from({0.4f, 0.8f, 0.8f, 0.1f, 0.2f, 0.3f, -1.142857f, 0.0f, 0.857143f, 9.0f, 9.0f, 9.0f}, {4, 3}), 0,
      1e-6));
}

TEST(Embedding, MaxNormKeepsMasksAndWritesNothingByAnError) {
  Rng rng(1);
  for (const MaskMode mode : {MaskMode::hard, MaskMode::soft}) {
    Embedding layer(rng, 4, 3, {.max_norm = 1});
    layer.weight.set_value(long_rows());
    Mask mask(12);
    mask.set(8, false);  // row 2 is [-4, 0, (3)]
    layer.weight.set_mask(mask, mode);
    const Tensor before = layer.weight.value().clone();
    EXPECT_TRUE(throws<IndexError>([&] { layer(Tensor::from<Index>({2, 4})); }, "index 4"));
    EXPECT_TRUE(same_bytes(layer.weight.value(), before));
    layer(Tensor::from<Index>({2}));
    EXPECT_NEAR(layer.weight.value().at({2, 0}), -1, 1e-6);
    EXPECT_EQ(layer.weight.value().at({2, 2}), 0);
    if (mode == MaskMode::soft) {
      EXPECT_NEAR(layer.weight.ref()->dense().at({2, 2}), 0.75, 1e-6);
      layer.weight.ref()->refresh_from_dense();
      EXPECT_NEAR(layer.weight.value().at({2, 0}), -1, 1e-6);
    }
  }
  Embedding negative(rng, 4, 3, {.max_norm = -1});
  EXPECT_TRUE(throws<ConfigError>([&] { negative(Tensor::from<Index>({1})); }, "max_norm"));
}

/// A tape that needs the rows as they were says so, rather than go on with others.
TEST(Embedding, MaxNormIsSeenByATapeThatSavedTheTable) {
  Rng rng(1);
  Embedding layer(rng, 4, 3, {.max_norm = 2});
  layer.weight.set_value(long_rows());
  Tape tape;
  const Variable first = linear(tape.watch(Tensor::ones({1, 3})), layer.weight);
  const Variable loss = sum(first) + sum(layer(Tensor::from<Index>({0})));
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "linear", "max_norm"));
}

// --- EmbeddingBag; numbers of PyTorch 1.13 ---------------------------------------------------------------------------

struct BagRow {
  BagMode mode;
  std::optional<Index> padding;
  std::vector<float> y, gradient;
};

TEST(EmbeddingBag, IsPyTorchs) {
  const std::vector<BagRow> rows = {
      {BagMode::sum,
       {},
       {-2, 5, 12, 0, 0, 0, 13.5f, -31.75f, 68, 4, -5, 6},
       {1, 2, 3, 11, 13, 15, 8, 10, 12, 7, 8, 9, 14, 16, 18}},
      {BagMode::sum,
       2,
       {5, -3, 3, 0, 0, 0, 20.5f, -39.75f, 59, 4, -5, 6},
       {1, 2, 3, 11, 13, 15, 0, 0, 0, 7, 8, 9, 14, 16, 18}},
      {BagMode::mean,
       {},
       {-0.666667f, 1.666667f, 4, 0, 0, 0, 3.375f, -7.9375f, 17, 4, -5, 6},
       {0.333333f, 0.666667f, 1, 10.333333f, 11.666667f, 13, 2.083333f, 2.666667f, 3.25f, 1.75f, 2, 2.25f, 3.5f, 4,
        4.5f}},
      {BagMode::mean,
       2,
       {2.5f, -1.5f, 1.5f, 0, 0, 0, 6.833333f, -13.25f, 19.666666f, 4, -5, 6},
       {0.5f, 1, 1.5f, 10.5f, 12, 13.5f, 0, 0, 0, 2.333333f, 2.666667f, 3, 4.666667f, 5.333333f, 6}},
      {BagMode::max, {}, {4, 8, 9, 0, 0, 0, 10, 8, 30, 4, -5, 6}, {0, 0, 0, 11, 11, 12, 0, 10, 3, 0, 0, 0, 7, 0, 9}},
      {BagMode::max, 2, {4, 2, 6, 0, 0, 0, 10, 0.25f, 30, 4, -5, 6}, {0, 2, 0, 11, 11, 15, 0, 0, 0, 0, 8, 0, 7, 0, 9}},
  };
  const Tensor table = Tensor::from(
                   {1.0f, 2.0f, -3.0f, 4.0f, -5.0f, 6.0f, -7.0f, 8.0f, 9.0f, 0.5f, 0.25f, -1.0f, 10.0f, -20.0f, 30.0f},
                   {5, 3}),
               index = Tensor::from<Index>({1, 2, 0, 4, 4, 3, 2, 1}), offsets = Tensor::from<Index>({0, 3, 3, 7}),
               way = Tensor::arange(1, 13).reshape({4, 3});
  Rng rng(1);
  for (const BagRow& row : rows)
    for (const bool sparse : {false, true}) {
      EmbeddingBag layer(rng, 5, 3, {.mode = row.mode, .padding_idx = row.padding, .sparse = sparse});
      layer.weight.set_value(table);
      Tape tape;
      const Variable y = layer(index, offsets);
      tape.backward(sum(y * way));
      EXPECT_TRUE(allclose(y.value(), Tensor::from(row.y, {4, 3}), 0, 1e-5)) << y.value();
      EXPECT_EQ(layer.weight.ref()->row_gradient() != nullptr, sparse);
      EXPECT_TRUE(allclose(layer.weight.grad(), Tensor::from(row.gradient, {5, 3}), 0, 1e-5)) << layer.weight.grad();
    }
  EmbeddingBag weighted(rng, 5, 3, {.mode = BagMode::sum});
  weighted.weight.set_value(table);
  {
    Tape tape;
    const Variable factors = tape.watch(Tensor::from({1.0f, 0.5f, 2.0f, 3.0f, -1.0f, 1.0f, 2.0f, 0.25f}));
    const Variable y = weighted(index, offsets, factors);
    EXPECT_TRUE(allclose(tape.gradient(sum(y * way), {factors}, {.retain = true})[0].value(),
                         Tensor::from({12.0f, 36.0f, -4.0f, 180.0f, 180.0f, -3.5f, 96.0f, 57.0f}), 0, 1e-4));
    tape.backward(sum(y * way));
    EXPECT_TRUE(allclose(
        y.value(), Tensor::from({2.5f, 3.0f, 4.5f, 0.0f, 0.0f, 0.0f, 6.5f, -23.75f, 77.0f, 1.0f, -1.25f, 1.5f}, {4, 3}),
        0, 1e-5));
  }
  EmbeddingBag last(rng, 5, 3, {.mode = BagMode::sum, .include_last_offset = true});
  last.weight.set_value(table);
  EXPECT_TRUE(allclose(last(index, offsets).value(), weighted(index, offsets).value().narrow(0, 0, 3), 0, 1e-6));
  EmbeddingBag shortened(rng, 5, 3, {.max_norm = 5});
  shortened.weight.set_value(table);
  EXPECT_TRUE(allclose(shortened(index.reshape({2, 4})).value(),
                       Tensor::from({0.525666f, -0.162449f, 1.914637f, 0.400666f, -0.599949f, 2.414637f}, {2, 3}), 0,
                       1e-5));
}

TEST(EmbeddingBag, TakesNothingAndRefusesWhatDoesNotFit) {
  Rng rng(1);
  const Tensor none = Tensor::empty({0}, DType::i64), index = Tensor::from<Index>({1, 2, 0});
  for (const BagMode mode : {BagMode::sum, BagMode::mean, BagMode::max}) {
    const EmbeddingBag layer(rng, 3, 2, {.mode = mode});
    EXPECT_EQ(layer(none, none).shape(), (Shape{0, 2}));
    EXPECT_TRUE(equal(layer(none, Tensor::zeros({2}, DType::i64)).value(), Tensor::zeros({2, 2})));
    EXPECT_TRUE(equal(layer(Tensor::empty({3, 0}, DType::i64)).value(), Tensor::zeros({3, 2})));
  }
  const EmbeddingBag layer(rng, 3, 2);
  EXPECT_TRUE(throws<ShapeError>([&] { layer(index); }, "without offsets"));
  EXPECT_TRUE(throws<ShapeError>([&] { layer(index.reshape({1, 3}), Tensor::from<Index>({0})); }, "[1, 3]"));
  EXPECT_TRUE(throws<IndexError>([&] { layer(index, Tensor::from<Index>({0, 4})); }, "offsets"));
  EXPECT_TRUE(throws<IndexError>([&] { layer(index, Tensor::from<Index>({0, 2, 1})); }, "offsets"));
  EXPECT_TRUE(throws<IndexError>([&] { layer(index, Tensor::from<Index>({1})); }, "offsets"));
  EXPECT_TRUE(throws<DTypeError>([&] { layer(index, Tensor::zeros({1})); }, "offsets"));
  EXPECT_TRUE(throws<IndexError>([&] { layer(Tensor::from<Index>({3}), Tensor::from<Index>({0})); }, "index 3"));
  EXPECT_TRUE(throws<ConfigError>([&] { layer(index, Tensor::from<Index>({0}), Tensor::ones({3})); }, "BagMode::sum"));
}

TEST(Embedding, ErrorsNameTheLayer) {
  Rng rng(5);
  Tied model(rng, false);
  static_cast<void>(model.parameters());
  EXPECT_TRUE(throws<IndexError>([&] { model(Tensor::from<Index>({3, 30})); }, "index 30 at [1]", "words"));
  EXPECT_TRUE(throws<DTypeError>([&] { model(Tensor::zeros({2})); }, "i64"));
  EXPECT_TRUE(throws<IndexError>([&] { Embedding(rng, 3, 2, {.padding_idx = 3}); }, "padding_idx 3"));
  EXPECT_TRUE(throws<ConfigError>([&] { Embedding(rng, -1, 2); }));
  EXPECT_EQ(Embedding(rng, 0, 2)(Tensor::empty({0}, DType::i64)).shape(), (Shape{0, 2}));
}

}  // namespace
}  // namespace espalier::nn
