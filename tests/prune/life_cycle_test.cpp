// What becomes of masks: freeze, thaw, undo, strip; how choices add up; what is written down.
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/sgd.h"
#include "tests/prune/granularity_helpers.h"

namespace espalier::prune {
namespace {

using testing::parameter;
using testing::picture;
using testing::pruned_in;
using testing::values_of;
using Values = std::vector<double>;

/// One step of plain descent on sum (w - target)^2 / 2.
void step(optim::Optimizer& optimizer, const Parameter& w, double target) {
  Tape tape;
  tape.backward(sum(square(w - target)) * 0.5);
  optimizer.step();
}

TEST(LifeCycle, ThawLetsPrunedWeightsLearnButNotSpeak) {
  const Parameter w = parameter({1, -2, 3, 4}, {2, 2});
  Pruner pruner(list_of(w));
  pruner.to_sparsity(0.5);
  pruner.thaw();
  EXPECT_EQ(picture(w), "0011");
  EXPECT_EQ(w.ref()->mask_mode(), MaskMode::soft);
  optim::Optimizer optimizer(list_of(w), optim::sgd({.lr = 0.5}));
  step(optimizer, w, 10);
  EXPECT_EQ(values_of(w.value()), (Values{0, 0, 6.5, 7}));
  EXPECT_EQ(values_of(w.ref()->dense()), (Values{5, 5, 6.5, 7}));  // from 0: what was gone is gone
  for (int k = 0; k < 2; ++k) step(optimizer, w, 0);  // values of pruned weights are 0: so is their gradient
  pruner.to_sparsity(0.5);                            // chosen anew, from the dense weights
  EXPECT_EQ(picture(w), "1100");
  EXPECT_EQ(values_of(w.value()), (Values{5, 5, 0, 0}));
  pruner.freeze();
  EXPECT_EQ(w.ref()->mask_mode(), MaskMode::hard);
  EXPECT_FALSE(w.ref()->dense().defined());
}

TEST(LifeCycle, StripLeavesPlainZeros) {
  for (const MaskMode mode : {MaskMode::hard, MaskMode::soft}) {
    const Parameter w = parameter({1, -2, 3, 4}, {2, 2});
    Pruner pruner(list_of(w), {.mode = mode});
    pruner.to_sparsity(0.5);
    pruner.strip();
    EXPECT_FALSE(w.mask().defined());
    EXPECT_FALSE(w.ref()->dense().defined());
    EXPECT_EQ(values_of(w.value()), (Values{0, 0, 3, 4}));
    EXPECT_EQ(pruner.sparsity(), 0);
    optim::Optimizer optimizer(list_of(w), optim::sgd({.lr = 0.5}));
    step(optimizer, w, 10);
    EXPECT_EQ(values_of(w.value()), (Values{5, 5, 6.5, 7}));  // nothing holds them
  }
}

TEST(LifeCycle, TheFourVerbsAreWrittenDown) {
  const Parameter w = parameter({1, -2, 3, 4}, {2, 2});
  Pruner pruner(list_of(w), {.schedule = cubic({.final_sparsity = 0.5, .begin = 0, .end = 2, .every = 1})});
  optim::Optimizer optimizer(list_of(w), optim::sgd({.lr = 0}));
  optimizer.attach(pruner);
  for (int k = 0; k < 3; ++k) step(optimizer, w, 0);
  pruner.snapshot();
  pruner.prune_count(1);
  pruner.undo();
  pruner.thaw();
  pruner.prune_fraction(0.5);
  pruner.freeze();
  pruner.strip();
  const PruneHistory expected{
      {0, "cubic 0", 0, 0}, {1, "cubic 0.4375", 0, 2}, {2, "cubic 0.5", 2, 2},           {-1, "prune_count 1", 2, 3},
      {-1, "undo", 3, 2},   {-1, "thaw", 2, 2},        {-1, "prune_fraction 0.5", 2, 3}, {-1, "freeze", 3, 3},
      {-1, "strip", 3, 0}};
  EXPECT_EQ(pruner.history(), expected);
}

TEST(LifeCycle, HistoryIsSavedAndTheSameThingAgainIsOneEntry) {
  const Parameter w = parameter({1, -2, 3, 4}, {2, 2});
  const PrunerOptions options{.schedule = constant({.sparsity = 0.5, .every = 1}), .mode = MaskMode::soft};
  Pruner pruner(list_of(w), options);
  optim::Optimizer optimizer(list_of(w), optim::sgd({.lr = 0.01}));
  optimizer.attach(pruner);
  for (int k = 0; k < 100; ++k) step(optimizer, w, 0);
  EXPECT_EQ(pruner.history(), (PruneHistory{{99, "constant 0.5", 0, 2, 100}}));
  pruner.to_sparsity(0.25);
  Pruner again(list_of(w), options);
  again.load_state(pruner.state());
  EXPECT_EQ(again.history(), pruner.history());
  EXPECT_EQ(again.history().back(), (PruneEvent{-1, "to_sparsity 0.25", 2, 1}));
  PrunerState state = pruner.state();
  for (const std::string wrong : {"", "1 2 3", "1 2 3 x y", "nothing\n"}) {
    std::vector<std::uint8_t> bytes(wrong.begin(), wrong.end());
    state["history"] = Tensor::from<std::uint8_t>(bytes, {static_cast<Index>(bytes.size())});
    if (wrong.empty())
      EXPECT_NO_THROW(again.load_state(state));
    else
      EXPECT_THROW(again.load_state(state), ConfigError) << wrong;
  }
  state["history"] = Tensor::zeros({4});
  EXPECT_THROW(again.load_state(state), ConfigError);
}

TEST(LifeCycle, FailedPruningIsNotHistory) {
  const Parameter w = parameter({1, -2, 3, 4}, {2, 2});
  Pruner pruner(list_of(w));
  EXPECT_THROW(pruner.to_sparsity(2), ConfigError);
  EXPECT_TRUE(pruner.history().empty());
  EXPECT_FALSE(pruner.state().contains("history"));
}

void set_dense(const Parameter& w, const std::vector<float>& to) {
  std::copy(to.begin(), to.end(), w.ref()->mutable_dense().write<float>("test"));
}

TEST(Combine, ReplacesIntersectsAndUnitesSoftMasks) {
  for (const auto& [combine, expected] : std::vector<std::pair<Combine, std::string>>{
           {Combine::replace, "1100"}, {Combine::intersect, "0000"}, {Combine::unite, "1111"}}) {
    const Parameter w = parameter({1, 2, 3, 4}, {4});
    Pruner pruner(list_of(w), {.select = optim::Select(), .mode = MaskMode::soft, .combine = combine});
    pruner.to_sparsity(0.5);
    EXPECT_EQ(picture(w), "0011");
    set_dense(w, {4, 3, 2, 1});
    pruner.to_sparsity(0.5);
    EXPECT_EQ(picture(w), expected);
  }
}

TEST(Combine, WholePiecesStayWhole) {
  for (const Combine combine : {Combine::replace, Combine::intersect, Combine::unite}) {
    Rng rng(1);
    const Parameter w(rng.normal({9, 7}), "w");
    Pruner pruner(list_of(w),
                  {.granularity = blocks({.rows = 2, .columns = 3}), .mode = MaskMode::soft, .combine = combine});
    std::vector<Index> number;
    for (Index i = 0; i < 63; ++i) number.push_back(i / 7 / 2 * 3 + i % 7 / 3);
    for (int k = 0; k < 5; ++k) {
      pruner.to_sparsity(0.3);
      testing::expect_whole(w, number, "blocks");
      if (!w.mask().defined()) break;  // united to all of it
      set_dense(w, rng.normal({63}).to_vector<float>());
    }
  }
}

// The complaint: a mask that was multiplied into the one before, step after step, ended with nothing live.
TEST(Complaints, MaskAccumulatesToZeroOverSteps) {
  Rng rng(2);
  const Parameter w(rng.normal({20, 20}), "w");
  Pruner pruner(list_of(w), {.schedule = constant({.sparsity = 0.5, .every = 1}), .mode = MaskMode::soft});
  Pruner asked(list_of(w), {.mode = MaskMode::soft, .combine = Combine::intersect});
  optim::Optimizer optimizer(list_of(w), optim::sgd({.lr = 0.1}));
  optimizer.attach(pruner);
  std::string last;
  int changes = 0;
  for (int k = 0; k < 50; ++k) {
    Tape tape;
    tape.backward(sum(w * rng.normal({20, 20}, 0, 5)));
    optimizer.step();
    EXPECT_EQ(pruned_in(w), 200);
    changes += picture(w) != last;
    last = picture(w);
  }
  EXPECT_GT(changes, 40);  // another choice nearly each time, of the same size
  set_dense(w, rng.normal({400}).to_vector<float>());
  asked.to_sparsity(0.5);  // who asks for it has it
  EXPECT_GT(pruned_in(w), 250);
}

TEST(Combine, HardMasksCannotBeUnited) {
  const Parameter w = parameter({1, 2, 3, 4}, {2, 2});
  EXPECT_THROW(Pruner(list_of(w), {.combine = Combine::unite}), ConfigError);
  Pruner pruner(list_of(w), {.mode = MaskMode::soft, .combine = Combine::unite});
  pruner.freeze();
  pruner.to_sparsity(0.5);  // from now on as any in hard mode
  EXPECT_EQ(picture(w), "0011");
}

}  // namespace
}  // namespace espalier::prune
