#include "espalier/prune/detail/cut.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/linalg.h"

namespace espalier::prune::detail {
namespace {

using optim::composed, optim::KeptAxes, optim::taken;

std::string name_of(const ParameterList& parameters, const ParameterState* p) {
  for (const NamedParameter& named : parameters)
    if (p && named.parameter.get() == p) return "'" + named.name + "'";
  return "an unnamed weight";
}

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

double largest(const Tensor& t) {
  double most = 0;
  for (double x : as_doubles(t))
    if (std::isfinite(x)) most = std::max(most, std::abs(x));
  return most;
}

bool is_layer(const Graph::Node& node) {
  return node.op == "linear" || node.op.starts_with("conv") || node.op == "lstm" || node.op == "gru" ||
         node.op == "rnn";
}

/// Of a layer's units that stay, against the terms each is made of: |x| |w| + |b|.
Difference layer_difference(const Graph& old_graph, const Graph& new_graph, std::size_t n, const KeptAxes& kept) {
  const Graph::Node &before = old_graph.nodes[n], &after = new_graph.nodes[n];
  const Tensor y_old = taken(old_graph.values[before.first_output].tensor, kept),
               y_new = new_graph.values[after.first_output].tensor;
  Difference d;
  if (!(y_old.shape() == y_new.shape())) return {1, 0};
  const std::vector<double> a = as_doubles(y_old), b = as_doubles(y_new);
  for (std::size_t i = 0; i < a.size(); ++i) compare(d, a[i], b[i]);
  if (before.inputs.size() != 3) return d;
  const auto value = [&](std::size_t input) {
    const std::uint32_t slot = before.inputs[input];
    return slot == Tape::constant ? 0.0 : largest(old_graph.values[slot].tensor);
  };
  d.scale = std::max({d.scale, value(0) * value(1), value(2)});
  return d;
}

bool same_nodes(const Graph& a, const Graph& b) {
  if (a.nodes.size() != b.nodes.size()) return false;
  for (std::size_t n = 0; n < a.nodes.size(); ++n)
    if (a.nodes[n].op != b.nodes[n].op || a.nodes[n].first_output != b.nodes[n].first_output) return false;
  return true;
}

}  // namespace

double verify(const Graph& before, const Graph& after, const std::vector<KeptAxes>& kept,
              const ParameterList& parameters, const CutSettings& settings, const std::string& stage) {
  Difference outputs;
  double allowed = settings.tolerance;
  bool same_shapes = before.outputs.size() == after.outputs.size();
  for (std::size_t k = 0; same_shapes && k < before.outputs.size(); ++k) {
    const Tensor &a = before.outputs[k], &b = after.outputs[k];
    same_shapes = a.defined() == b.defined() && a.shape() == b.shape();
    if (!same_shapes || !a.defined()) continue;
    if (settings.tolerance != settings.tolerance)
      allowed = std::max(allowed == allowed ? allowed : 0, a.dtype() == DType::f64 ? 1e-10 : 1e-5);
    const std::vector<double> x = as_doubles(a), y = as_doubles(b);
    for (std::size_t i = 0; i < x.size(); ++i) compare(outputs, x[i], y[i]);
  }
  const double relative = outputs.relative();
  if (same_shapes && relative <= allowed) return relative;
  const bool comparable = same_shapes && same_nodes(before, after);
  double terms = 0;
  for (std::size_t n = 0; comparable && n < before.nodes.size(); ++n) {
    const Graph::Node& node = before.nodes[n];
    if (!is_layer(node)) continue;
    const Difference layer = layer_difference(before, after, n, kept[n]);
    const double difference = layer.relative();
    terms = std::max(terms, layer.scale);
    if (difference <= allowed) continue;
    const std::uint32_t weight = node.inputs[node.inputs.size() == 3 ? 1 : 3];
    fail<ConfigError>("[", settings.who, "] ", stage, " changed the outputs of the layer with ",
                      name_of(parameters, weight == Tape::constant ? nullptr : before.values[weight].parameter.get()),
                      " by ", difference, " relative to its terms (allowed ", allowed, "), those of the model by ",
                      relative, ". Hint: forward code must not depend on sizes; ", settings.way_out);
  }
  // Every layer is right to rounding. Outputs that are small because their terms cancel may differ by so much, too.
  if (comparable && outputs.largest <= allowed * terms) return relative;
  fail<ConfigError>("[", settings.who, "] ", stage, " changed the outputs of the model",
                    same_shapes ? "" : " and their shapes", " by ", relative, " (allowed ", allowed,
                    "), though each layer is right: forward code reads a value in a way that the tape does not see "
                    "(detach(), value(), NoTape). Hint: ",
                    settings.way_out);
}

Graph traced_again(const Subject& subject, const Tensor& sample, const CutSettings& settings, const char* stage) {
  try {
    return trace(subject.run, sample, subject.buffers);
  } catch (const Error& e) {
    fail<ConfigError>("[", settings.who, "] the network does not run after ", stage, ": ", e.what(),
                      ". Hint: forward code must read sizes off its values (x.dim(-1), or -1 in a reshape), not know "
                      "them; ",
                      settings.way_out);
  }
}

namespace {

void note(const Plan& plan, const Subject& subject, Outcome& outcome) {
  const auto place_of = [&](const Leaf& leaf, auto parameter, auto buffer) {
    for (std::size_t k = 0; k < subject.parameters.size(); ++k)
      if (leaf.parameter && subject.parameters[k].parameter == leaf.parameter) parameter(k);
    for (std::size_t k = 0; k < subject.buffers.size(); ++k)
      if (leaf.buffer && subject.buffers[k].buffer == leaf.buffer) buffer(k);
  };
  for (const Slice& slice : plan.slices)
    place_of(
        slice.leaf, [&](std::size_t k) { outcome.parameters[k] = composed(outcome.parameters[k], slice.kept); },
        [&](std::size_t k) { outcome.buffers[k] = composed(outcome.buffers[k], slice.kept); });
  for (const Fold& fold : plan.folds)
    place_of(
        fold.leaf, [&](std::size_t k) { outcome.folded_parameters[k] = 1; },
        [&](std::size_t k) { outcome.folded_buffers[k] = 1; });
  for (std::size_t n = 0; n < plan.kept.size(); ++n) outcome.nodes[n] = composed(outcome.nodes[n], plan.kept[n]);
  outcome.cut_constant += plan.cut_constant;
  outcome.cut_unread += plan.cut_unread;
}

}  // namespace

bool cut(const Subject& subject, const Tensor& sample, const CutSettings& settings, Trust trust, const Graph& before,
         Graph& after, Outcome& outcome) {
  outcome = Outcome();
  outcome.parameters.resize(subject.parameters.size());
  outcome.folded_parameters.resize(subject.parameters.size());
  outcome.buffers.resize(subject.buffers.size());
  outcome.folded_buffers.resize(subject.buffers.size());
  outcome.nodes.resize(before.nodes.size());
  after = before;
  for (;;) {  // what one round folds may make other units constant to the last bit
    Plan plan = plan_cuts(after, trust, settings.rounding);
    if (plan.cut_constant + plan.cut_unread == 0) {
      outcome.stays = std::move(plan.stays);
      outcome.rounded = plan.rounded;
      return true;
    }
    try {
      apply(plan);
      note(plan, subject, outcome);
      after = traced_again(subject, sample, settings, "its dead units were cut");
      outcome.difference = verify(before, after, outcome.nodes, subject.parameters, settings, "cutting dead units");
    } catch (const Error&) {
      if (trust == Trust::derived_sizes) return false;
      throw;
    }
    if (!same_nodes(before, after)) return true;  // code that takes other ways with fewer units: go no further
  }
}

// --- round numbers --------------------------------------------------------------------------------------------------

namespace {

/// Seconds of the layer's own op with so many of its rows: the smallest of several runs.
double seconds(const Graph& graph, const Graph::Node& layer, Index rows) {
  const NoTape quiet;
  const Tensor& w = graph.values[layer.inputs[1]].tensor;
  Shape shape = w.shape();
  shape[0] = rows;
  const Variable x = graph.values[layer.inputs[0]].tensor, weight = Tensor::ones(shape, w.dtype());
  double best = std::numeric_limits<double>::infinity();
  for (int k = 0; k < 9; ++k) {
    const auto begin = std::chrono::steady_clock::now();
    for (int again = 0; again < 4; ++again) {
      if (layer.op == "linear")
        linear(x, weight);
      else
        conv2d(x, weight, {},
               {.stride = {layer.settings[0], layer.settings[1]}, .padding = {layer.settings[2], layer.settings[3]}});
    }
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace

Rounding rounding_of(const char* who, Index round_to, Kernels kernels) {
  if (round_to < 0 && round_to != round_measured)
    fail<ConfigError>("[", who, "] round_to must not be negative, got ", round_to,
                      ". Hint: 0, 8, 16 or round_measured");
  if (round_to == 0 || round_to == 1) return {};
  return [round_to, kernels](const Graph& graph, const Graph::Node& layer, Index stay, Index all) {
    const auto up = [&](Index n) { return std::min(all, (stay + n - 1) / n * n); };
    if (round_to != round_measured) return up(round_to);
    const bool plain = layer.op == "linear" || (layer.op == "conv2d" && layer.settings.back() == 1);
    if (kernels == Kernels::fixed || !plain || layer.inputs[0] == Tape::constant) return stay >= 16 ? up(8) : stay;
    Index best = stay;
    double least = seconds(graph, layer, stay);
    for (Index n : {8, 16}) {
      const double time = up(n) == best ? least : seconds(graph, layer, up(n));
      if (time * 1.10 <= least) {  // more units cost those that read them, too
        least = time;
        best = up(n);
      }
    }
    return best;
  };
}

std::vector<std::string> remarks(const Outcome& outcome, const ParameterList& parameters,
                                 const std::vector<CompactLayer>& layers) {
  std::vector<std::string> lines;
  for (const Stay& stay : outcome.stays)
    lines.push_back(join(stay.units, stay.units == 1 ? " dead unit of " : " dead units of ",
                         name_of(parameters, stay.parameter.get()),
                         stay.units == 1 ? " stays: " : " stay: ", stay.why));
  if (outcome.rounded > 0)
    lines.push_back(
        join(outcome.rounded, outcome.rounded == 1 ? " dead unit fills" : " dead units fill", " up round numbers"));
  for (const CompactLayer& layer : layers)
    if (count(layer.after) == 0 && count(layer.before) > 0)
      lines.push_back("'" + layer.name + "' has died as a whole: it runs on empty tensors");
  return lines;
}

}  // namespace espalier::prune::detail
