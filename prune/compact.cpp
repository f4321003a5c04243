#include "espalier/prune/compact.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "espalier/core/table.h"
#include "espalier/prune/detail/plan.h"

namespace espalier::prune {
namespace detail {
namespace {

using Names = std::map<const ParameterState*, std::string>;

// --- are the outputs the same? --------------------------------------------------------------------------------------

/// Largest |a - b| and largest |a|. NaN in both places is no difference, in one an infinite one; so are infinities.
struct Difference {
  double largest = 0, scale = 0;
  double relative() const { return largest == 0 ? 0 : scale > 0 ? largest / scale : largest; }
};

void compare(Difference& d, double a, double b) {
  if (a == b || (a != a && b != b)) {
    if (std::isfinite(a)) d.scale = std::max(d.scale, std::abs(a));
    return;
  }
  const double difference = std::abs(a - b);
  d.largest = std::max(d.largest, difference == difference ? difference : std::numeric_limits<double>::infinity());
  if (std::isfinite(a)) d.scale = std::max(d.scale, std::abs(a));
}

std::vector<double> doubles(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }

/// Of a layer's units that stay, against the sum of |terms| of each: sum |x| |w| + |b|.
Difference layer_difference(const Graph& old_graph, const Graph& new_graph, std::size_t n,
                            const std::vector<Index>& kept) {
  const Graph::Node &before = old_graph.nodes[n], &after = new_graph.nodes[n];
  const Tensor &y_old = old_graph.values[before.first_output].tensor,
               &y_new = new_graph.values[after.first_output].tensor;
  const std::vector<double> a = doubles(y_old), b = doubles(y_new);
  const Index units = y_old.dim(-1), left = y_new.dim(-1);
  const Index rows = units > 0 ? y_old.size() / units : 0;
  Difference d;
  if (left > 0 && !kept.empty() && static_cast<Index>(kept.size()) != left) return {1, 0};
  for (Index row = 0; row < rows; ++row)
    for (Index u = 0; u < left; ++u) {
      const Index from = kept.empty() ? u : kept[static_cast<std::size_t>(u)];
      compare(d, a[static_cast<std::size_t>(row * units + from)], b[static_cast<std::size_t>(row * left + u)]);
    }
  auto largest = [](const std::vector<double>& v) {
    double most = 0;
    for (double x : v)
      if (std::isfinite(x)) most = std::max(most, std::abs(x));
    return most;
  };
  const auto value = [&](std::size_t input) -> std::vector<double> {
    const std::uint32_t slot = before.inputs[input];
    return slot == Tape::constant ? std::vector<double>{} : doubles(old_graph.values[slot].tensor);
  };
  d.scale = std::max({d.scale, largest(value(0)) * largest(value(1)), largest(value(2))});
  return d;
}

/// Compares the graphs; returns the relative difference of the outputs. Errors: ConfigError, naming the layer.
double verify(const Graph& old_graph, const Graph& new_graph, const Plan& plan, const Names& names, double tolerance,
              const char* stage) {
  Difference outputs;
  double allowed = tolerance;
  bool same_shapes = old_graph.outputs.size() == new_graph.outputs.size();
  for (std::size_t k = 0; same_shapes && k < old_graph.outputs.size(); ++k) {
    const Tensor &a = old_graph.outputs[k], &b = new_graph.outputs[k];
    same_shapes = a.defined() == b.defined() && a.shape() == b.shape();
    if (!same_shapes || !a.defined()) continue;
    if (tolerance != tolerance)
      allowed = std::max(allowed == allowed ? allowed : 0, a.dtype() == DType::f64 ? 1e-10 : 1e-5);
    const std::vector<double> x = doubles(a), y = doubles(b);
    for (std::size_t i = 0; i < x.size(); ++i) compare(outputs, x[i], y[i]);
  }
  const double relative = outputs.relative();
  if (same_shapes && relative <= allowed) return relative;
  bool comparable = same_shapes && old_graph.nodes.size() == new_graph.nodes.size();
  double terms = 0;
  for (std::size_t n = 0; comparable && n < old_graph.nodes.size(); ++n) {
    const Graph::Node& node = old_graph.nodes[n];
    comparable = node.op == new_graph.nodes[n].op && node.first_output == new_graph.nodes[n].first_output;
    if (!comparable || node.op != "linear") continue;
    const Difference layer = layer_difference(old_graph, new_graph, n, plan.kept[n]);
    const double difference = layer.relative();
    terms = std::max(terms, layer.scale);
    if (difference <= allowed) continue;
    const auto name =
        node.inputs[1] == Tape::constant ? names.end() : names.find(old_graph.values[node.inputs[1]].parameter.get());
    fail<ConfigError>("[compact] ", stage, " changed the outputs of the layer with '",
                      name == names.end() ? std::string("an unnamed weight") : name->second, "' by ", difference,
                      " relative to its terms (allowed ", allowed, "), those of the model by ", relative,
                      ". Hint: forward code must not depend on sizes; {.cut = false} packs the weights only");
  }
  // Every layer is right to rounding. Outputs that are small because their terms cancel may differ by so much, too.
  if (comparable && outputs.largest <= allowed * terms) return relative;
  fail<ConfigError>(
      "[compact] ", stage, " changed the outputs of the model", same_shapes ? "" : " and their shapes", " by ",
      relative, " (allowed ", allowed,
      "), though each linear layer is right: forward code reads a value in a way "
      "that the tape does not see (detach(), value(), NoTape). Hint: {.cut = false} packs the weights only");
}

/// Units that stay after two rounds, `second` counting in what `first` left; empty lists keep all.
std::vector<Index> kept_of_kept(const std::vector<Index>& first, const std::vector<Index>& second) {
  if (first.empty() || second.empty()) return first.empty() ? second : first;
  std::vector<Index> both;
  for (Index unit : second) both.push_back(first[static_cast<std::size_t>(unit)]);
  return both;
}

}  // namespace

void compact(const ParameterList& parameters, const Run& run, const Tensor& sample, const CompactOptions& options,
             CompactReport* report) {
  if (!sample.defined() || sample.size() == 0)
    fail<ConfigError>("[compact] the sample is empty. Hint: one batch as the model takes it");
  if (options.tolerance < 0) fail<ConfigError>("[compact] the tolerance must not be negative, got ", options.tolerance);
  Names names;
  CompactReport result;
  for (const NamedParameter& named : parameters) {
    names[named.parameter.get()] = named.name;
    if (named.parameter->value().rank() >= 2) result.layers.push_back(row_before(named));
    densify(*named.parameter);
  }

  const Graph before = trace(run, sample);
  auto traced_again = [&](const char* stage) {
    try {
      return trace(run, sample);
    } catch (const Error& e) {
      fail<ConfigError>(
          "[compact] the network does not run after ", stage, ": ", e.what(),
          ". Hint: forward code must read sizes off its values (x.dim(-1), or -1 in a reshape), not know them; "
          "{.cut = false} packs the weights only");
    }
  };
  Plan all_cuts;  // of all rounds together
  all_cuts.kept.resize(before.nodes.size());
  Graph after = before;
  while (options.cut) {  // what one round folds may make other units constant to the last bit
    const Plan plan = plan_cuts(after);
    if (plan.cut_constant + plan.cut_unread == 0) break;
    apply(plan);
    for (std::size_t i = 0; i < plan.kept.size(); ++i) all_cuts.kept[i] = kept_of_kept(all_cuts.kept[i], plan.kept[i]);
    result.cut_constant += plan.cut_constant;
    result.cut_unread += plan.cut_unread;
    after = traced_again("its dead units were cut");
    result.difference = verify(before, after, all_cuts, names, options.tolerance, "cutting dead units");
  }

  const std::vector<const ParameterState*> packable =
      options.pack ? packable_weights(after) : std::vector<const ParameterState*>();
  after = Graph();
  std::size_t layer = 0;
  for (const NamedParameter& named : parameters) {
    ParameterState& p = *named.parameter;
    if (p.value().rank() < 2) continue;
    CompactLayer& row = result.layers[layer++];
    if (std::find(packable.begin(), packable.end(), &p) != packable.end()) {
      pack(p, options.kernels, row);
    } else {
      row.kernel.fill("dense");
      row.reason = options.pack ? "not only linear() reads it" : "not asked for";
    }
    row_after(row, p);
  }
  if (options.pack)
    result.difference = verify(before, traced_again("its weights were packed"), all_cuts, names, options.tolerance,
                               "packing the weights");
  if (report) *report = std::move(result);
}

}  // namespace detail

std::string CompactReport::table() const {
  Table table({"weight", "before", "after", "live", "live after", "bytes", "bytes after", "batch 1", "2-16", "17+"});
  std::string reasons;
  for (const CompactLayer& l : layers) {
    table.add({l.name, join(l.before), join(l.after), grouped(l.live_before), grouped(l.live_after),
               grouped(l.bytes_before), grouped(l.bytes_after), l.kernel[0], l.kernel[1], l.kernel[2]});
    reasons += l.name + ": " + l.reason + "\n";
  }
  return table.to_string() + reasons +
         join("units cut: ", cut_constant, " constant, ", cut_unread, " unread; outputs differ by ", difference, "\n");
}

}  // namespace espalier::prune
