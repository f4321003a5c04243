#include "espalier/prune/compact.h"

#include <algorithm>

#include "espalier/core/table.h"
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
    if (found != packable.end()) {
      pack(p, found->geometry, options.kernels, row);
    } else {
      row.kernel.fill("dense");
      row.reason = options.pack ? "ops without a sparse kernel read it" : "not asked for";
    }
    row_after(row, p);
  }
  result.remarks = remarks(outcome, subject.parameters, result.layers);
  if (options.pack)
    result.difference = verify(before, traced_again(subject, sample, settings, "its weights were packed"),
                               outcome.nodes, subject.parameters, settings, "packing the weights");
  report = std::move(result);
  return true;
}

}  // namespace detail

std::string CompactReport::table() const {
  Table table({"weight", "before", "after", "live", "live after", "bytes", "bytes after", "batch 1", "2-16", "17+"});
  std::string text;
  for (const CompactLayer& l : layers) {
    table.add({l.name, join(l.before), join(l.after), grouped(l.live_before), grouped(l.live_after),
               grouped(l.bytes_before), grouped(l.bytes_after), l.kernel[0], l.kernel[1], l.kernel[2]});
    if (!l.reason.empty()) text += l.name + ": " + l.reason + "\n";
  }
  for (const std::string& remark : remarks) text += remark + "\n";
  return table.to_string() + text +
         join("units cut: ", cut_constant, " constant, ", cut_unread, " unread; outputs differ by ", difference, "\n");
}

}  // namespace espalier::prune
