#include "espalier/train/lottery.h"

#include <memory>

#include "espalier/core/table.h"

namespace espalier::train {
namespace detail {

std::vector<prune::Pruner> lottery_pruners(const ParameterList& parameters, const LotteryOptions& options) {
  if (options.rounds < 0 || options.first_round < 0 || options.first_round > options.rounds)
    fail<ConfigError>("[lottery] rounds must not be negative and first_round not behind them, got ", options.rounds,
                      " and ", options.first_round);
  if (options.first_round > 0 && !options.start)
    fail<ConfigError>("[lottery] to go on at round ", options.first_round,
                      " there must be a .start. Hint: keep the Rewind of the first call");
  if (options.rules.empty()) fail<ConfigError>("[lottery] there are no rules, so nothing would be pruned");
  std::vector<prune::Pruner> pruners;
  for (std::size_t i = 0; i < options.rules.size(); ++i) {
    const LotteryRule& rule = options.rules[i];
    if (!(rule.fraction >= 0 && rule.fraction < 1))
      fail<ConfigError>("[lottery] the fraction of rule ", i + 1, " must be in [0, 1), got ", rule.fraction);
    ParameterList own;
    for (const NamedParameter& named : parameters) {
      bool taken = false;
      for (std::size_t k = 0; k < i; ++k) taken = taken || options.rules[k].select(named);
      if (!taken && rule.select(named)) own.push_back(named);
    }
    if (own.empty()) fail<ConfigError>("[lottery] rule ", i + 1, " selects no parameter that an earlier one leaves");
    pruners.emplace_back(
        own, prune::PrunerOptions{.score = options.score, .scope = options.scope, .select = optim::Select()});
  }
  return pruners;
}

double lottery_left(const std::vector<prune::Pruner>& pruners) {
  Index all = 0, live = 0;
  for (const prune::Pruner& pruner : pruners)
    for (const NamedParameter& named : pruner.parameters()) {
      all += named.parameter->value().size();
      live += prune::live_weights(*named.parameter);
    }
  return all > 0 ? static_cast<double>(live) / static_cast<double>(all) : 1;
}

}  // namespace detail

std::string lottery_table(const std::vector<LotteryRound>& rounds) {
  Table table({"round", "left", "metric", "early stop"});
  for (const LotteryRound& r : rounds)
    table.add({std::to_string(r.round), percent(r.left), with_decimals(r.metric, 4),
               r.early_stop ? grouped(*r.early_stop) : std::string("-")});
  return table.to_string();
}

}  // namespace espalier::train
