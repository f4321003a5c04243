// The texts of errors in what is pruned, how much of it, and in what pieces.
#include "espalier/prune/pruner.h"

#include <limits>

#include "espalier/prune/groups.h"
#include "espalier/prune/scores_weight.h"
#include "tests/messages/message.h"

namespace espalier::prune {
namespace {

using espalier::testing::expect_texts;
using espalier::testing::Message;

const double nan = std::numeric_limits<double>::quiet_NaN();

/// Prunes half in these pieces.
std::function<void()> prune(const ParameterList& list, const Granularity& granularity, const Score& score = magnitude(),
                            double sparsity = 0.5) {
  return [=] { Pruner(list, {.score = score, .granularity = granularity}).to_sparsity(sparsity); };
}

TEST(Messages, OfGranularities) {
  const Parameter w(Tensor::ones({4, 3}), "fc.weight"), cube(Tensor::ones({2, 2, 2}), "conv.weight"),
      bias(Tensor::ones({3}), "fc.bias"), scalar(Tensor::scalar(1), "t"), bad(Tensor::full({2, 2}, nan), "bad.weight");
  const ParameterList list = list_of(w);
  const auto any = [](const Parameter& p, const Granularity& g) {
    return [p = list_of(p), g] { Pruner(p, {.granularity = g, .select = optim::Select()}).to_sparsity(0.5); };
  };
  const Message all[] = {
      {"a score of units for weights", prune(list, elements(), fpgm()),
       "[to_sparsity] fpgm scores whole units of 'fc.weight', and single weights are pruned here. Hint: .granularity = "
       "units({.axis = 0})"},
      {"a score of other units", prune(list, columns(), fpgm()),
       "[to_sparsity] fpgm scores units of axis 0 of 'fc.weight', and units of axis 1 are pruned here"},
      {"a score of units for blocks", prune(list, blocks({.rows = 2, .columns = 2, .pool = Pool::max()}), fpgm()),
       "[to_sparsity] fpgm scores units of axis 0 of 'fc.weight', and blocks of 2 x 2 (max) are pruned here"},
      {"a score of units for a pattern", prune(list, n_m(), fpgm()),
       "[to_sparsity] fpgm scores whole units of 'fc.weight', and 2:4 needs a score for each weight"},
      {"an axis that is not there", prune(list, units({.axis = 2})),
       "[pruner] 'fc.weight' has no units of axis 2: [units] axis 2 is outside [-2, 1]. "
       "Hint: "
       "leave it out of the selection"},
      {"kernels of a matrix", prune(list, kernels()),
       "[pruner] 'fc.weight' has no kernels: [kernels] a weight of shape [4, 3] is not one of a convolution. Hint: "
       "leave "
       "it out of the selection"},
      {"blocks of a vector", any(bias, blocks()),
       "[pruner] 'fc.bias' has no blocks of 1 x 8: [blocks] shape [3] is no matrix. Hint: leave it out of the "
       "selection"},
      {"blocks of nothing", [] { blocks({.rows = 0}); },
       "[blocks] a block must have at least one row and column, got 0 x 8"},
      {"pieces of too few weights",
       prune(list, Granularity("mine", [](const Shape&) { return std::vector<Index>(3); })),
       "[pruner] mine number 3 weights of 'fc.weight' of shape [4, 3]"},
      {"pieces below 0", prune(list, Granularity("mine", [](const Shape&) { return std::vector<Index>(12, -1); })),
       "[pruner] mine give the number -1 to a piece of 'fc.weight' of shape [4, 3]"},
      {"a NaN in a block", prune(list_of(bad), blocks()),
       "[prune] the score of 'bad.weight' is NaN at block 0. Hint: check the weights and gradients; nothing was "
       "pruned"},
      {"no kept", [] { n_m({.keep = 0}); }, "[n_m] needs 1 <= keep < of, got keep 0 of 4"},
      {"all kept", [] { n_m({.keep = 4}); }, "[n_m] needs 1 <= keep < of, got keep 4 of 4"},
      {"two directions", [] { n_m({.axis = 1, .lowered = true}); },
       "[n_m] lowered groups run along rows; they take no axis"},
      {"large tiles", [] { n_m({.keep = 4, .of = 8, .transposable = true}); },
       "[n_m] a transposable pattern needs of <= 4, got 8: all of them are tried"},
      {"more than the pattern", prune(list, n_m(), magnitude(), 0.9),
       "[to_sparsity] 2:4 prunes at most 0.5 of the weights, asked for 0.9. Hint: 0.5 is the whole pattern"},
      {"no sparsity", prune(list, n_m(), magnitude(), nan), "[to_sparsity] the fraction must be in [0, 1], got nan"},
      {"a pattern of a scalar", any(scalar, n_m()), "[n_m] 't' is a scalar and has no groups"},
      {"a pattern along no axis", prune(list, n_m({.axis = 2})),
       "[n_m] 'fc.weight' of shape [4, 3] has no axis 2. Hint: leave it out of the selection"},
      {"a transposable vector", any(bias, n_m({.transposable = true})),
       "[n_m] a transposable pattern is of a matrix of axis 0 and another; 'fc.bias' of shape [3] has none along axis "
       "0"},
      {"no groups", prune(list, dependency_groups(std::vector<UnitGroup>())),
       "[pruner] none of the 0 groups of units is of a weight that is selected. Hint: a copied model has parameters of "
       "its own; make both from the same model"},
  };
  expect_texts(all);
}

TEST(Messages, OfDistributions) {
  const Parameter a(Tensor::ones({4, 5}), "a"), b(Tensor::ones({4, 20}), "b"), bias(Tensor::ones({3}), "bias");
  const ParameterList list = list_of(a, b);
  auto ask = [=](const Distribution& d, double s) { return [=] { d(list, s); }; };
  const Message all[] = {
      {"too much exempt", ask(erk({.exempt = "b"}), 0.9),
       "[erk] those that stay dense have more weights than the 10 of a sparsity of 0.9. Hint: exempt fewer"},
      {"no sparsity", ask(erdos_renyi(), 1.5), "[erdos_renyi] the sparsity must be in [0, 1], got 1.5"},
      {"NaN", ask(uniform(), nan), "[uniform] the sparsity must be in [0, 1], got nan"},
      {"a table of NaN",
       [] {
         table({{"*", nan}});
       },
       "[table] a sparsity must be in [0, 1], got nan"},
      {"a row for nobody", ask(table({{"a", 0.5}, {"c", 0.5}}), 0.1),
       "[table] row 1 is the first to match of none of the 2 parameters. Hint: rows are asked in their order; \"*\" "
       "goes "
       "last"},
      {"more than the table", ask(table({{"*", 0.5}}), 0.75),
       "[table] it comes to a sparsity of 0.5, asked for 0.75. Hint: table_sparsity() says what it comes to"},
      {"too few", ask(Distribution([](const ParameterList&, double) { return std::vector<double>{0.5}; }), 0.5),
       "[custom] 1 sparsities for 2 parameters"},
      {"too much of one",
       ask(Distribution("mine",
                        [](const ParameterList&, double) {
                          return std::vector<double>{0.5, 2};
                        }),
           0.5),
       "[mine] the sparsity of 'b' must be in [0, 1], got 2"},
      {"a distribution of what is global", [=] { Pruner(list, {.distribution = erk()}); },
       "[pruner] .distribution = erk says how much of each tensor is pruned. Hint: .scope = Scope::tensor"},
      {"no first", [=] { optim::all_but_first(list_of(bias)); },
       "[all_but_first] none of 1 parameters has rank 2 or more"},
      {"no last", [=] { optim::all_but_last(list_of(bias)); },
       "[all_but_last] none of 1 parameters has rank 2 or more"},
  };
  expect_texts(all);
}

TEST(Messages, OfPruners) {
  const Parameter a(Tensor::ones({4, 5}), "a");
  const ParameterList list = list_of(a);
  auto load = [=](const char* text) {
    return [=] {
      Pruner pruner(list);
      PrunerState state = pruner.state();
      const std::string line = text;
      state["history"] = Tensor::from<std::uint8_t>({line.begin(), line.end()}, {static_cast<Index>(line.size())});
      pruner.load_state(state);
    };
  };
  const Message all[] = {
      {"united hard masks", [=] { Pruner(list, {.combine = Combine::unite}); },
       "[pruner] Combine::unite with hard masks would never prune again. Hint: .mode = MaskMode::soft"},
      {"groups without their scope", [=] { Pruner(list, {.groups = {"*"}}); },
       "[pruner] Scope::group needs .groups, and only it has them"},
      {"one that belongs nowhere", [=] { Pruner(list, {.scope = Scope::group, .groups = {"b"}}); },
       "[pruner] 'a' belongs to none of the groups. Hint: \"*\" as the last takes the rest"},
      {"none at least", [=] { Pruner(list, {.min_keep = -1}); }, "[pruner] min_keep must not be negative, got -1"},
      {"less than nothing", [=] { Pruner(list).prune_count(-1); },
       "[prune_count] the count must not be negative, got -1"},
      {"more than all", [=] { Pruner(list).prune_fraction(1.5); },
       "[prune_fraction] the fraction must be in [0, 1], got 1.5"},
      {"a history that is none", load("1 1 0 2 cubic 0.5\nonce upon a time\n"),
       "[pruner] line 1 of 'history' in the saved state says nothing that happened"},
  };
  expect_texts(all);
}

}  // namespace
}  // namespace espalier::prune
