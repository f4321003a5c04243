#include "espalier/prune/compact.h"

#include <algorithm>
#include <cmath>

#include "espalier/core/table.h"
#include "espalier/prune/detail/cost.h"
#include "espalier/prune/detail/cut.h"

namespace espalier::prune {
namespace detail {

bool compact(const Subject& subject, const Tensor& sample, const CompactOptions& options, bool trusting,
             CompactReport& report) {
  if (!sample.defined() || sample.size() == 0)
    fail<ConfigError>("[compact] the sample is empty. Hint: one batch as the model takes it");
  if (options.tolerance < 0) fail<ConfigError>("[compact] the tolerance must not be negative, got ", options.tolerance);
  const CutSettings settings{"compact", "{.cut = false} packs the weights only", options.tolerance,
                             rounding_of("compact", options.round_to, options.kernels)};
  CompactReport result;
  for (const NamedParameter& named : subject.parameters) {
    if (named.parameter->value().rank() >= 2) result.layers.push_back(row_before(named));
    densify(*named.parameter);
  }

  const bool measure = options.kernels == Kernels::measured;
  const ModelCost cost_before = cost_of(subject, sample, measure);
  const Graph before = trace(subject.run, sample, subject.buffers);
  Graph after = before;
  Outcome outcome;
  outcome.nodes.resize(before.nodes.size());
  const Trust trust = trusting ? Trust::derived_sizes : Trust::none;
  if (options.cut && !cut(subject, sample, settings, trust, before, after, outcome)) return false;
  result.cut_constant = outcome.cut_constant;
  result.cut_unread = outcome.cut_unread;
  result.difference = outcome.difference;

  const std::vector<Packable> packable = options.pack ? packable_weights(after) : std::vector<Packable>();
  after = Graph();
  std::size_t layer = 0;
  for (const NamedParameter& named : subject.parameters) {
    ParameterState& p = *named.parameter;
    if (p.value().rank() < 2) continue;
    CompactLayer& row = result.layers[layer++];
    const auto found =
        std::find_if(packable.begin(), packable.end(), [&](const Packable& weight) { return weight.parameter == &p; });
    if (found != packable.end())
      pack(p, found->geometry, options.kernels, row);
    else
      leave_dense(row, options.pack ? no_sparse_kernel : "not asked for");
    row_after(row, p);
  }
  fill_costs(result, cost_before, cost_of(subject, sample, measure));
  result.remarks = remarks(outcome, subject.parameters, result.layers);
  if (is_dead(subject, sample))
    result.remarks.push_back(
        "the network is dead: its outputs do not depend on its input any more. Hint: prune less, "
        "or keep more with min_keep");
  if (options.pack)
    result.difference = verify(before, traced_again(subject, sample, settings, "its weights were packed"),
                               outcome.nodes, subject.parameters, settings, "packing the weights");
  report = std::move(result);
  return true;
}

std::vector<CompactLayer> repack(const ParameterList& parameters, const Subject& copy, const Tensor& sample,
                                 Kernels how) {
  for (const NamedParameter& named : copy.parameters) densify(*named.parameter);
  const std::vector<Packable> packable = packable_weights(trace(copy.run, sample, copy.buffers));
  std::vector<CompactLayer> layers;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    ParameterState& p = *parameters[i].parameter;
    if (!p.value().packed()) continue;
    CompactLayer row = row_before(parameters[i]);
    densify(p);
    const ParameterState* const of_copy = copy.parameters[i].parameter.get();
    const auto found = std::find_if(packable.begin(), packable.end(),
                                    [&](const Packable& weight) { return weight.parameter == of_copy; });
    if (found != packable.end())
      pack(p, found->geometry, how, row);
    else
      leave_dense(row, no_sparse_kernel);
    row_after(row, p);
    layers.push_back(std::move(row));
  }
  return layers;
}

}  // namespace detail

std::string CompactReport::table() const {
  Table table({"weight", "before", "after", "live", "after", "sparsity", "bytes", "after", "kflop", "after", "ms",
               "after", "batch 1", "2-16", "17+"});
  std::string text;
  const auto thousands = [](double flops) { return grouped(std::llround(flops / 1e3)); };
  const auto time = [](double ms) { return std::isnan(ms) ? std::string("-") : with_decimals(ms, 3); };
  CompactLayer all;
  Index size = 0;
  for (const CompactLayer& l : layers) {
    table.add({l.name, join(l.before), join(l.after), grouped(l.live_before), grouped(l.live_after),
               percent(l.sparsity()), grouped(l.bytes_before), grouped(l.bytes_after), thousands(l.flops_before),
               thousands(l.flops_after), time(l.ms_before), time(l.ms_after), l.kernel[0], l.kernel[1], l.kernel[2]});
    if (!l.reason.empty()) text += l.name + ": " + l.reason + "\n";
    size += count(l.before);
    all.live_before += l.live_before;
    all.live_after += l.live_after;
    all.bytes_before += l.bytes_before;
    all.bytes_after += l.bytes_after;
    all.flops_before += l.flops_before;
    all.flops_after += l.flops_after;
  }
  const double gone = size > 0 ? 1 - static_cast<double>(all.live_after) / static_cast<double>(size) : 0;
  table.add({});
  table.add({"whole model", "", "", grouped(all.live_before), grouped(all.live_after), percent(gone),
             grouped(all.bytes_before), grouped(all.bytes_after), thousands(all.flops_before),
             thousands(all.flops_after), time(ms_before), time(ms_after)});
  for (const std::string& remark : remarks) text += remark + "\n";
  return table.to_string() + text +
         join("units cut: ", cut_constant, " constant, ", cut_unread, " unread; outputs differ by ", difference, "\n");
}

}  // namespace espalier::prune
