// The layers of docs/own_layer.md, compiled, run, and held to the page.
#include <gtest/gtest.h>

#include "espalier/autograd/checkpoint.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/rng_cell.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/summary.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/optimizer.h"
#include "tests/support.h"
#include "tests/support/snippets.h"

// Outside of the library, as a user's code is.
namespace mine {

using namespace espalier;

/// y = t relu(W x + b) + (1 - t) x, with a gate t = sigmoid(W_t x + b_t) that starts nearly shut. x [..., width].
/// Srivastava, Greff, Schmidhuber 2015, eq. 3.
class Highway final : public nn::Module {
 public:
  Highway(Rng& rng, Index width) : body(rng, width, width), gate(rng, width, width) {
    gate.bias.set_value(Tensor::full({width}, -2));
  }

  Variable operator()(const Variable& x) const {
    return forward([&] {
      const Variable t = sigmoid(gate(x));
      return t * relu(body(x)) + (1.0 - t) * x;
    });
  }
  void members(nn::Visitor& v) override { v("body", body)("gate", gate); }

  nn::Linear body, gate;
};

/// y = scale (x + noise) in training, scale x otherwise; remembers the mean of what it has seen. x [N, width].
class NoisyScale final : public nn::Module {
 public:
  NoisyScale(Rng& rng, Index width) : scale(Tensor::ones({width})), seen(Tensor::zeros({width})), noise_(rng.split()) {}

  Variable operator()(const Variable& x) const {
    return forward([&] {
      if (!training()) return x * scale;
      seen.set((0.9 * Variable(seen.value()) + 0.1 * mean(x.detach(), {0})).value());
      return (x + noise_.draw().normal(x.shape(), 0, 0.1, x.dtype())) * scale;
    });
  }
  void members(nn::Visitor& v) override { v("scale", scale)("seen", seen); }

  Parameter scale;
  Buffer seen;

 private:
  RngCell noise_;
};

TEST(OwnLayer, TrainsAndIsAValue) {
  Rng rng(1);
  const Highway layer(rng, 4);
  const Highway copy = layer;
  ASSERT_EQ(layer.parameters().size(), 4u);
  EXPECT_EQ(layer.parameters()[2].name, "gate.weight");
  optim::Optimizer opt(layer.parameters(), optim::adam({.lr = 0.05}));
  const Tensor x = rng.normal({32, 4}), y = relu(Variable(x)).value();
  double first = 0, last = 0;
  for (int step = 0; step < 100; ++step) {
    Tape tape;
    const Variable loss = nn::mse_loss(layer(x), y);
    (step == 0 ? first : last) = loss.item();
    tape.backward(loss);
    opt.step();
  }
  EXPECT_LT(last, first / 10);
  EXPECT_FALSE(equal(copy.gate.weight.value(), layer.gate.weight.value()));
  EXPECT_TRUE(espalier::testing::throws<ShapeError>([&] { layer(Tensor::ones({2, 3})); }, "in module gate"));
  EXPECT_EQ(nn::summary(layer, x).total.macs, 2 * 32 * 16);
}

TEST(OwnLayer, NoiseOnlyInTrainingAndTheSameWhenRunAgain) {
  Rng rng(2);
  const NoisyScale layer(rng, 3);
  const Tensor x = Tensor::ones({8, 3});
  EXPECT_TRUE(equal(layer(x).value(), x));
  EXPECT_EQ(layer.seen.value().at({0}), 0);
  Tape tape;
  const Variable y = checkpoint(layer, x);
  EXPECT_NEAR(layer.seen.value().at({0}), 0.1, 1e-7);
  tape.backward(sum(y));
  EXPECT_NEAR(layer.seen.value().at({0}), 0.1, 1e-7);
  EXPECT_TRUE(allclose(layer.scale.grad(), sum(y, {0}).value(), 1e-5)) << "scale is 1: what came out is what it met";
}

TEST(OwnLayer, ThePageIsTheCodeAboveAndShort) {
  EXPECT_EQ(espalier::testing::snippets_that_stand_in("tests/docs/own_layer_test.cpp", "docs/own_layer.md"), 2);
  EXPECT_LT(espalier::testing::longest_snippet("docs/own_layer.md"), 30);
}

}  // namespace mine
