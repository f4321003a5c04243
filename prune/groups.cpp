#include "espalier/prune/groups.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "espalier/optim/select.h"
#include "espalier/prune/detail/unit_part.h"
#include "espalier/prune/detail/units.h"

namespace espalier::prune {
namespace detail {

std::vector<UnitGroup> unit_groups(const Subject& copy, const ParameterList& parameters, const Tensor& sample) {
  std::map<const ParameterState*, const NamedParameter*> original;
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    densify(*copy.parameters[k].parameter);
    original[copy.parameters[k].parameter.get()] = &parameters[k];
  }
  const Graph graph = trace(copy.run, sample, copy.buffers);
  Units all(graph, Trust::derived_sizes);
  std::map<std::vector<Place>, std::size_t> place_of;  // of those that lie on the same axes
  std::vector<UnitGroup> groups;
  std::vector<int> fitness;  // of the parameter that names it: 2 has rows there, 1 entries, 0 columns
  for (const Units::Unit& unit : all.units()) {
    if (unit.pinned) continue;
    std::vector<Place> on;
    std::vector<UnitPart> parts;
    for (Place p : unit.places) {
      const Units::Axis& axis = all.axis_of(p);
      if (on.empty() || on.back() != axis.first) on.push_back(axis.first);
      const auto found = original.find(graph.values[axis.slot].parameter.get());
      if (found != original.end())
        parts.push_back({found->second->parameter, axis.axis, static_cast<Index>(p - axis.first)});
    }
    if (parts.empty()) continue;
    const auto [at, fresh] = place_of.try_emplace(std::move(on), groups.size());
    if (fresh) {
      groups.emplace_back();
      fitness.push_back(-1);
    }
    UnitGroup& group = groups[at->second];
    for (const UnitPart& part : parts) {
      const int fits = part.axis > 0 ? 0 : part.parameter->value().rank() > 1 ? 2 : 1;
      if (fits <= fitness[at->second]) continue;
      fitness[at->second] = fits;
      for (const NamedParameter& named : parameters)
        if (named.parameter == part.parameter) group.name = named.name;
      group.parameter = part.parameter;
    }
    group.units.push_back(std::move(parts));
  }
  return groups;
}

}  // namespace detail

UnitGroup branches(const ParameterList& parameters, const std::vector<std::string>& patterns) {
  UnitGroup group;
  std::map<const ParameterState*, const std::string*> taken;
  for (const std::string& pattern : patterns) {
    std::vector<UnitPart> parts;
    for (const NamedParameter& named : parameters) {
      const Shape& shape = named.parameter->value().shape();
      if (!optim::matches(pattern, named.name) || shape.rank() == 0) continue;
      const auto [at, fresh] = taken.try_emplace(named.parameter.get(), &pattern);
      if (!fresh && at->second == &pattern) continue;  // listed twice
      if (!fresh)
        fail<ConfigError>("[branches] '", named.name, "' belongs to \"", *at->second, "\" and to \"", pattern,
                          "\". Hint: branches that share a weight cannot be pruned apart");
      if (!group.parameter && shape.rank() >= 2) {
        group.parameter = named.parameter;
        group.name = named.name;
      }
      for (Index row = 0; row < shape[0]; ++row) parts.push_back({named.parameter, 0, row});
    }
    if (parts.empty())
      fail<ConfigError>("[branches] \"", pattern, "\" matches none of ", parameters.size(), " parameters");
    group.units.push_back(std::move(parts));
    if (!group.parameter) fail<ConfigError>("[branches] \"", pattern, "\" matches no weight of rank 2 or more");
  }
  return group;
}

std::vector<double> importance(const UnitGroup& group) {
  std::vector<double> all;
  std::map<const ParameterState*, std::vector<double>> values;
  for (const std::vector<UnitPart>& unit : group.units) {
    double sum = 0;
    for (const UnitPart& part : unit) {
      std::vector<double>& w = values[part.parameter.get()];
      if (w.empty()) w = part.parameter->value().densify().to(DType::f64).to_vector<double>();
      detail::for_each_weight(part, [&](Index i) { sum += std::abs(w[static_cast<std::size_t>(i)]); });
    }
    all.push_back(unit.empty() ? 0 : sum / static_cast<double>(unit.size()));
  }
  return all;
}

std::vector<Index> mask_units(const UnitGroup& group, Index n) {
  if (n < 0 || n > group.size())
    fail<ConfigError>("[mask_units] cannot mask ", n, " of the ", group.size(), " units of '", group.name, "'");
  const std::vector<double> scores = importance(group);
  for (std::size_t u = 0; u < scores.size(); ++u)
    if (std::isnan(scores[u]))
      fail<NonFiniteError>("[mask_units] the weights of unit ", u, " of '", group.name, "' hold a NaN");
  std::vector<Index> order(scores.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return scores[static_cast<std::size_t>(a)] < scores[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(n));
  std::sort(order.begin(), order.end());

  std::map<ParameterRef, Mask> masks;
  for (Index u : order)
    for (const UnitPart& part : group.units[static_cast<std::size_t>(u)]) {
      if (part.parameter->value().packed())
        fail<ConfigError>("[mask_units] '", part.parameter->full_name(), "' is packed. Hint: prune the model before ",
                          "compact()");
      const auto [at, fresh] = masks.try_emplace(part.parameter, part.parameter->mask());
      if (fresh && !at->second.defined()) at->second = Mask(part.parameter->value().size());
      detail::for_each_weight(part, [&mask = at->second](Index i) { mask.set(i, false); });
    }
  for (auto& [parameter, mask] : masks) parameter->set_mask(std::move(mask), parameter->mask_mode());
  return order;
}

}  // namespace espalier::prune
