#include "espalier/prune/pack.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "espalier/core/packed_linear.h"
#include "espalier/core/table.h"
#include "espalier/prune/detail/trace.h"

namespace espalier::prune::detail {
namespace {

Index bytes_of(const Tensor& value) {
  if (const auto* packed = dynamic_cast<const PackedLinear*>(value.packed())) return packed->bytes();
  return value.size() * size_of(value.dtype());
}

/// Below this share of zeros no kernel gains, and measuring is not worth its time.
constexpr double least_sparsity = 0.25;

std::string times_text(const KernelTimes& t) {
  const bool structured = t.structure != KernelChoice::sparse;
  std::string text = "dense / sparse";
  if (structured) text += std::string(" / ") + name_of(t.structure);
  text += " us:";
  const char* const classes[] = {" 1: ", ", 8: ", ", 64: "};
  const auto number = [](double us) {
    char part[32];
    std::snprintf(part, sizeof part, "%.3g", us);
    return std::string(part);
  };
  for (std::size_t k = 0; k < 3; ++k) {
    text += classes[k] + number(t.dense_us[k]) + "/" + number(t.sparse_us[k]);
    if (structured) text += "/" + number(t.structured_us[k]);
  }
  return text;
}

/// The inputs of an op that a sparse kernel can be the weight of.
std::vector<std::size_t> weights_of(const Graph::Node& node) {
  const bool forward = !node.settings.empty();  // and not a recorded backward pass
  if (node.op == "linear" && node.inputs.size() == 3) return {1};
  if ((node.op == "conv2d" || node.op == "conv1d") && forward && node.settings.back() == 1) return {1};
  if ((node.op == "rnn" || node.op == "lstm" || node.op == "gru") && node.inputs.size() == 7) return {3, 4};
  return {};
}

/// Of a convolution, as it ran.
std::optional<ConvGeometry> geometry_of(const Graph& graph, const Graph::Node& node, const Shape& weight) {
  if (node.op != "conv2d" && node.op != "conv1d") return std::nullopt;
  const std::size_t axes = node.op == "conv2d" ? 2 : 1;
  if (node.inputs[0] == Tape::constant) return std::nullopt;
  const Shape &x = graph.values[node.inputs[0]].tensor.shape(), &y = graph.values[node.first_output].tensor.shape();
  ConvGeometry g{};
  g.batch = 1;
  g.groups = 1;
  g.in = weight[1];
  g.out = weight[0];
  g.size = g.kernel = g.result = g.stride = g.dilation = {1, 1};
  g.before = {0, 0};
  for (std::size_t a = 0; a < axes; ++a) {
    const std::size_t to = a + 2 - axes;
    const int axis = static_cast<int>(a) - static_cast<int>(axes);
    g.size[to] = x[x.rank() + axis];
    g.result[to] = y[y.rank() + axis];
    g.kernel[to] = weight[weight.rank() + axis];
    g.stride[to] = node.settings[a];
    g.before[to] = node.settings[axes + a];
    g.dilation[to] = node.settings[2 * axes + a];
  }
  return g;
}

}  // namespace

void leave_dense(CompactLayer& row, std::string reason) {
  row.kernel.fill("dense");
  row.reason = std::move(reason);
}

void pack(ParameterState& p, const std::optional<ConvGeometry>& geometry, Kernels how, CompactLayer& row) {
  const Tensor weight = p.value();
  const Index live = live_entries(weight);
  if (weight.size() == 0 || static_cast<double>(live) > (1 - least_sparsity) * static_cast<double>(weight.size()))
    return leave_dense(row, weight.size() == 0 ? "empty" : live == weight.size() ? "no zeros" : "too few zeros");
  KernelChoices choices;
  if (how == Kernels::fixed || (weight.rank() > 2 && !geometry)) {
    const KernelChoice structure = structure_of(weight);
    choices = fixed_kernels(weight.shape(), live, weight.dtype(), structure);
    row.reason = "fixed table, " + percent(static_cast<double>(live) / static_cast<double>(weight.size())) + " live";
    if (structure != KernelChoice::sparse) row.reason += std::string(", ") + name_of(structure);
  } else {
    KernelTimes times;
    choices = geometry ? measure_kernels(weight, *geometry, &times) : measure_kernels(weight, &times);
    row.reason = times_text(times);
  }
  row.kernel = {name_of(choices.one), name_of(choices.few), name_of(choices.many)};
  if (!choices.any_sparse()) return;
  p.replace(Tensor::packed(weight.shape(), weight.dtype(), std::make_unique<PackedLinear>(weight, choices)), p.mask());
}

std::vector<Packable> packable_weights(const Graph& graph) {
  std::vector<std::uint32_t> as_weight(graph.values.size(), 0);
  std::vector<std::optional<ConvGeometry>> geometry(graph.values.size());
  for (const Graph::Node& node : graph.nodes)
    for (const std::size_t input : weights_of(node)) {
      const std::uint32_t slot = node.inputs[input];
      if (slot == Tape::constant || as_weight[slot]++ > 0) continue;
      geometry[slot] = geometry_of(graph, node, graph.values[slot].tensor.shape());
    }
  std::vector<Packable> weights;
  for (std::size_t slot = 0; slot < as_weight.size(); ++slot) {
    const Graph::Value& value = graph.values[slot];
    if (value.parameter && as_weight[slot] > 0 && as_weight[slot] == value.reads)
      weights.push_back({value.parameter.get(), geometry[slot]});
  }
  return weights;
}

void densify(ParameterState& p) {
  p.freeze();
  if (p.value().packed()) p.replace(p.value().densify(), p.mask());
}

Index live_entries(const Tensor& value) {
  if (value.packed()) return value.packed()->live();
  return dispatch_floating("compact", value.dtype(), [&]<class T>() {
    const T* v = value.data<T>();
    return static_cast<Index>(std::count_if(v, v + value.size(), [](T x) { return x != 0; }));
  });
}

CompactLayer row_before(const NamedParameter& named) {
  const Tensor& value = named.parameter->value();
  CompactLayer row;
  row.name = named.name;
  row.before = row.after = value.shape();
  row.live_before = live_entries(value);
  row.bytes_before = bytes_of(value);
  return row;
}

void row_after(CompactLayer& row, const ParameterState& p) {
  row.after = p.value().shape();
  row.live_after = live_entries(p.value());
  row.bytes_after = bytes_of(p.value());
}

}  // namespace espalier::prune::detail
