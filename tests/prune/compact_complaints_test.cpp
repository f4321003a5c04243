// What users of other pruners complain about, one test each. Numbers of threads: see docs.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/io/model_file.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/residual.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/state_dict.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/optimizer.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/shrink.h"
#include "espalier/prune/units.h"
#include "tests/prune/compact_helpers.h"

namespace espalier::prune {
namespace {

using testing::compacted, testing::fixed, testing::mask_out, testing::mentions, testing::unsettle;

constexpr DType f64 = DType::f64;

class Mlp final : public nn::Module {
 public:
  explicit Mlp(Rng& rng) : a(rng, 5, 12, {.dtype = f64}), b(rng, 12, 3, {.dtype = f64}) {}
  Variable operator()(const Variable& x) const { return b(tanh(a(x))); }
  void members(nn::Visitor& v) override { v("a", a)("b", b); }
  nn::Linear a, b;
};

TEST(Complaints, OptimizerOrphanedAfterStructuralPruning) {
  Rng rng(1);
  Mlp model(rng);
  optim::Optimizer optimizer(model.parameters(), chain(optim::adam({.lr = 0.01})));
  const auto step = [&] {
    Tape tape;
    tape.backward(mean(square(model(rng.normal({8, 5}, 0, 1, f64)))));
    return optimizer.step();
  };
  step();
  mask_units(model.a.weight, model.a.bias, model.b.weight, 5);
  shrink(model, rng.normal({2, 5}, 0, 1, f64), optimizer);
  const Tensor before = model.a.weight.value().clone();
  EXPECT_EQ(step().without_gradient, 0);
  EXPECT_EQ(optimizer.steps(), 2);
  EXPECT_EQ(model.a.weight.shape(), (Shape{7, 5}));
  EXPECT_FALSE(equal(model.a.weight.value(), before));  // it is this model that learns
}

TEST(Complaints, CannotDeepCopyAPrunedModule) {
  Rng rng(1);
  Mlp model(rng);
  Pruner(model.parameters()).to_sparsity(0.5);
  const Tensor x = rng.normal({2, 5}, 0, 1, f64);
  Mlp copy = model;
  EXPECT_EQ(copy.a.weight.mask(), model.a.weight.mask());
  EXPECT_TRUE(equal(copy(x).value(), model(x).value()));
  mask_units(model.a.weight, model.a.bias, model.b.weight, 5);
  shrink(model, x);
  Mlp small = model, deployed = compact(model, x, fixed), again = deployed;
  EXPECT_TRUE(equal(small(x).value(), model(x).value()));
  EXPECT_TRUE(equal(again(x).value(), deployed(x).value()));
}

TEST(Complaints, PrunedShapesCannotBeLoadedBack) {
  Rng rng(1);
  Mlp model(rng), fresh(rng);
  mask_units(model.a.weight, model.a.bias, model.b.weight, 5);
  const Tensor x = rng.normal({2, 5}, 0, 1, f64);
  shrink(model, x);
  const auto path = std::filesystem::temp_directory_path() / "espalier_shrunk_shapes.safetensors";
  io::save(path.string(), model);
  io::load(path.string(), fresh);  // built at the original size
  std::filesystem::remove(path);
  EXPECT_EQ(fresh.a.weight.shape(), (Shape{7, 5}));
  EXPECT_TRUE(equal(fresh(x).value(), model(x).value()));
}

TEST(Complaints, BiasOfAPrunedChannelKept) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 6, 3, {.dtype = f64}), relu, nn::Conv2d(rng, 6, 3, 3, {.dtype = f64}));
  mask_out(net.get<nn::Conv2d>(0).weight, {0, 5});  // weights only: the bias goes on
  nn::Sequential small = compacted(net, rng.normal({2, 2, 7, 7}, 0, 1, f64), rng.normal({1, 2, 6, 9}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::Conv2d>(0).bias.shape(), (Shape{4}));
}

TEST(Complaints, BatchNormAfterAPrunedConvolutionLeaksAConstant) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 6, 3, {.bias = false, .dtype = f64}), nn::BatchNorm2d(6, {.dtype = f64}), relu,
                     nn::Conv2d(rng, 6, 3, 3, {.dtype = f64}));
  unsettle(net.get<nn::BatchNorm2d>(1), rng);
  mask_out(net.get<nn::Conv2d>(0).weight, {0, 5});
  Tensor dropped = net.get<nn::Conv2d>(3).weight.value().clone();
  for (Index c : {0, 5}) dropped.select(1, c).fill(0, "test");
  nn::Sequential naive = net;
  naive.get<nn::Conv2d>(3).weight.set_value(dropped);
  const Tensor x = rng.normal({2, 2, 7, 7}, 0, 1, f64);
  EXPECT_GT(testing::difference(net(x).value(), naive(x).value()), 0.01);  // what is lost by just cutting
  nn::Sequential small = compacted(net, x, rng.normal({1, 2, 6, 9}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::BatchNorm2d>(1).running_mean.value().shape(), (Shape{4}));
}

TEST(Complaints, WholeLayerPrunedAwayNetworkDead) {
  Rng rng(1);
  nn::Sequential body(nn::Linear(rng, 6, 8, {.dtype = f64}), relu, nn::Linear(rng, 8, 6, {.dtype = f64}));
  nn::Sequential net(nn::Linear(rng, 5, 6, {.dtype = f64}), nn::Residual<nn::Sequential>(body),
                     nn::Linear(rng, 6, 3, {.dtype = f64}));
  auto& inner = net.get<nn::Residual<nn::Sequential>>(1).body.get<nn::Linear>(0);
  inner.weight.set_mask(Mask(Tensor::zeros(inner.weight.shape(), DType::boolean)));
  CompactReport report;
  nn::Sequential small = compacted(net, rng.normal({2, 5}, 0, 1, f64), rng.normal({7, 5}, 0, 1, f64), &report);
  EXPECT_EQ(small.get<nn::Residual<nn::Sequential>>(1).body.get<nn::Linear>(2).weight.shape(), (Shape{6, 0}));
  EXPECT_TRUE(mentions(report, "'1.body.0.weight' has died as a whole")) << report.table();
  // And a pruner leaves something in each layer, unless it is told otherwise.
  nn::Sequential kept(nn::Linear(rng, 5, 6), relu, nn::Linear(rng, 6, 3));
  Pruner(kept.parameters()).to_sparsity(0.99);
  EXPECT_GE(kept.get<nn::Linear>(0).weight.mask().live(), 1);
}

TEST(Complaints, ConcatAndResidualCouplingErrors) {
  class Net final : public nn::Module {
   public:
    explicit Net(Rng& rng)
        : stem(rng, 2, 4, 3, {.padding = 1, .dtype = f64}),
          left(rng, 4, 4, 3, {.padding = 1, .dtype = f64}),
          right(rng, 4, 5, 1, {.dtype = f64}),
          last(rng, 9, 3, 1, {.dtype = f64}) {}
    Variable operator()(const Variable& x) const {
      const Variable s = relu(stem(x));
      return last(relu(cat({s + left(s), right(s)}, 1)));
    }
    void members(nn::Visitor& v) override { v("stem", stem)("left", left)("right", right)("last", last); }
    nn::Conv2d stem, left, right, last;
  };
  Rng rng(1);
  Net net(rng);
  for (Parameter* p : {&net.stem.weight, &net.left.weight, &net.stem.bias, &net.left.bias}) mask_out(*p, {2});
  mask_out(net.right.weight, {0, 3});
  const Net small = compacted(net, rng.normal({2, 2, 5, 5}, 0, 1, f64), rng.normal({1, 2, 7, 4}, 0, 1, f64));
  EXPECT_EQ(small.stem.weight.shape(), (Shape{3, 2, 3, 3}));
  EXPECT_EQ(small.left.weight.shape(), (Shape{3, 3, 3, 3}));
  EXPECT_EQ(small.right.weight.shape(), (Shape{3, 3, 1, 1}));
  EXPECT_EQ(small.last.weight.shape(), (Shape{3, 6, 1, 1}));
}

TEST(Complaints, LstmAndGruStructuralPruning) {
  class Net final : public nn::Module {
   public:
    explicit Net(Rng& rng)
        : lstm(rng, 3, 8, {.dtype = f64}), gru(rng, 8, 6, {.dtype = f64}), head(rng, 6, 2, {.dtype = f64}) {}
    Variable operator()(const Variable& x) const { return head(gru(lstm(x).output).output); }
    void members(nn::Visitor& v) override { v("lstm", lstm)("gru", gru)("head", head); }
    nn::Lstm lstm;
    nn::Gru gru;
    nn::Linear head;
  };
  Rng rng(1);
  Net net(rng);
  nn::RecurrentWeights &l = net.lstm.weights(), &g = net.gru.weights();
  for (Index u : {1, 6}) {
    mask_out(l.weight_hh, {}, {u});
    mask_out(g.weight_ih, {}, {u});
  }
  for (Parameter* p : {&g.weight_ih, &g.weight_hh, &g.bias_ih, &g.bias_hh}) mask_out(*p, {4, 10, 16});
  const Tensor x = rng.normal({5, 2, 3}, 0, 1, f64);
  Net small = compacted(net, x, rng.normal({9, 1, 3}, 0, 1, f64));
  EXPECT_EQ(small.lstm.weights().weight_ih.shape(), (Shape{24, 3}));
  EXPECT_EQ(small.gru.weights().weight_ih.shape(), (Shape{15, 6}));
  EXPECT_EQ(small.head.weight.shape(), (Shape{2, 5}));
}

}  // namespace
}  // namespace espalier::prune
