// lottery: iterative magnitude pruning with rewinding, the search for winning tickets, in one call.
//
//   const auto rounds = train::lottery(model, [&](const LeNet& m, Index round) {
//     ... make an optimizer, train m as in every round ...
//     return train::LotteryOutcome{.metric = accuracy(m), .early_stop = iteration_of_lowest_validation_loss};
//   }, {.rounds = 15, .rules = {{"fc3.weight", 0.1}, {optim::select_rank(2), 0.2}}});
//   std::puts(train::lottery_table(rounds).c_str());
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/core/rng.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/rewind.h"

namespace espalier::train {

/// What a user's training says at the end of a round.
struct LotteryOutcome {
  double metric = 0;                     ///< whatever is to be compared: an accuracy, an error
  std::optional<Index> early_stop = {};  ///< iteration of the lowest validation loss, if it was looked for
};

struct LotteryRound {
  Index round;
  double left;  ///< share of the weights under the rules that is live
  double metric;
  std::optional<Index> early_stop;
};

/// How much of the live weights of some parameters goes in each round.
struct LotteryRule {
  optim::Select select;
  double fraction;
};

struct LotteryOptions {
  Index rounds = 10;  ///< prunings; one training more, for round 0 is dense
  /// A parameter goes by the first rule that selects it; what none selects is not pruned. Frankle and Carbin prune the
  /// output layer at half the rate of the others.
  std::vector<LotteryRule> rules = {{optim::select_rank(2), 0.2}};
  prune::Score score = prune::magnitude();
  prune::Scope scope = prune::Scope::tensor;  ///< tensor: layer by layer; global: all parameters of a rule compete
  /// Where to go back to; none: the weights as they are when lottery() is called.
  std::optional<prune::Rewind> start = {};
  bool rewind = true;  ///< false: the trained weights go on into the next round
  /// To go on behind round r: r + 1, with the model as on_round(r) saw it, and the same `start`.
  Index first_round = 0;
  /// Behind each round, before the next pruning: to save, to report.
  std::function<void(const LotteryRound&)> on_round = {};
};

namespace detail {
/// The pruners of the rules. Errors: ConfigError for no rounds, rules, or weights; a fraction outside [0, 1).
std::vector<prune::Pruner> lottery_pruners(const ParameterList& parameters, const LotteryOptions& options);
double lottery_left(const std::vector<prune::Pruner>& pruners);
}  // namespace detail

/// Round 0 trains the model as it is; each round after it prunes by `rules` what is live, takes the rest back to the
/// start, and trains again. train(model, round) makes its own optimizer, or rewinds one; it must train by steps of an
/// Optimizer, which keep the masks. After the call the model holds the last ticket, trained. Errors: ConfigError; what
/// train throws. Cost: rounds + 1 trainings. Frankle and Carbin 2019, section 1 and appendix B (strategy 1).
template <class Model, class Train>
std::vector<LotteryRound> lottery(Model& model, Train train, LotteryOptions options = {}) {
  std::vector<prune::Pruner> pruners = detail::lottery_pruners(model.parameters(), options);
  if (!options.start) options.start.emplace(model.parameters());
  std::vector<LotteryRound> rounds;
  for (Index round = options.first_round; round <= options.rounds; ++round) {
    if (round > 0) {
      for (std::size_t i = 0; i < pruners.size(); ++i) pruners[i].prune_fraction(options.rules[i].fraction);
      if (options.rewind) options.start->rewind();
    }
    const LotteryOutcome outcome = train(model, round);
    rounds.push_back({round, detail::lottery_left(pruners), outcome.metric, outcome.early_stop});
    if (options.on_round) options.on_round(rounds.back());
  }
  return rounds;
}

/// A line for each round, in aligned columns.
std::string lottery_table(const std::vector<LotteryRound>& rounds);

}  // namespace espalier::train
