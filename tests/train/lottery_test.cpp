#include "espalier/train/lottery.h"

#include <gtest/gtest.h>

#include "espalier/autograd/ops/activation.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/optim/sgd.h"
#include "tests/support.h"

namespace espalier::train {
namespace {

using testing::same_bytes;

class Mlp final : public nn::Module {
 public:
  explicit Mlp(Rng& rng) : in(rng, 10, 20), out(rng, 20, 5) {}
  Variable operator()(const Variable& x) const { return out(relu(in(x))); }
  void members(nn::Visitor& v) override { v("in", in)("out", out); }
  nn::Linear in, out;
};

void train(const Mlp& net, std::uint64_t seed, int steps = 5) {
  Rng rng(seed);
  optim::Optimizer optimizer(net.parameters(), optim::sgd({.lr = 0.1, .momentum = 0.9}));
  for (int i = 0; i < steps; ++i) {
    Tape tape;
    tape.backward(nn::mse_loss(net(rng.normal({8, 10})), rng.normal({8, 5})));
    optimizer.step();
  }
}

TEST(Lottery, EveryRoundStartsFromTheInitialWeightsWithFewerOfThem) {
  Rng rng(1);
  Mlp net(rng);
  const Tensor first = net.in.weight.value().clone(), last = net.out.weight.value().clone(),
               bias = net.in.bias.value().clone();
  std::vector<Index> live_in, live_out;
  const auto rounds =
      lottery(net,
              [&](const Mlp& m, Index round) {
                Tensor expected = first.clone();
                if (m.in.weight.mask().defined()) zero_pruned(expected, m.in.weight.mask(), "test");
                EXPECT_TRUE(same_bytes(m.in.weight.value(), expected)) << round;
                EXPECT_TRUE(same_bytes(m.in.bias.value(), bias)) << round;
                live_in.push_back(prune::live_weights(*m.in.weight.ref()));
                live_out.push_back(prune::live_weights(*m.out.weight.ref()));
                train(m, static_cast<std::uint64_t>(round) + 7);
                return LotteryOutcome{.metric = 10.0 + static_cast<double>(round), .early_stop = 100 - round};
              },
              {.rounds = 3, .rules = {{"out.*weight", 0.1}, {optim::select_rank(2), 0.2}}});
  EXPECT_EQ(live_in, (std::vector<Index>{200, 160, 128, 102}));
  EXPECT_EQ(live_out, (std::vector<Index>{100, 90, 81, 73}));
  ASSERT_EQ(rounds.size(), 4u);
  EXPECT_EQ(rounds[0].left, 1);
  EXPECT_DOUBLE_EQ(rounds[3].left, 175.0 / 300);
  EXPECT_EQ(rounds[2].metric, 12);
  EXPECT_EQ(rounds[2].early_stop, 98);
  EXPECT_NE(lottery_table(rounds).find("58.3 %"), std::string::npos) << lottery_table(rounds);
}

/// What goes are the smallest weights of the trained network, not of the initial one.
TEST(Lottery, PrunesByTheTrainedWeights) {
  Rng rng(1);
  Mlp net(rng);
  Tensor trained;
  lottery(net,
          [&](const Mlp& m, Index round) {
            train(m, 3, 20);
            if (round == 0) trained = m.in.weight.value().clone();
            return LotteryOutcome{};
          },
          {.rounds = 1, .rules = {{"in.weight", 0.5}}});
  const std::vector<float> w = trained.to_vector<float>();
  float largest_gone = 0, smallest_kept = 1e9F;
  for (Index i = 0; i < 200; ++i) {
    const float size = std::abs(w[static_cast<std::size_t>(i)]);
    if (net.in.weight.mask()[i])
      smallest_kept = std::min(smallest_kept, size);
    else
      largest_gone = std::max(largest_gone, size);
  }
  EXPECT_LE(largest_gone, smallest_kept);
  EXPECT_GT(largest_gone, 0);
}

TEST(Lottery, GoesOnWhereItWasStopped) {
  const auto round_of = [](const Mlp& m, Index round) {
    train(m, static_cast<std::uint64_t>(round));
    return LotteryOutcome{};
  };
  Rng rng(1);
  Mlp whole(rng);
  Mlp part = whole;
  const prune::Rewind start(part.parameters());
  lottery(whole, round_of, {.rounds = 4});
  lottery(part, round_of, {.rounds = 2});
  const auto rest = lottery(part, round_of, {.rounds = 4, .start = start, .first_round = 3});
  ASSERT_EQ(rest.size(), 2u);
  EXPECT_EQ(rest[0].round, 3);
  EXPECT_TRUE(same_bytes(whole.in.weight.value(), part.in.weight.value()));
  EXPECT_EQ(whole.out.weight.mask(), part.out.weight.mask());
}

TEST(Lottery, WithoutRewindTheTrainedWeightsGoOn) {
  Rng rng(1);
  Mlp net(rng);
  Tensor before;
  lottery(net,
          [&](const Mlp& m, Index round) {
            if (round == 1) {
              zero_pruned(before, m.out.weight.mask(), "test");
              EXPECT_TRUE(same_bytes(m.out.weight.value(), before));
            }
            train(m, 2);
            before = m.out.weight.value().clone();
            return LotteryOutcome{};
          },
          {.rounds = 1, .rewind = false});
}

TEST(Lottery, GlobalScopeLetsLayersCompete) {
  Rng rng(1);
  Mlp net(rng);
  net.in.weight.set_value(Tensor::full({20, 10}, 0.01));
  lottery(net, [](const Mlp&, Index) { return LotteryOutcome{}; },
          {.rounds = 1, .rules = {{optim::select_rank(2), 0.5}}, .scope = prune::Scope::global});
  EXPECT_EQ(prune::live_weights(*net.out.weight.ref()) + prune::live_weights(*net.in.weight.ref()), 150);
  EXPECT_GT(prune::live_weights(*net.out.weight.ref()), 80);
}

}  // namespace
}  // namespace espalier::train
