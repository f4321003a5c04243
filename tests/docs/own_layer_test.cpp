// The layers of docs/own_layer.md, compiled, run, and held to the page.
#include <gtest/gtest.h>

#include "espalier/autograd/checkpoint.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
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

/// y = scale (x - m): m is the mean over the batch in training, and the running mean of those otherwise. x [N, width].
class Center final : public nn::Module {
 public:
  explicit Center(Index width) : scale(Tensor::ones({width})), running_mean(Tensor::zeros({width})) {}

  Variable operator()(const Variable& x) const {
    return forward([&] {
      if (!training()) return (x - running_mean.value()) * scale;
      const Variable m = mean(x, {0});
      running_mean.set((0.9 * Variable(running_mean.value()) + 0.1 * m.detach()).value());
      return (x - m) * scale;
    });
  }
  void members(nn::Visitor& v) override { v("scale", scale)("running_mean", running_mean); }

  Parameter scale;
  Buffer running_mean;
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

TEST(OwnLayer, RemembersAcrossBatchesAndOnceWhenRunAgain) {
  const Center layer(3);
  const Tensor x = Tensor::full({8, 3}, 5);
  EXPECT_TRUE(equal(layer(x).value(), x));
  EXPECT_EQ(layer.running_mean.value().at({0}), 0);
  Tape tape;
  const Variable y = checkpoint(layer, x);
  EXPECT_TRUE(equal(y.value(), Tensor::zeros({8, 3})));
  EXPECT_EQ(layer.running_mean.value().at({0}), 0.5);
  tape.backward(sum(y));
  EXPECT_EQ(layer.running_mean.value().at({0}), 0.5);
  EXPECT_TRUE(equal(layer.scale.grad(), Tensor::zeros({3})));
  EXPECT_EQ(layer.buffers()[0].name, "running_mean");
}

TEST(OwnLayer, ThePageIsTheCodeAboveAndShort) {
  EXPECT_EQ(espalier::testing::snippets_that_stand_in("tests/docs/own_layer_test.cpp", "docs/own_layer.md"), 2);
  EXPECT_LT(espalier::testing::longest_snippet("docs/own_layer.md"), 30);
}

}  // namespace mine
