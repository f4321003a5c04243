#include "espalier/prune/rewind.h"

#include <gtest/gtest.h>

#include "espalier/autograd/ops/activation.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/norm.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/average.h"
#include "espalier/optim/schedule.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/shrink.h"
#include "tests/support.h"

namespace espalier::prune {
namespace {

using testing::same_bytes;
using testing::throws;

class Mlp final : public nn::Module {
 public:
  explicit Mlp(Rng& rng, DType type = DType::f32) : in(rng, 6, 8, {.dtype = type}), out(rng, 8, 3, {.dtype = type}) {}
  Variable operator()(const Variable& x) const { return out(relu(in(x))); }
  void members(nn::Visitor& v) override { v("in", in)("out", out); }
  nn::Linear in, out;
};

struct Values {
  explicit Values(const ParameterList& parameters) : list(parameters) {
    for (const NamedParameter& named : parameters) all.push_back(named.parameter->value().clone());
  }
  ParameterList list;
  std::vector<Tensor> all;
};

template <class Net>
void train(const Net& net, optim::Optimizer& optimizer, std::uint64_t seed, int steps) {
  Rng rng(seed);
  for (int i = 0; i < steps; ++i) {
    const DType type = net.parameters().front().parameter->value().dtype();
    const Tensor x = rng.normal({16, 6}, 0, 1, type);
    Tensor y = Tensor::empty({16}, DType::i64);
    for (Index k = 0; k < 16; ++k) y.write<std::int64_t>("test")[k] = rng.below(3);
    Tape tape;
    tape.backward(nn::cross_entropy(net(x), y));
    optimizer.step();
  }
}

/// Live weights are the kept bytes, pruned ones +0.
void expect_ticket(const Values& start) {
  for (std::size_t i = 0; i < start.list.size(); ++i) {
    const ParameterState& p = *start.list[i].parameter;
    Tensor expected = start.all[i].clone();
    if (p.mask().defined()) zero_pruned(expected, p.mask(), "test");
    EXPECT_TRUE(same_bytes(p.value(), expected)) << start.list[i].name;
  }
}

TEST(Complaints, LotteryTicketResetDidNothing) {
  for (DType type : {DType::f32, DType::f64}) {
    Rng rng(1);
    const Mlp net(rng, type);
    const Values initial(net.parameters());
    const Rewind start(net.parameters());
    optim::Optimizer optimizer(net.parameters(), optim::adam({.lr = 1e-2}));
    train(net, optimizer, 2, 20);
    Pruner(net.parameters()).to_sparsity(0.7);
    const Mask mask = net.in.weight.mask();
    ASSERT_LT(mask.live(), mask.size());
    EXPECT_FALSE(same_bytes(net.in.bias.value(), initial.all[1]));
    start.rewind();
    expect_ticket(initial);
    EXPECT_EQ(net.in.weight.mask(), mask);
    train(net, optimizer, 3, 20);  // and once more: training must not have touched what is kept
    Pruner(net.parameters()).to_sparsity(0.9);
    start.rewind();
    expect_ticket(initial);
  }
}

TEST(Rewind, DropsGradients) {
  Rng rng(1);
  const Mlp net(rng);
  const Rewind start(net.parameters());
  Tape tape;
  tape.backward(nn::mse_loss(net(rng.normal({4, 6})), rng.normal({4, 3})));
  ASSERT_TRUE(net.in.weight.ref()->has_grad());
  start.rewind();
  EXPECT_FALSE(net.in.weight.ref()->has_grad());
}

/// Step k, more steps, back: what follows are the bytes that followed the first time.
TEST(Rewind, WithMomentsAsSavedTrainingRepeatsItself) {
  for (const bool adam : {true, false}) {
    Rng rng(4);
    const Mlp net(rng);
    const auto rate = optim::cosine({.lr = 0.05, .T_max = 30});
    optim::Optimizer optimizer(
        net.parameters(), optim::chain(adam ? optim::adam({.lr = rate}) : optim::sgd({.lr = rate, .momentum = 0.9}),
                                       optim::ema({.decay = 0.9})));
    train(net, optimizer, 5, 7);
    const Rewind early(net.parameters(), optimizer);
    EXPECT_EQ(early.step(), 7);
    train(net, optimizer, 6, 11);
    const Values first(net.parameters());
    const optim::OptimizerState state = optimizer.state();
    early.rewind(optimizer, {.moments = Moments::as_saved});
    EXPECT_EQ(optimizer.steps(), 7);
    train(net, optimizer, 6, 11);
    for (std::size_t i = 0; i < first.all.size(); ++i)
      EXPECT_TRUE(same_bytes(first.list[i].parameter->value(), first.all[i])) << adam << " " << i;
    for (const auto& [key, tensor] : optimizer.state()) EXPECT_TRUE(same_bytes(tensor, state.at(key))) << key;
  }
}

/// Moments anew: as a new optimizer whose schedule begins at step k.
TEST(Rewind, WithMomentsAnewTheNextStepIsTheFirst) {
  for (const bool adam : {true, false}) {
    Rng rng(4);
    const Mlp net(rng);
    const auto rate = optim::cosine({.lr = 0.05, .T_max = 30});
    const auto chain_of = [&](const optim::Schedule& lr) {
      return adam ? optim::adam({.lr = lr}) : optim::sgd({.lr = lr, .momentum = 0.9});
    };
    optim::Optimizer optimizer(net.parameters(), chain_of(rate));
    train(net, optimizer, 5, 7);
    const Rewind early(net.parameters(), optimizer);
    train(net, optimizer, 6, 11);
    Pruner(net.parameters()).to_sparsity(0.5);
    early.rewind(optimizer);
    const Mlp copy = net;
    optim::Optimizer fresh(copy.parameters(), chain_of([rate](std::int64_t t) { return rate(t + 7); }));
    train(net, optimizer, 8, 9);
    train(copy, fresh, 8, 9);
    const ParameterList a = net.parameters(), b = copy.parameters();
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(same_bytes(a[i].parameter->value(), b[i].parameter->value())) << adam << " " << a[i].name;
  }
}

TEST(Rewind, LearningRateAloneLeavesTheTrainedWeights) {
  Rng rng(4);
  const Mlp net(rng);
  optim::Optimizer optimizer(net.parameters(), optim::adam({.lr = 0.01}));
  train(net, optimizer, 5, 3);
  const Rewind early(net.parameters(), optimizer);
  train(net, optimizer, 6, 5);
  const Values trained(net.parameters());
  early.rewind(optimizer, {.weights = false});
  expect_ticket(trained);
  EXPECT_EQ(optimizer.steps(), 3);
  for (double m : optimizer.state("adam", "m", 0).to(DType::f64).to_vector<double>()) EXPECT_EQ(m, 0);
}

TEST(Rewind, WeightsAloneLeaveTheStep) {
  Rng rng(4);
  const Mlp net(rng);
  const Values initial(net.parameters());
  optim::Optimizer optimizer(net.parameters(), optim::adam({.lr = 0.01}));
  const Rewind start(net.parameters());  // no optimizer
  train(net, optimizer, 6, 5);
  start.rewind(optimizer, {.learning_rate = false});
  expect_ticket(initial);
  EXPECT_EQ(optimizer.steps(), 5);
  EXPECT_TRUE(throws<ConfigError>([&] { start.rewind(optimizer); }, "no optimizer was kept"));
}

TEST(Rewind, MomentsOfWhatIsPrunedNowAreZero) {
  Rng rng(4);
  const Mlp net(rng);
  optim::Optimizer optimizer(net.parameters(), optim::sgd({.lr = 0.01, .momentum = 0.9}));
  train(net, optimizer, 5, 3);
  const Rewind early(net.parameters(), optimizer);
  Pruner(net.parameters()).to_sparsity(0.5);
  early.rewind(optimizer, {.moments = Moments::as_saved});
  train(net, optimizer, 6, 4);
  const std::vector<double> m = optimizer.state("sgd", "momentum", 0).to(DType::f64).to_vector<double>();
  const Mask& mask = net.in.weight.mask();
  for (Index i = 0; i < mask.size(); ++i) {
    EXPECT_TRUE(mask[i] || m[static_cast<std::size_t>(i)] == 0) << i;
  }
}

TEST(Rewind, SoftMasksComeBackDense) {
  Rng rng(4);
  const Mlp net(rng);
  const Tensor initial = net.in.weight.value().clone();
  const Rewind start(net.parameters());
  optim::Optimizer optimizer(net.parameters(), optim::sgd({.lr = 0.1}));
  Pruner pruner(net.parameters(), {.mode = MaskMode::soft});
  pruner.to_sparsity(0.6);
  train(net, optimizer, 6, 5);
  start.rewind();
  EXPECT_TRUE(same_bytes(net.in.weight.ref()->dense(), initial));
  Tensor shown = initial.clone();
  zero_pruned(shown, net.in.weight.mask(), "test");
  EXPECT_TRUE(same_bytes(net.in.weight.value(), shown));
}

class Normed final : public nn::Module {
 public:
  explicit Normed(Rng& rng) : in(rng, 6, 3), norm(3) {}
  Variable operator()(const Variable& x) const { return norm(in(x)); }
  void members(nn::Visitor& v) override { v("in", in)("norm", norm); }
  nn::Linear in;
  nn::BatchNorm1d norm;
};

TEST(Rewind, RunningStatisticsBelongToTheWeights) {
  Rng rng(4);
  const Normed net(rng);
  const Tensor x = rng.normal({5, 6});
  const Tensor before = net(x).value();
  const Rewind start(net.parameters(), net.buffers());
  optim::Optimizer optimizer(net.parameters(), optim::sgd({.lr = 0.1}));
  train(net, optimizer, 6, 5);
  EXPECT_FALSE(same_bytes(net(x).value(), before));
  start.rewind();
  EXPECT_TRUE(same_bytes(net(x).value(), before));
}

TEST(Rewind, FollowsACut) {
  Rng rng(4);
  Mlp net(rng);
  Rewind start(net.parameters());
  optim::Optimizer optimizer(net.parameters(), optim::sgd({.lr = 0.1}));
  train(net, optimizer, 6, 5);
  const Tensor before = start.value("in.weight").clone();
  for (Parameter* p : {&net.in.weight, &net.in.bias}) {  // unit 2 dies
    Mask mask(p->size());
    const Index width = p->size() / 8;
    for (Index i = 0; i < width; ++i) mask.set(2 * width + i, false);
    p->set_mask(mask);
  }
  shrink(net, rng.normal({4, 6}), optimizer, start);
  ASSERT_EQ(net.in.weight.shape()[0], 7);
  start.rewind();
  const Tensor now = net.in.weight.value();
  EXPECT_TRUE(same_bytes(now.slice(0, 0, 2).contiguous(), before.slice(0, 0, 2).contiguous()));
  EXPECT_TRUE(same_bytes(now.slice(0, 2, 7).contiguous(), before.slice(0, 3, 8).contiguous()));
}

TEST(Rewind, ChangesNothingIfAShapeDiffers) {
  Rng rng(4);
  const Mlp net(rng);
  const Rewind start(net.parameters());
  net.out.bias.ref()->replace(Tensor::zeros({2}), Mask());
  optim::Optimizer optimizer(net.parameters(), optim::sgd({.lr = 0.1}));
  net.in.weight.ref()->set_value(Tensor::ones({8, 6}));
  EXPECT_TRUE(throws<ConfigError>([&] { start.rewind(); }, "'out.bias'"));
  EXPECT_TRUE(throws<ConfigError>([&] { start.rewind(optimizer, {.learning_rate = false}); }, "'out.bias'"));
  EXPECT_TRUE(same_bytes(net.in.weight.value(), Tensor::ones({8, 6})));
}

TEST(Rewind, CopiesToAModelOfTheSameNames) {
  Rng rng(4);
  const Mlp net(rng), other(rng);
  const Rewind start(net.parameters());
  EXPECT_EQ(start.copy_to(other.parameters()), 4);
  EXPECT_TRUE(same_bytes(other.out.weight.value(), net.out.weight.value()));
}

TEST(Rewind, IsSavedAndLoaded) {
  Rng rng(4);
  const Mlp net(rng);
  optim::Optimizer optimizer(net.parameters(), optim::adam({.lr = 0.01}));
  train(net, optimizer, 5, 3);
  const Values early(net.parameters());
  const RewindState state = Rewind(net.parameters(), optimizer).state();
  train(net, optimizer, 6, 3);
  Rewind again(net.parameters(), optimizer);
  again.load_state(state);
  EXPECT_EQ(again.step(), 3);
  again.rewind(optimizer);
  expect_ticket(early);
  RewindState broken = state;
  broken.erase("value/in.bias");
  EXPECT_TRUE(throws<ConfigError>([&] { again.load_state(broken); }, "'value/in.bias' is missing"));
  broken = state;
  broken["value/no"] = Tensor::ones({1});
  EXPECT_TRUE(throws<ConfigError>([&] { again.load_state(broken); }, "'value/no'"));
}

}  // namespace
}  // namespace espalier::prune
