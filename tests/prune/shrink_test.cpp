#include "espalier/prune/shrink.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/loss.h"
#include "espalier/autograd/ops/pool.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/parallel.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/sequential.h"
#include "espalier/optim/adafactor.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/adaptive_clip.h"
#include "espalier/optim/average.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/constraint.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/units.h"
#include "tests/prune/compact_helpers.h"

namespace espalier::prune {
namespace {

using optim::Optimizer;
using testing::difference, testing::mask_out;

/// Two hidden layers; units whose parts are all masked.
class Mlp final : public nn::Module {
 public:
  explicit Mlp(std::uint64_t seed, DType type = DType::f64)
      : rng(seed), a(rng, 5, 12, {.dtype = type}), b(rng, 12, 9, {.dtype = type}), c(rng, 9, 3, {.dtype = type}) {}
  Variable operator()(const Variable& x) const { return c(tanh(b(relu(a(x))))); }
  void members(nn::Visitor& v) override { v("a", a)("b", b)("c", c); }
  Rng rng;
  nn::Linear a, b, c;
};

struct Batch {
  Tensor x, y;
};
Batch batch(Rng& rng, DType type, const Shape& shape = {16, 5}) {
  return {rng.normal(shape, 0, 1, type), rng.normal({shape[0], 3}, 0, 1, type)};
}

template <class Model>
void train(Model& model, Optimizer& optimizer, Rng& rng, int steps, DType type, const Shape& shape = {16, 5}) {
  for (int k = 0; k < steps; ++k) {
    const Batch data = batch(rng, type, shape);
    Tape tape;
    tape.backward(mean(square(model(data.x) - Variable(data.y))));
    optimizer.step();
  }
}

using Recipe = optim::Chain (*)();
const std::pair<const char*, Recipe> recipes[] = {
    {"sgd", [] { return optim::Chain(chain(optim::sgd({.lr = 0.05, .momentum = 0.9}))); }},
    {"adam", [] { return optim::Chain(chain(optim::adam({.lr = 0.01}))); }},
    {"clip, adam, ema",
     [] {
       return optim::Chain(
           chain(optim::clip_by_global_norm(0.5), optim::adam({.lr = 0.01}), optim::ema({.decay = 0.9})));
     }},
    {"agc, sgd",
     [] {
       return optim::Chain(chain(optim::clip_adaptive({.clipping = 0.1}), optim::sgd({.lr = 0.05, .momentum = 0.9})));
     }},
};

// The promise: a step of the smaller model is the step of the larger one.
TEST(Shrink, TrainingGoesOnAsUnderTheMasks) {
  for (const auto& [name, recipe] : recipes)
    for (DType type : {DType::f32, DType::f64}) {
      SCOPED_TRACE(name);
      Mlp masked(1, type), shrunk(1, type);
      Optimizer slow(masked.parameters(), recipe()), fast(shrunk.parameters(), recipe());
      Rng data(7), same(7);
      train(masked, slow, data, 5, type);
      train(shrunk, fast, same, 5, type);
      for (Mlp* m : {&masked, &shrunk}) {
        mask_units(m->a.weight, m->a.bias, m->b.weight, 5);
        mask_units(m->b.weight, m->b.bias, m->c.weight, 4);
      }
      const auto before = shrunk.parameters();
      const CompactReport report = shrink(shrunk, data.normal({2, 5}, 0, 1, type), fast);
      same = data;
      EXPECT_EQ(report.cut_constant + report.cut_unread, 9);
      EXPECT_EQ(shrunk.a.weight.shape(), (Shape{7, 5}));
      EXPECT_EQ(shrunk.b.weight.shape(), (Shape{5, 7}));
      EXPECT_EQ(shrunk.c.weight.shape(), (Shape{3, 5}));
      EXPECT_FALSE(shrunk.b.weight.mask().defined());  // all that is left is live
      const auto after = shrunk.parameters();
      for (std::size_t k = 0; k < after.size(); ++k) EXPECT_EQ(after[k].parameter, before[k].parameter);
      const double allowed = type == DType::f64 ? 1e-11 : 1e-5;
      for (int round = 0; round < 4; ++round) {
        train(masked, slow, data, 5, type);
        train(shrunk, fast, same, 5, type);
        const Tensor x = Rng(9).normal({8, 5}, 0, 1, type);
        EXPECT_LE(difference(masked(x).value(), shrunk(x).value()), allowed) << round;
      }
      EXPECT_EQ(fast.steps(), slow.steps());
      if (std::string(name).find("ema") == std::string::npos) continue;
      const optim::AverageGuard large(slow), little(fast);
      const Tensor x = Rng(9).normal({8, 5}, 0, 1, type);
      EXPECT_LE(difference(masked(x).value(), shrunk(x).value()), allowed);
    }
}

TEST(Shrink, CutsMomentsAndAveragesWithTheirWeights) {
  Mlp model(1);
  Optimizer optimizer(model.parameters(), chain(optim::adam({.lr = 0.01}), optim::ema({.decay = 0.9})));
  Rng data(7);
  train(model, optimizer, data, 3, DType::f64);
  const optim::OptimizerState old = optimizer.state();
  const std::vector<Index> gone = mask_units(model.a.weight, model.a.bias, model.b.weight, 4);
  shrink(model, data.normal({2, 5}, 0, 1, DType::f64), optimizer);
  const optim::OptimizerState now = optimizer.state();
  ASSERT_EQ(old.size(), now.size());
  int moments = 0;
  for (const auto& [key, tensor] : now) {
    const Tensor& was = old.at(key);
    if (!key.ends_with("/a.weight") || was.rank() != 2) continue;
    ++moments;
    ASSERT_EQ(tensor.shape(), (Shape{8, 5})) << key;
    for (Index r = 0, from = 0; r < 8; ++r, ++from) {
      while (std::find(gone.begin(), gone.end(), from) != gone.end()) ++from;
      EXPECT_TRUE(equal(tensor.select(0, r), was.select(0, from))) << key;
    }
  }
  EXPECT_EQ(moments, 3);  // two moments and an average
}

TEST(Shrink, SavedStatesOfTheSmallerModelLoad) {
  Mlp model(1);
  Optimizer optimizer(model.parameters(), chain(optim::adam({.lr = 0.01})));
  Rng data(7);
  train(model, optimizer, data, 3, DType::f64);
  mask_units(model.a.weight, model.a.bias, model.b.weight, 4);
  shrink(model, data.normal({2, 5}, 0, 1, DType::f64), optimizer);
  Mlp copy = model;
  Optimizer resumed(copy.parameters(), chain(optim::adam({.lr = 0.01})));
  resumed.load_state(optimizer.state());
  Rng same = data;
  train(model, optimizer, data, 4, DType::f64);
  train(copy, resumed, same, 4, DType::f64);
  EXPECT_TRUE(equal(model.b.weight.value(), copy.b.weight.value()));  // the same bytes
}

TEST(Shrink, StatesOfUnitsAndColumns) {
  Mlp model(1, DType::f32);
  Optimizer optimizer(model.parameters(), chain(optim::adafactor({.lr = 0.01})));
  Rng data(7);
  train(model, optimizer, data, 3, DType::f32);
  mask_units(model.a.weight, model.a.bias, model.b.weight, 4);
  mask_units(model.b.weight, model.b.bias, model.c.weight, 3);
  shrink(model, data.normal({2, 5}), optimizer);
  train(model, optimizer, data, 3, DType::f32);
  for (const auto& [key, tensor] : optimizer.state()) {
    if (!key.ends_with("/b.weight") || tensor.rank() != 1 || tensor.size() < 2) continue;
    EXPECT_TRUE(tensor.size() == 6 || tensor.size() == 8) << key << tensor.shape();
  }
  EXPECT_TRUE(std::isfinite(mean(model(data.normal({2, 5}))).item()));
}

// By the mask, not by weights that happen to be 0: those may be learned yet.
TEST(Shrink, LiveZerosStay) {
  Mlp model(1);
  model.a.weight.set_value(Tensor::zeros({12, 5}, DType::f64));
  model.a.bias.set_value(Tensor::zeros({12}, DType::f64));
  Mlp masked = model;
  mask_out(masked.a.weight, {2, 7});
  Rng rng(3);
  const Tensor x = rng.normal({4, 5}, 0, 1, DType::f64);
  shrink(model, x);
  EXPECT_EQ(model.a.weight.shape(), (Shape{12, 5}));
  shrink(masked, x);
  EXPECT_EQ(masked.a.weight.shape(), (Shape{10, 5}));
  EXPECT_TRUE(equal(masked.a.weight.value(), Tensor::zeros({10, 5}, DType::f64)));  // exactly 0 as before
  EXPECT_EQ(compact(model, x, testing::fixed).a.weight.shape(), (Shape{0, 5}));
}

class ConvNet final : public nn::Module {
 public:
  explicit ConvNet(std::uint64_t seed)
      : rng(seed),
        conv1(rng, 2, 8, 3, {.bias = false, .dtype = DType::f64}),
        bn1(8, {.dtype = DType::f64}),
        conv2(rng, 8, 6, 3, {.padding = 1, .bias = false, .dtype = DType::f64}),
        bn2(6, {.dtype = DType::f64}),
        head(rng, 6 * 4, 3, {.dtype = DType::f64}) {}
  Variable operator()(const Variable& x) const {
    return head(nn::Flatten()(adaptive_avg_pool2d(relu(bn2(conv2(relu(bn1(conv1(x)))))), 2)));
  }
  void members(nn::Visitor& v) override { v("conv1", conv1)("bn1", bn1)("conv2", conv2)("bn2", bn2)("head", head); }
  Rng rng;
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
  nn::Linear head;
};

TEST(Shrink, ChannelsWithTheirNormsAndRunningStatistics) {
  ConvNet masked(1), shrunk(1);
  const auto recipe = [] { return chain(optim::adam({.lr = 0.01})); };
  Optimizer slow(masked.parameters(), recipe()), fast(shrunk.parameters(), recipe());
  Rng data(7), same(7);
  const Shape shape{8, 2, 6, 6};
  train(masked, slow, data, 3, DType::f64, shape);
  train(shrunk, fast, same, 3, DType::f64, shape);
  for (ConvNet* m : {&masked, &shrunk})
    for (auto [weight, gain, bias] : {std::tuple{&m->conv1.weight, &m->bn1.weight, &m->bn1.bias},
                                      std::tuple{&m->conv2.weight, &m->bn2.weight, &m->bn2.bias}})
      for (Parameter* p : {weight, gain, bias}) mask_out(*p, {1, 4});
  shrink(shrunk, data.normal({2, 2, 6, 6}, 0, 1, DType::f64), fast);
  same = data;
  EXPECT_EQ(shrunk.conv1.weight.shape(), (Shape{6, 2, 3, 3}));
  EXPECT_EQ(shrunk.conv2.weight.shape(), (Shape{4, 6, 3, 3}));
  EXPECT_EQ(shrunk.bn2.running_var.value().shape(), (Shape{4}));
  EXPECT_EQ(shrunk.head.weight.shape(), (Shape{3, 16}));
  for (int round = 0; round < 3; ++round) {
    train(masked, slow, data, 3, DType::f64, shape);
    train(shrunk, fast, same, 3, DType::f64, shape);
    const Tensor x = Rng(9).normal({4, 2, 5, 7}, 0, 1, DType::f64);
    EXPECT_LE(difference(masked(x).value(), shrunk(x).value()), 1e-9) << round;
  }
}

TEST(Shrink, SeveralOptimizersAndAPruner) {
  Mlp model(1);
  Optimizer first({model.a.parameters()}, chain(optim::sgd({.lr = 0.05, .momentum = 0.9})));
  ParameterList rest = model.b.parameters();
  for (const NamedParameter& p : model.c.parameters()) rest.push_back({"c." + p.name, p.parameter});
  Optimizer second(rest, chain(optim::adam({.lr = 0.01})));
  Pruner pruner(model.parameters());
  pruner.snapshot();
  mask_units(model.a.weight, model.a.bias, model.b.weight, 4);
  Rng data(7);
  shrink(model, data.normal({2, 5}, 0, 1, DType::f64), first, second, pruner);
  const Batch b = batch(data, DType::f64);
  Tape tape;
  tape.backward(mean(square(model(b.x) - Variable(b.y))));
  first.step();
  second.step();
  pruner.undo();  // masks of what is left, as they were
  EXPECT_EQ(model.a.weight.shape(), (Shape{8, 5}));
  EXPECT_FALSE(model.a.weight.mask().defined());
  EXPECT_EQ(pruner.state().at("snapshot/a.weight/value").shape(), (Shape{8, 5}));
}

TEST(Shrink, AnOptimizerThatWasLeftOutSaysSo) {
  Mlp model(1);
  Optimizer optimizer(model.parameters(), chain(optim::sgd({.lr = 0.05})));
  mask_units(model.a.weight, model.a.bias, model.b.weight, 4);
  Rng data(7);
  shrink(model, data.normal({2, 5}, 0, 1, DType::f64));
  EXPECT_THROW(train(model, optimizer, data, 1, DType::f64), ConfigError);
}

TEST(Shrink, SoftMasksAndGradientsAreCutToo) {
  Mlp model(1);
  mask_units(model.a.weight, model.a.bias, model.b.weight, 4);
  Mask mask = model.a.weight.mask();
  for (Index i = 0; i < mask.size(); i += 7) mask.set(i, false);
  Mlp soft(1);
  soft.a.weight.set_mask(mask, MaskMode::soft);
  soft.a.bias.set_mask(model.a.bias.mask(), MaskMode::soft);
  soft.b.weight.set_mask(model.b.weight.mask(), MaskMode::soft);
  Rng data(7);
  const Batch b = batch(data, DType::f64);
  const auto backward = [&] {
    Tape tape;
    tape.backward(mean(square(soft(b.x) - Variable(b.y))));
  };
  backward();
  const Tensor gradient = soft.c.weight.grad().clone(), dense = soft.a.weight.ref()->dense().clone();
  shrink(soft, b.x);
  EXPECT_EQ(soft.a.weight.shape(), (Shape{8, 5}));
  EXPECT_EQ(soft.a.weight.ref()->mask_mode(), MaskMode::soft);
  EXPECT_EQ(soft.a.weight.ref()->dense().shape(), (Shape{8, 5}));
  EXPECT_EQ(soft.a.weight.grad().shape(), (Shape{8, 5}));
  EXPECT_TRUE(equal(soft.c.weight.grad(), gradient));
  Index live = 0;
  for (Index i = 0; i < 40; ++i) live += soft.a.weight.value().to_vector<double>()[static_cast<std::size_t>(i)] != 0;
  EXPECT_EQ(live, soft.a.weight.mask().live());
  EXPECT_GT(40, live);
}

/// Everything of a model and its optimizer, as bytes.
std::vector<std::vector<double>> everything(const nn::Module& model, const Optimizer& optimizer) {
  std::vector<std::vector<double>> all;
  for (const NamedParameter& p : model.parameters())
    all.push_back(p.parameter->value().to(DType::f64).to_vector<double>());
  for (const NamedBuffer& b : model.buffers()) all.push_back(b.buffer->value().to(DType::f64).to_vector<double>());
  for (const auto& [key, tensor] : optimizer.state()) all.push_back(tensor.to(DType::f64).to_vector<double>());
  return all;
}

struct Refusing {
  optim::Commit prepare_cut(std::span<const optim::ParameterCut>) { fail<ConfigError>("[refusing] no"); }
};

TEST(Shrink, AllOrNothing) {
  ConvNet model(1);
  Optimizer optimizer(model.parameters(), chain(optim::adam({.lr = 0.01})));
  Rng data(7);
  train(model, optimizer, data, 2, DType::f64, {8, 2, 6, 6});
  for (Parameter* p : {&model.conv1.weight, &model.bn1.weight, &model.bn1.bias}) mask_out(*p, {1, 4});
  const auto before = everything(model, optimizer);
  Refusing refusing;
  const Tensor x = data.normal({2, 2, 6, 6}, 0, 1, DType::f64);
  EXPECT_THROW(shrink(model, x, optimizer, refusing), ConfigError);
  EXPECT_THROW(shrink(model, Tensor(), optimizer), ConfigError);
  EXPECT_THROW(shrink(model, data.normal({2, 3, 6, 6}, 0, 1, DType::f64), optimizer), ShapeError);
  EXPECT_THROW(shrink(model, x, {.tolerance = -1}, optimizer), ConfigError);
  EXPECT_THROW(shrink(model, x, {.round_to = -3}, optimizer), ConfigError);
  EXPECT_EQ(everything(model, optimizer), before);
  train(model, optimizer, data, 1, DType::f64, {8, 2, 6, 6});
}

TEST(Shrink, NothingToCutChangesNothing) {
  Mlp model(1);
  Optimizer optimizer(model.parameters(), chain(optim::adam({.lr = 0.01})));
  Rng data(7);
  train(model, optimizer, data, 2, DType::f64);
  const auto before = everything(model, optimizer);
  const CompactReport report = shrink(model, data.normal({2, 5}, 0, 1, DType::f64), optimizer);
  EXPECT_EQ(everything(model, optimizer), before);
  EXPECT_EQ(report.cut_constant + report.cut_unread, 0);
  EXPECT_FALSE(model.a.weight.ref()->resized());
  train(model, optimizer, data, 1, DType::f64);
}

TEST(Shrink, HiddenUnitsOfALstmWhileItLearns) {
  class Net final : public nn::Module {
   public:
    explicit Net(std::uint64_t seed)
        : rng(seed),
          lstm(rng, 4, 6, {.batch_first = true, .dtype = DType::f64}),
          head(rng, 6, 3, {.dtype = DType::f64}) {}
    Variable operator()(const Variable& x) const { return head(mean(lstm(x).output, {1})); }
    void members(nn::Visitor& v) override { v("lstm", lstm)("head", head); }
    Rng rng;
    nn::Lstm lstm;
    nn::Linear head;
  };
  Net masked(1), shrunk(1);
  const auto recipe = [] { return chain(optim::adam({.lr = 0.01})); };
  Optimizer slow(masked.parameters(), recipe()), fast(shrunk.parameters(), recipe());
  Rng data(7), same(7);
  const Shape shape{4, 5, 4};
  train(masked, slow, data, 2, DType::f64, shape);
  train(shrunk, fast, same, 2, DType::f64, shape);
  for (Net* m : {&masked, &shrunk}) {
    nn::RecurrentWeights& w = m->lstm.weights();
    for (Index u : {1, 4}) {
      for (Parameter* p : {&w.weight_ih, &w.weight_hh, &w.bias_ih, &w.bias_hh})
        mask_out(*p, {u, 6 + u, 12 + u, 18 + u});
      mask_out(w.weight_hh, {}, {u});
      mask_out(m->head.weight, {}, {u});
    }
  }
  shrink(shrunk, data.normal({2, 5, 4}, 0, 1, DType::f64), fast);
  same = data;
  EXPECT_EQ(shrunk.lstm.weights().hidden(), 4);
  train(masked, slow, data, 6, DType::f64, shape);
  train(shrunk, fast, same, 6, DType::f64, shape);
  const Tensor x = Rng(9).normal({3, 7, 4}, 0, 1, DType::f64);
  EXPECT_LE(difference(masked(x).value(), shrunk(x).value()), 1e-11);
}

TEST(Shrink, RoundNumbersKeepTheBestOfTheDead) {
  for (Index round_to : {0, 4, 8}) {
    Rng rng(3);
    nn::Sequential net(nn::Linear(rng, 5, 20), relu, nn::Linear(rng, 20, 3));
    auto& next = net.get<nn::Linear>(2).weight;
    mask_out(next, {}, {0, 1, 2, 3, 4, 5, 6, 7, 8});  // unread; 11 are read
    Tensor w = net.get<nn::Linear>(0).weight.value().clone();
    w.select(0, 6).fill(10, "test");  // the best
    net.get<nn::Linear>(0).weight.set_value(w);
    CompactReport report = shrink(net, rng.normal({2, 5}), {.round_to = round_to});
    const Index expected = round_to == 8 ? 16 : round_to == 4 ? 12 : 11;
    EXPECT_EQ(net.get<nn::Linear>(0).weight.shape(), (Shape{expected, 5}));
    if (round_to == 0) continue;
    EXPECT_TRUE(testing::mentions(report, "up round numbers")) << report.table();
    bool has_best = false;
    for (Index r = 0; r < expected; ++r) has_best |= net.get<nn::Linear>(0).weight.value().at({r, 0}) == 10;
    EXPECT_TRUE(has_best);
  }
}

TEST(Shrink, MeasuredRoundNumbers) {
  Rng rng(3);
  nn::Sequential net(nn::Conv2d(rng, 3, 24, 3), relu, nn::Conv2d(rng, 24, 20, 3), relu, nn::Flatten(),
                     nn::Linear(rng, 20 * 16, 3));
  for (std::size_t k : {0u, 2u}) {
    mask_out(net.get<nn::Conv2d>(k).weight, {0, 1, 2});
    mask_out(net.get<nn::Conv2d>(k).bias, {0, 1, 2});
  }
  const Tensor x = rng.normal({2, 3, 8, 8});
  nn::Sequential measured = net, by_rule = net;
  shrink(measured, x, {.round_to = round_measured});
  EXPECT_GE(measured.get<nn::Conv2d>(0).weight.shape()[0], 21);
  shrink(by_rule, x, {.round_to = round_measured, .kernels = Kernels::fixed});
  EXPECT_EQ(by_rule.get<nn::Conv2d>(0).weight.shape()[0], 24);
  EXPECT_EQ(by_rule.get<nn::Conv2d>(2).weight.shape()[0], 20);
  EXPECT_LE(difference(net(x).value(), by_rule(x).value()), 1e-5);
}

}  // namespace
}  // namespace espalier::prune
