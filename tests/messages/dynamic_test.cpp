// The texts of errors in when and how much is pruned.
#include "espalier/prune/dynamic.h"

#include "espalier/prune/schedule.h"
#include "espalier/prune/splice.h"
#include "tests/messages/message.h"

namespace espalier::prune {
namespace {

using espalier::testing::expect_texts;
using espalier::testing::Message;

const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

TEST(Messages, OfSparsitySchedules) {
  const Message all[] = {
      {"no sparsity", [] { linear({.end = 9}); },
       "[linear] final_sparsity must be in [0, 1], got nan. Hint: it must be given"},
      {"no end", [] { cubic({.final_sparsity = 0.5}); },
       "[cubic] needs 0 <= begin <= end, got begin 0 and end -1. Hint: .end must be given"},
      {"an end before the beginning", [] { one_cycle({.final_sparsity = 0.5, .begin = 9, .end = 8}); },
       "[one_cycle] needs 0 <= begin <= end, got begin 9 and end 8"},
      {"never", [] { exponential({.final_sparsity = 0.5, .end = 8, .every = 0}); },
       "[exponential] every must be at least 1, got 0"},
      {"a power of 0", [] { polynomial({.final_sparsity = 0.5, .end = 8, .power = 0}); },
       "[polynomial] power must be above 0, got 0"},
      {"a fall to nothing", [] { exponential({.final_sparsity = 1, .end = 8}); },
       "[exponential] final_sparsity must be below 1, got 1. Hint: cubic() and linear() reach it"},
      {"no steepness", [] { one_cycle({.final_sparsity = 0.5, .end = 8, .alpha = 0}); },
       "[one_cycle] alpha must be above 0 and finite, got 0"},
      {"an infinite delay", [] { one_cycle({.final_sparsity = 0.5, .end = 8, .beta = infinity}); },
       "[one_cycle] beta must be finite, got inf"},
      {"no fraction", [] { iterative({.end = 8}); },
       "[iterative] fraction must be in [0, 1], got nan. Hint: it must be given"},
      {"no steps", [] { steps({}); }, "[steps] there must be at least one step"},
      {"a step before the first",
       [] {
         steps({{-2, 0.5}});
       },
       "[steps] a step must not be negative, got -2"},
      {"steps that do not rise",
       [] {
         steps({{5, 0.5}, {5, 0.6}});
       },
       "[steps] steps must rise, got 5 behind 5"},
      {"a sparsity of 2",
       [] {
         steps({{5, 2}});
       },
       "[steps] the sparsity at step 5 must be in [0, 1], got 2"},
      {"a sparsity of 2 at last", [] { Schedule([](std::int64_t) { return std::optional(2.0); })(3); },
       "[schedule] the sparsity at step 3 must be in [0, 1], got 2"},
  };
  expect_texts(all);
}

TEST(Messages, OfDynamicSparseTraining) {
  const Parameter w(Tensor::ones({2, 3}), "fc.weight");
  const ParameterList list = list_of(w);
  const auto soft = [] {
    const Parameter p(Tensor::ones({2, 3}), "fc.weight");
    Mask mask(6);
    mask.set(1, false);
    p.ref()->set_mask(mask, MaskMode::soft);
    set(list_of(p), {.sparsity = 0.5});
  };
  const auto load = [=](std::map<std::string, Tensor> state) {
    return [=] { set(list, {.sparsity = 0}).load_state(state); };
  };
  const Tensor one = Tensor::from<std::int64_t>({1}, {});
  const Message all[] = {
      {"no sparsity", [=] { set(list, {}); }, "[set] sparsity must be in [0, 1], got nan. Hint: it must be given"},
      {"a fraction of 2", [=] { set(list, {.sparsity = 0.5, .fraction = 2}); },
       "[set] fraction must be in [0, 1], got 2"},
      {"never", [=] { set(list, {.sparsity = 0.5, .every = 0}); }, "[set] every must be at least 1, got 0"},
      {"nothing", [=] { set(list, {.sparsity = 0.5, .select = "x"}); },
       "[set] none of 1 parameters is selected. Hint: the default takes those of rank 2 and more; .select = "
       "optim::Select() "
       "takes all"},
      {"no length", [=] { rigl(list, {.sparsity = 0.5}); },
       "[rigl] steps must not be negative, got -1. Hint: it must be given"},
      {"a negative alpha", [=] { rigl(list, {.sparsity = 0.5, .alpha = -1, .steps = 9}); },
       "[rigl] alpha must be in [0, 1], got -1"},
      {"an end beyond the end", [=] { rigl(list, {.sparsity = 0.5, .steps = 9, .until = 1.5}); },
       "[rigl] until must be in [0, 1], got 1.5"},
      {"a distribution of nothing",
       [=] { set(list, {.sparsity = 0.5, .distribution = [](auto&, double) { return std::vector<double>(); }}); },
       "[custom] 0 sparsities for 1 parameters"},
      {"a distribution out of range",
       [=] { set(list, {.sparsity = 0.5, .distribution = [](auto&, double) { return std::vector<double>{1.5}; }}); },
       "[custom] the sparsity of 'fc.weight' must be in [0, 1], got 1.5"},
      {"a soft mask", soft, "[set] 'fc.weight' has a soft mask. Hint: freeze() it first"},
      {"no gradient", [=] { rigl(list, {.sparsity = 0, .steps = 9}).exchange(3); },
       "[rigl] no parameter has a gradient. Hint: exchange() behind backward()"},
      {"a state of nothing", load({}), "[set] 'step' is missing in the saved state"},
      {"a state too many", load({{"step", one}, {"exchanged", one}, {"x", one}}),
       "[set] the saved state has 1 entries that are not its own. Hint: make it with the same selection"},
      {"a state of another type", load({{"step", Tensor::scalar(1)}, {"exchanged", one}}),
       "[set] 'step' in the saved state is f32 of shape [], expected i64 of shape []"},
      {"an undefined state", load({{"step", Tensor()}}),
       "[set] 'step' in the saved state is undefined, expected i64 of shape []"},
  };
  expect_texts(all);
}

TEST(Messages, OfSplicing) {
  const Parameter w(Tensor::full({2, 3}, infinity), "fc.weight");
  const ParameterList list = list_of(w);
  const auto make = [=](SpliceOptions o) { return [=] { splice(list, o); }; };
  const Message all[] = {
      {"neither", make({.end = 9}), "[splice] either sparsity or c must be given"},
      {"both", make({.sparsity = 0.5, .c = 1, .end = 9}), "[splice] either sparsity or c must be given"},
      {"more than all", make({.sparsity = 2, .end = 9}), "[splice] sparsity must be in [0, 1], got 2"},
      {"an infinite c", make({.c = infinity, .end = 9}), "[splice] c must be finite, got inf"},
      {"no end", make({.c = 1}), "[splice] needs 0 <= begin <= end, got begin 0 and end -1. Hint: .end must be given"},
      {"a band upside down", make({.c = 1, .lower = 1.2, .end = 9}),
       "[splice] needs 0 <= lower <= upper, got lower 1.2 and upper 1.1"},
      {"a negative rise", make({.c = 1, .end = 9, .rise = -1}), "[splice] rise must not be negative, got -1"},
      {"a negative gamma", make({.c = 1, .end = 9, .gamma = -1}),
       "[splice] gamma must be at least 0 and finite, got -1"},
      {"a power of NaN", make({.c = 1, .end = 9, .power = nan}),
       "[splice] power must be at least 0 and finite, got nan"},
      {"less than nothing", make({.c = 1, .end = 9, .min_keep = -1}), "[splice] min_keep must not be negative, got -1"},
      {"an infinite weight", [=] { splice(list, {.c = 1, .end = 9}).update(0); },
       "[splice] 'fc.weight' is infinite at flat index 0"},
  };
  expect_texts(all);
}

}  // namespace
}  // namespace espalier::prune
