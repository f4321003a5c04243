#include "espalier/nn/embedding.h"

#include <gtest/gtest.h>

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
