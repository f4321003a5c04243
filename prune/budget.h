// Budget: prunes until what is deployed is small or fast enough.
//
//   prune::Pruner pruner(model.parameters());
//   auto report = prune::prune_to_budget(pruner, model, sample, {.milliseconds = prune::share_of_dense(0.5)});
//   std::cout << report.table();
//   auto deployed = prune::compact(model, sample);
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/prune/compact.h"
#include "espalier/prune/pruner.h"

namespace espalier::prune {

/// A number, or a share of what the model costs before anything is pruned.
struct Limit {
  Limit() = default;
  Limit(double number) : value(number) {}  // NOLINT: a number is a limit
  double value = std::numeric_limits<double>::quiet_NaN();
  bool of_dense = false;
};
inline Limit share_of_dense(double share) {
  Limit limit(share);
  limit.of_dense = true;
  return limit;
}

/// Exactly one limit is to be given.
template <class Model>
struct BudgetOptions {
  Limit parameters = {};    ///< live weights, biases and gains among them
  Limit flops = {};         ///< of a pass over the sample: two for each multiply-add with a live weight
  Limit bytes = {};         ///< of all parameters in memory
  Limit milliseconds = {};  ///< of a pass over the sample: medians of rounds in which the dense model runs, too
  Limit cost_limit = {};    ///< of `cost`
  std::function<double(const Model&)> cost = {};  ///< of a compacted model, and of the dense one
  double precision = 0.001;                       ///< of the sparsity that is looked for
  CompactOptions compact = {};  ///< how each try is compacted; {.kernels = Kernels::fixed} is the same everywhere
};

struct BudgetTry {
  double asked = 0, reached = 0;  ///< sparsity
  double cost = 0;
  bool met = false;
};

struct BudgetReport {
  std::string what;                   ///< "parameters", "flops", ...
  double limit = 0;                   ///< as a number
  double dense = 0;                   ///< the model before pruning, as if it had no masks
  double cost = 0;                    ///< reached
  double sparsity = 0;                ///< reached, over the pruner's parameters
  std::vector<BudgetTry> tries = {};  ///< in their order
  std::string table() const;
};

namespace detail {

/// Something that is limited: what it costs with the dense model, and with a compacted one.
template <class Model>
struct BudgetKind {
  std::string name;
  Limit limit;
  bool pack;  ///< packing changes it
  std::function<double(const Model&)> dense;
  std::function<double(const Model&, const CompactReport&)> compacted;
};
/// Errors: ConfigError unless exactly one of these is given, and is possible.
std::size_t given_limit(const std::vector<std::pair<std::string, Limit>>& limits);
void check_budget(bool is_cost, bool has_cost, double precision);

/// Without masks and packing.
void unmask(const ParameterList& parameters);
double all_weights_of(const ParameterList& parameters);
double live_weights_of(const ParameterList& parameters);
double bytes_of(const ParameterList& parameters);
double bytes_of(const ParameterList& parameters, const CompactReport& report);
/// Of the live weights.
double flops_of(const Subject& subject, const Tensor& sample);
/// Of each, in interleaved rounds.
std::vector<double> milliseconds_of(const std::vector<Run>& runs, const Tensor& sample);
/// `cost` is that of the model compacted as it is now.
BudgetReport search(Pruner& pruner, const ParameterList& parameters, BudgetReport report, double precision,
                    const std::function<double()>& cost);

}  // namespace detail

/// Looks for the lowest sparsity at which the compacted copy keeps to the budget, by halving the span between the
/// pruner's present sparsity and 1, and leaves the model pruned to it. Calls nothing of the pruner but to_sparsity(), so
/// any score, scope and granularity will do. What costs less at a higher sparsity is found to the precision; where that
/// is not always so, as with measured times, it is a sparsity that was seen to keep to the budget. A model that does so
/// already is left as it is. Errors: ConfigError unless exactly one limit is given, or if the budget is not met at full
/// sparsity, with what was reached there; what score, compact() and cost throw: then values, masks and gradients are as
/// before. Cost: log2(1 / precision) times compact() and what is measured, 11 by default.
template <Compactable Model>
BudgetReport prune_to_budget(Pruner& pruner, const Model& model, const Tensor& sample,
                             BudgetOptions<std::type_identity_t<Model>> options) {
  using Kind = detail::BudgetKind<Model>;
  using Report = const CompactReport&;
  const Model plain = detail::copy_for_sample(model);
  detail::unmask(plain.parameters());
  double dense = 0;
  const std::vector<Kind> kinds = {
      {"parameters", options.parameters, false, [](const Model& m) { return detail::all_weights_of(m.parameters()); },
       [](const Model& m, Report) { return detail::live_weights_of(m.parameters()); }},
      {"flops", options.flops, false, [&](const Model& m) { return detail::flops_of(detail::subject_of(m), sample); },
       [&](const Model& m, Report) { return detail::flops_of(detail::subject_of(m), sample); }},
      {"bytes", options.bytes, true, [](const Model& m) { return detail::bytes_of(m.parameters()); },
       [](const Model& m, Report report) { return detail::bytes_of(m.parameters(), report); }},
      {"milliseconds", options.milliseconds, true,
       [&](const Model& m) { return detail::milliseconds_of({detail::runner(m)}, sample)[0]; },
       [&](const Model& m, Report) {
         const std::vector<double> ms = detail::milliseconds_of({detail::runner(plain), detail::runner(m)}, sample);
         return options.milliseconds.of_dense ? ms[1] / ms[0] * dense : ms[1];
       }},
      {"cost", options.cost_limit, true, options.cost, [&](const Model& m, Report) { return options.cost(m); }}};
  std::vector<std::pair<std::string, Limit>> limits;
  for (const Kind& kind : kinds) limits.emplace_back(kind.name, kind.limit);
  const Kind& kind = kinds[detail::given_limit(limits)];
  detail::check_budget(kind.name == "cost", options.cost != nullptr, options.precision);
  options.compact.pack = options.compact.pack && kind.pack;

  dense = kind.dense(plain);
  BudgetReport report{
      .what = kind.name, .limit = kind.limit.of_dense ? kind.limit.value * dense : kind.limit.value, .dense = dense};
  return detail::search(pruner, model.parameters(), std::move(report), options.precision, [&] {
    CompactReport compacted;
    const Model small = compact(model, sample, options.compact, &compacted);
    return kind.compacted(small, compacted);
  });
}

}  // namespace espalier::prune
