#include "espalier/prune/budget.h"

#include <algorithm>
#include <cmath>

#include "espalier/autograd/macs.h"
#include "espalier/core/detail/race.h"
#include "espalier/core/table.h"
#include "espalier/prune/detail/cost.h"
#include "espalier/prune/detail/saved_weights.h"

namespace espalier::prune {
namespace detail {
namespace {

Index plain_bytes(const Tensor& value) { return value.size() * size_of(value.dtype()); }

template <class F>
double sum_over(const ParameterList& parameters, F f) {
  double total = 0;
  for (const NamedParameter& named : parameters) total += static_cast<double>(f(*named.parameter));
  return total;
}

}  // namespace

std::size_t given_limit(const std::vector<std::pair<std::string, Limit>>& limits) {
  std::size_t given = limits.size();
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const auto& [name, limit] = limits[i];
    if (std::isnan(limit.value)) continue;
    if (given < limits.size())
      fail<ConfigError>("[prune_to_budget] there is a limit of ", limits[given].first, " and one of ", name,
                        ". Hint: one at a time; the second may start where the first has ended");
    if (!(limit.value >= 0 && std::isfinite(limit.value)))
      fail<ConfigError>("[prune_to_budget] the limit of ", name, " must be at least 0 and finite, got ", limit.value);
    given = i;
  }
  if (given == limits.size()) fail<ConfigError>("[prune_to_budget] there is no limit. Hint: {.flops = 1e6}");
  return given;
}

void check_budget(bool is_cost, bool has_cost, double precision) {
  if (is_cost != has_cost) fail<ConfigError>("[prune_to_budget] cost and cost_limit need each other");
  if (!(precision > 0 && precision <= 1))
    fail<ConfigError>("[prune_to_budget] precision must be above 0 and at most 1, got ", precision);
}

void unmask(const ParameterList& parameters) {
  for (const NamedParameter& named : parameters) {
    ParameterState& p = *named.parameter;
    if (p.value().packed()) p.replace(p.value().densify(), Mask());
    if (p.mask().defined()) p.set_mask(Mask());
  }
}

double all_weights_of(const ParameterList& parameters) {
  return sum_over(parameters, [](const ParameterState& p) { return p.value().size(); });
}
double live_weights_of(const ParameterList& parameters) {
  return sum_over(parameters, [](const ParameterState& p) { return live_weights(p); });
}
double bytes_of(const ParameterList& parameters) {
  return sum_over(parameters, [](const ParameterState& p) { return plain_bytes(p.value()); });
}
double bytes_of(const ParameterList& parameters, const CompactReport& report) {
  double total = sum_over(
      parameters, [](const ParameterState& p) { return p.value().rank() < 2 ? plain_bytes(p.value()) : Index{0}; });
  for (const CompactLayer& layer : report.layers) total += static_cast<double>(layer.bytes_after);
  return total;
}

double flops_of(const Subject& subject, const Tensor& sample) { return cost_of(subject, sample, false).live_flops; }

std::vector<double> milliseconds_of(const std::vector<Run>& runs, const Tensor& sample) {
  std::vector<espalier::detail::Run> timed;
  for (const Run& run : runs) timed.emplace_back([&run, &sample] { run(sample); });
  std::vector<double> times = espalier::detail::race(timed);
  for (double& time : times) time *= 1e3;
  return times;
}

BudgetReport search(Pruner& pruner, const ParameterList& parameters, BudgetReport report, double precision,
                    const std::function<double()>& cost) {
  const auto add_try = [&](double asked) {
    const double now = cost();
    report.tries.push_back({asked, pruner.sparsity(), now, now <= report.limit});
    return report.tries.back().met;
  };
  const auto finish = [&](const BudgetTry& reached) {
    report.cost = reached.cost;
    report.sparsity = reached.reached;
    return std::move(report);
  };
  double low = pruner.sparsity(), high = 1;
  if (add_try(low)) return finish(report.tries.back());

  ParameterList all = parameters;
  for (const NamedParameter& named : pruner.parameters())
    if (std::none_of(all.begin(), all.end(), [&](auto& p) { return p.parameter == named.parameter; }))
      all.push_back(named);
  const SavedWeights before(all, Gradients::with);
  const PrunerState state = pruner.state();
  const auto put_back = [&] {
    before.restore("prune_to_budget", Gradients::with);
    pruner.load_state(state);
  };
  const auto prune_to = [&](double sparsity) {
    put_back();
    pruner.to_sparsity(sparsity);
  };
  try {
    prune_to(high);
    if (!add_try(high))
      fail<ConfigError>("[prune_to_budget] the budget of ", report.limit, " ", report.what,
                        " cannot be met: with all that the pruner may prune gone (",
                        percent(report.tries.back().reached), ") it is ", report.tries.back().cost, ", and ",
                        report.dense, " dense. Hint: select more parameters, or a smaller min_keep");
    BudgetTry best = report.tries.back();
    while (high - low > precision) {
      const double middle = (low + high) / 2;
      prune_to(middle);
      if (add_try(middle)) {
        high = middle;
        best = report.tries.back();
      } else {
        low = middle;
      }
    }
    if (report.tries.back().asked != high) prune_to(high);
    return finish(best);
  } catch (...) {
    put_back();
    throw;
  }
}

}  // namespace detail

std::string BudgetReport::table() const {
  Table table({"sparsity", what, "share of dense", ""});
  const auto add = [&](const std::string& share, double value, const char* text) {
    table.add({share, with_decimals(value, what == "milliseconds" || what == "cost" ? 4 : 0),
               dense > 0 ? percent(value / dense) : "", text});
  };
  for (const BudgetTry& each : tries) add(percent(each.reached), each.cost, each.met ? "within" : "beyond");
  table.add({});
  add("limit", limit, "");
  add(percent(sparsity), cost, "reached");
  return table.to_string();
}

}  // namespace espalier::prune
