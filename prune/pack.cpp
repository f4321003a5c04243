#include "espalier/prune/pack.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "espalier/core/packed_linear.h"
#include "espalier/core/table.h"
#include "espalier/prune/detail/trace.h"

namespace espalier::prune::detail {
namespace {

Index bytes_of(const Tensor& value) {
  if (const auto* packed = dynamic_cast<const PackedLinear*>(value.packed())) return packed->bytes();
  return value.size() * size_of(value.dtype());
}

Index count_nonzero(const Tensor& value) {
  if (value.packed()) return value.packed()->live();
  return dispatch_floating("compact", value.dtype(), [&]<class T>() {
    const T* v = value.data<T>();
    return static_cast<Index>(std::count_if(v, v + value.size(), [](T x) { return x != 0; }));
  });
}

/// Below this share of zeros no kernel gains, and measuring is not worth its time.
constexpr double least_sparsity = 0.25;

std::string times_text(const KernelTimes& t) {
  std::string text = "dense / sparse us:";
  const char* const classes[] = {" 1:", ", 8:", ", 64:"};
  for (std::size_t k = 0; k < 3; ++k) {
    char part[64];
    std::snprintf(part, sizeof part, "%s %.3g/%.3g", classes[k], t.dense_us[k], t.sparse_us[k]);
    text += part;
  }
  return text;
}

}  // namespace

void pack(ParameterState& p, Kernels how, CompactLayer& row) {
  const Tensor weight = p.value();
  const Index live = count_nonzero(weight);
  row.kernel.fill("dense");
  if (weight.size() == 0 || static_cast<double>(live) > (1 - least_sparsity) * static_cast<double>(weight.size())) {
    row.reason = weight.size() == 0 ? "empty" : live == weight.size() ? "no zeros" : "too few zeros";
    return;
  }
  KernelChoices choices;
  if (how == Kernels::fixed) {
    choices = fixed_kernels(weight.shape(), live, weight.dtype());
    row.reason = "fixed table, " + percent(static_cast<double>(live) / static_cast<double>(weight.size())) + " live";
  } else {
    KernelTimes times;
    choices = measure_kernels(weight, &times);
    row.reason = times_text(times);
  }
  row.kernel = {name_of(choices.one), name_of(choices.few), name_of(choices.many)};
  if (!choices.any(KernelChoice::sparse)) return;
  p.replace(Tensor::packed(weight.shape(), weight.dtype(), std::make_unique<PackedLinear>(weight, choices)), p.mask());
}

std::vector<const ParameterState*> packable_weights(const Graph& graph) {
  std::vector<std::uint32_t> as_weight(graph.values.size(), 0);
  for (const Graph::Node& node : graph.nodes)
    if (node.op == "linear" && node.inputs.size() == 3 && node.inputs[1] != Tape::constant) ++as_weight[node.inputs[1]];
  std::vector<const ParameterState*> weights;
  for (std::size_t slot = 0; slot < as_weight.size(); ++slot) {
    const Graph::Value& value = graph.values[slot];
    if (value.parameter && as_weight[slot] > 0 && as_weight[slot] == value.reads)
      weights.push_back(value.parameter.get());
  }
  return weights;
}

void densify(ParameterState& p) {
  p.freeze();
  if (p.value().packed()) p.replace(p.value().densify(), p.mask());
}

CompactLayer row_before(const NamedParameter& named) {
  const Tensor& value = named.parameter->value();
  return {named.name, value.shape(), value.shape(), count_nonzero(value), 0, bytes_of(value), 0, {}, ""};
}

void row_after(CompactLayer& row, const ParameterState& p) {
  row.after = p.value().shape();
  row.live_after = count_nonzero(p.value());
  row.bytes_after = bytes_of(p.value());
}

std::vector<CompactLayer> repack(const ParameterList& parameters, Kernels how) {
  std::vector<CompactLayer> layers;
  for (const NamedParameter& named : parameters) {
    ParameterState& p = *named.parameter;
    if (!p.value().packed()) continue;
    CompactLayer row = row_before(named);
    densify(p);
    pack(p, how, row);
    row_after(row, p);
    layers.push_back(std::move(row));
  }
  return layers;
}

}  // namespace espalier::prune::detail
