#include "espalier/prune/detail/plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace espalier::prune::detail {
namespace {

using optim::KeptAxes, optim::taken;

Leaf leaf_of(const Graph& graph, std::uint32_t slot) {
  return {graph.values[slot].parameter, graph.values[slot].buffer};
}

class Planner {
 public:
  Planner(const Graph& graph, Trust trust) : graph_(graph), all_(graph, trust), units_(all_.units()) {}

  Plan plan(const Rounding& rounding) {
    keep_heads();
    if (rounding) round(rounding);
    std::size_t places = 0;
    for (const Units::Axis& axis : all_.axes()) places += static_cast<std::size_t>(axis.length);
    cut_.assign(places, 0);
    std::map<std::pair<const ParameterState*, std::string>, std::size_t> stays;
    for (const Units::Unit& unit : units_) {
      for (Place p : unit.places) cut_[static_cast<std::size_t>(p)] = unit.dead;
      if (unit.dead) ++(unit.read ? plan_.cut_constant : plan_.cut_unread);
      if (unit.stays.empty()) continue;
      const ParameterRef owner = owner_of(unit);
      const auto [at, fresh] = stays.try_emplace({owner.get(), unit.stays}, plan_.stays.size());
      if (fresh) plan_.stays.push_back({owner, 0, unit.stays});
      ++plan_.stays[at->second].units;
    }
    if (plan_.cut_constant + plan_.cut_unread == 0) return std::move(plan_);
    hollow();
    fold();
    for (std::uint32_t slot = 0; slot < graph_.values.size(); ++slot)
      if (graph_.values[slot].is_leaf())
        if (KeptAxes kept = kept_of(slot); std::any_of(kept.begin(), kept.end(), [](auto& k) { return k.has_value(); }))
          plan_.slices.push_back({leaf_of(graph_, slot), std::move(kept)});
    for (const Graph::Node& node : graph_.nodes) plan_.kept.push_back(kept_of(node.first_output));
    return std::move(plan_);
  }

 private:
  /// The parameter of a unit that names it best: one whose first axis it is on, if there is one.
  ParameterRef owner_of(const Units::Unit& unit) const {
    ParameterRef other;
    for (Place p : unit.places) {
      const Units::Axis& axis = all_.axis_of(p);
      const ParameterRef& parameter = graph_.values[axis.slot].parameter;
      if (!parameter) continue;
      if (axis.axis == 0 && parameter->value().rank() > 1) return parameter;
      if (!other || axis.axis == 0) other = parameter;
    }
    return other;
  }

  /// Attention without heads is none: one stays.
  void keep_heads() {
    std::map<Place, std::size_t> unit_of;
    for (const Graph::Node& node : graph_.nodes) {
      if (node.op != "self_attention" && node.op != "scaled_dot_product_attention") continue;
      const bool joint = node.op == "self_attention";
      const int axis = all_.shape(node.first_output).rank() - (joint ? 1 : 3);
      const Place first = axis < 0 ? no_place : all_.first(node.first_output, axis);
      const Index n = first == no_place ? 0 : all_.shape(node.first_output)[axis];
      if (n == 0) continue;
      if (unit_of.empty())
        for (std::size_t u = 0; u < units_.size(); ++u)
          for (Place p : units_[u].places) unit_of[p] = u;
      const auto unit = [&](Index i) -> Units::Unit& { return units_[unit_of[first + static_cast<Place>(i)]]; };
      bool alive = false;
      for (Index i = 0; i < n; ++i) alive |= !unit(i).dead;
      if (alive) continue;
      unit(0).dead = false;
      unit(0).stays = "'" + node.op + "', which needs a head";
    }
  }

  /// A depthwise convolution that has lost all channels has no input channel in a group either.
  void hollow() {
    for (const Graph::Node& node : graph_.nodes) {
      if (!node.op.starts_with("conv") || node.inputs.size() < 2 || node.inputs[1] == Tape::constant) continue;
      const Place inputs = all_.first(node.inputs[1], 1), rows = all_.first(node.inputs[1], 0);
      if (inputs == no_place || rows == no_place || node.settings.empty() || node.settings.back() < 2) continue;
      const Shape& weight = all_.shape(node.inputs[1]);
      bool all = weight[1] == 1;
      for (Index r = 0; r < weight[0]; ++r)
        all &= cut_[static_cast<std::size_t>(rows) + static_cast<std::size_t>(r)] != 0;
      if (all) cut_[static_cast<std::size_t>(inputs)] = 1;
    }
  }

  /// Sum of |w| of all that belongs to a unit.
  double weight_of(const Units::Unit& unit) {
    double sum = 0;
    for (Place p : unit.places) {
      const Units::Axis& axis = all_.axis_of(p);
      if (!graph_.values[axis.slot].parameter) continue;
      const Tensor part = graph_.values[axis.slot].tensor.select(axis.axis, static_cast<Index>(p - axis.first));
      for (double w : as_doubles(part)) sum += std::abs(w);
    }
    return sum;
  }

  /// Units that lie on the same axes are those of one layer, or of layers that share them. The best of the dead ones fill
  /// up to a round number.
  void round(const Rounding& rounding) {
    std::map<std::vector<Place>, std::vector<std::size_t>> families;
    for (std::size_t u = 0; u < units_.size(); ++u) {
      std::vector<Place> on;
      for (Place p : units_[u].places) on.push_back(all_.axis_of(p).first);
      on.erase(std::unique(on.begin(), on.end()), on.end());
      families[std::move(on)].push_back(u);
    }
    for (const auto& [on, family] : families) {
      std::vector<std::pair<double, std::size_t>> dead;
      for (std::size_t u : family)
        if (units_[u].dead) dead.emplace_back(-weight_of(units_[u]), u);
      const auto stay = static_cast<Index>(family.size() - dead.size());
      const Graph::Node* layer = layer_of(units_[family.front()]);
      if (dead.empty() || stay == 0 || !layer) continue;
      const Index wanted = rounding(graph_, *layer, stay, static_cast<Index>(family.size()));
      std::stable_sort(dead.begin(), dead.end());
      for (Index k = 0; k < wanted - stay && k < static_cast<Index>(dead.size()); ++k) {
        units_[dead[static_cast<std::size_t>(k)].second].dead = false;
        ++plan_.rounded;
      }
    }
  }

  /// The layer whose rows these units are.
  const Graph::Node* layer_of(const Units::Unit& unit) const {
    for (Place p : unit.places) {
      const Units::Axis& axis = all_.axis_of(p);
      const Graph::Node* node = all_.maker(axis.slot);
      if (!node || node->inputs.size() < 2 || node->inputs[1] == Tape::constant) continue;
      if ((node->op == "linear" || node->op.starts_with("conv")) && graph_.values[node->inputs[1]].parameter)
        return node;
    }
    return nullptr;
  }

  void fold() {
    std::vector<Addend> all;
    for (const auto& readers : all_.readers())
      for (const auto& reader : readers) reader->fold(all_, cut_, all);
    for (Addend& a : all) plan_.folds.push_back({leaf_of(graph_, a.slot), a.begin, std::move(a.values)});
  }

  KeptAxes kept_of(std::uint32_t slot) const {
    const Shape& shape = all_.shape(slot);
    KeptAxes kept(static_cast<std::size_t>(shape.rank()));
    for (int axis = 0; axis < shape.rank(); ++axis) {
      const Place first = all_.first(slot, axis);
      if (first == no_place) continue;
      std::vector<Index> left;
      for (Index i = 0; i < shape[axis]; ++i)
        if (!cut_[static_cast<std::size_t>(first) + static_cast<std::size_t>(i)]) left.push_back(i);
      if (static_cast<Index>(left.size()) < shape[axis]) kept[static_cast<std::size_t>(axis)] = std::move(left);
    }
    return kept;
  }

  const Graph& graph_;
  Units all_;
  std::vector<Units::Unit> units_;
  std::vector<std::uint8_t> cut_;  // by place
  Plan plan_;
};

Tensor plus(const Tensor& t, const Fold& fold) {
  Tensor value = t.clone();
  dispatch_floating("fold", value.dtype(), [&]<class T>() {
    T* b = value.write<T>("fold") + fold.begin;
    for (std::size_t i = 0; i < fold.addend.size(); ++i)
      b[i] = static_cast<T>(static_cast<double>(b[i]) + fold.addend[i]);
  });
  return value;
}

}  // namespace

Plan plan_cuts(const Graph& graph, Trust trust, const Rounding& rounding) {
  return Planner(graph, trust).plan(rounding);
}

void apply(const Plan& plan) {
  for (const Fold& fold : plan.folds) {
    Tensor value = plus(fold.leaf.value(), fold);
    if (fold.leaf.buffer) {
      fold.leaf.buffer->set(std::move(value));
      continue;
    }
    Mask mask = fold.leaf.parameter->mask();
    if (mask.defined())  // a pruned entry that now carries a constant is live
      for (std::size_t i = 0; i < fold.addend.size(); ++i)
        if (fold.addend[i] != 0) mask.set(fold.begin + static_cast<Index>(i), true);
    fold.leaf.parameter->replace(std::move(value), std::move(mask));
  }
  for (const Slice& slice : plan.slices) {
    Tensor value = taken(slice.leaf.value(), slice.kept);
    if (slice.leaf.buffer) {
      slice.leaf.buffer->set(std::move(value));
      continue;
    }
    ParameterState& p = *slice.leaf.parameter;
    p.replace(std::move(value), taken(p.mask(), p.value().shape(), slice.kept));
  }
}

}  // namespace espalier::prune::detail
