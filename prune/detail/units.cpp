#include "espalier/prune/detail/units.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier::prune::detail {

std::vector<double> as_doubles(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }

Units::~Units() = default;

Units::Units(const Graph& graph, Trust trust) : graph_(graph), trust_(trust) {
  std::array<Place, Dims::max_rank> none;
  none.fill(no_place);
  first_.assign(graph.values.size(), none);
  find_weights();
  maker_.assign(graph.values.size(), graph.nodes.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n)
    for (std::uint32_t k = 0; k < graph.nodes[n].outputs; ++k) maker_[graph.nodes[n].first_output + k] = n;
  for (std::uint32_t slot = 0; slot < graph.values.size(); ++slot)
    if (graph.values[slot].is_leaf())
      for (int axis = 0; axis < shape(slot).rank(); ++axis) make(slot, axis);
  for (const Graph::Node& node : graph.nodes) {
    first_link_.push_back(links_.size());
    rules_.push_back(Fixed::keep);
    readers_.emplace_back();
    if (node.inputs.empty()) continue;
    describe(*this, node);
    for (std::uint32_t slot : node.inputs)  // whatever an op does not speak of must stay as it is
      for (int axis = 0; slot != Tape::constant && axis < shape(slot).rank(); ++axis)
        if (const Place p = first(slot, axis); p != no_place && touched_[axis_of_[index(p)]] != rules_.size())
          pin_axis(slot, axis, "'" + node.op + "'");
  }
  first_link_.push_back(links_.size());
  pin_what_is_hidden();
  fixed_.assign(parent_.size(), 0);
  needed_.assign(parent_.size(), 0);
  numbers_.resize(axes_.size());
  find_constants();
  find_needs();
  for (const auto& list : readers_)
    for (const auto& reader : list) reader->block(*this);
}

void Units::find_weights() {
  weight_.assign(graph_.values.size(), 0);
  for (std::size_t slot = 0; slot < weight_.size(); ++slot) weight_[slot] = graph_.values[slot].is_leaf();
  for (const Graph::Node& node : graph_.nodes) {
    if (node.inputs.empty()) continue;
    bool all = true;
    for (std::size_t k = 0; k < node.inputs.size(); ++k)
      all &= node.inputs[k] == Tape::constant ? !node.present[k] : weight_[node.inputs[k]] != 0;
    for (std::uint32_t k = 0; k < node.outputs; ++k) weight_[node.first_output + k] = all;
  }
}

// --- places ---------------------------------------------------------------------------------------------------------

Place Units::first(std::uint32_t slot, int axis) const {
  return slot == Tape::constant ? no_place : first_[slot][static_cast<std::size_t>(axis)];
}

Place Units::make(std::uint32_t slot, int axis) {
  Place& place = first_[slot][static_cast<std::size_t>(axis)];
  const Index length = shape(slot)[axis];
  if (place != no_place || length == 0) return place;
  place = static_cast<Place>(parent_.size());
  axes_.push_back({slot, axis, place, length});
  touched_.push_back(0);
  for (Index i = 0; i < length; ++i) {
    parent_.push_back(place + static_cast<Place>(i));
    axis_of_.push_back(static_cast<std::uint32_t>(axes_.size() - 1));
    pinned_.push_back(-1);
    blocked_.push_back(-1);
  }
  return place;
}

Place Units::root(Place p) {
  while (parent_[index(p)] != p) p = parent_[index(p)] = parent_[index(parent_[index(p)])];
  return p;
}

const Graph::Node* Units::maker(std::uint32_t slot) const {
  return slot == Tape::constant || maker_[slot] == graph_.nodes.size() ? nullptr : &graph_.nodes[maker_[slot]];
}

void Units::unite(Place a, Place b) {
  if (a == no_place || b == no_place) return;
  touched_[axis_of_[index(a)]] = touched_[axis_of_[index(b)]] = rules_.size();
  a = root(a);
  b = root(b);
  if (a == b) return;
  if (b < a) std::swap(a, b);
  parent_[index(b)] = a;
  if (pinned_[index(a)] < 0) pinned_[index(a)] = pinned_[index(b)];
}

int Units::reason(const std::string& why) {
  const auto found = std::find(reasons_.begin(), reasons_.end(), why);
  if (found == reasons_.end()) reasons_.push_back(why);
  return static_cast<int>(std::find(reasons_.begin(), reasons_.end(), why) - reasons_.begin());
}

void Units::pin(Place place, const std::string& why) {
  if (place == no_place) return;
  touched_[axis_of_[index(place)]] = rules_.size();
  read_.push_back(place);
  int& pinned = pinned_[index(root(place))];
  if (pinned < 0) pinned = reason(why);
}

void Units::block(Place place, const std::string& why) {
  if (place == no_place) return;
  int& blocked = blocked_[index(root(place))];
  if (blocked < 0) blocked = reason(why);
}

void Units::pin_axis(std::uint32_t slot, int axis, const std::string& why) {
  const Place p = first(slot, axis);
  for (Index i = 0; p != no_place && i < shape(slot)[axis]; ++i) pin(p + static_cast<Place>(i), why);
}

void Units::pin_all(std::uint32_t slot, const std::string& why) {
  if (slot == Tape::constant) return;
  for (int axis = 0; axis < shape(slot).rank(); ++axis) pin_axis(slot, axis, why);
}

void Units::link(Place in, Place out) {
  if (in == no_place || out == no_place) return;
  unite(in, out);
  links_.push_back({in, out});
}

void Units::link_axes(std::uint32_t in, int in_axis, std::uint32_t out, int out_axis) {
  const Place from = first(in, in_axis);
  if (from == no_place) return;
  const Place to = make(out, out_axis);
  for (Index i = 0; i < shape(in)[in_axis]; ++i) link(from + static_cast<Place>(i), to + static_cast<Place>(i));
}

void Units::unite_axes(std::uint32_t a, int axis_a, std::uint32_t b, int axis_b, const std::string& why) {
  const Place left = first(a, axis_a), right = first(b, axis_b);
  if (left == no_place || right == no_place) {
    if (left != no_place) pin_axis(a, axis_a, why);
    if (right != no_place) pin_axis(b, axis_b, why);
    return;
  }
  for (Index i = 0; i < shape(a)[axis_a]; ++i) unite(left + static_cast<Place>(i), right + static_cast<Place>(i));
}

/// What code reads that the tape does not see, and what the caller sees.
void Units::pin_what_is_hidden() {
  for (std::uint32_t slot : graph_.output_slots) pin_all(slot, "an output of the network");
  for (std::uint32_t slot = 0; slot < graph_.values.size(); ++slot)
    if (graph_.values[slot].escaped) pin_all(slot, "code that the tape does not see (detach(), value())");
  for (const Graph::Node& node : graph_.nodes) {
    bool read = false;
    for (std::uint32_t k = 0; k < node.outputs; ++k) {
      const std::uint32_t slot = node.first_output + k;
      read |= graph_.values[slot].reads > 0 ||
              std::find(graph_.output_slots.begin(), graph_.output_slots.end(), slot) != graph_.output_slots.end();
    }
    if (read) continue;
    for (std::uint32_t k = 0; k < node.outputs; ++k) pin_all(node.first_output + k, "nothing that the tape sees");
  }
}

// --- flags ----------------------------------------------------------------------------------------------------------

const Units::Numbers& Units::numbers(std::size_t at) {
  std::unique_ptr<Numbers>& held = numbers_[at];
  if (held) return *held;
  held = std::make_unique<Numbers>();
  const Axis& axis = axes_[at];
  const Tensor& t = graph_.values[axis.slot].tensor;
  const auto n = static_cast<std::size_t>(axis.length);
  held->low.assign(n, std::numeric_limits<double>::infinity());
  held->high.assign(n, -std::numeric_limits<double>::infinity());
  std::size_t inner = 1;
  for (int a = axis.axis + 1; a < t.rank(); ++a) inner *= static_cast<std::size_t>(t.shape()[a]);
  const std::vector<double> x = as_doubles(t);
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double &low = held->low[i / inner % n], &high = held->high[i / inner % n];
    low = x[i] >= low ? low : x[i];  // NaN stays
    high = x[i] <= high ? high : x[i];
    largest = std::max(largest, std::abs(x[i]));
  }
  // Kernels may round the first and the last rows of a block in other orders.
  held->slack = 8 * largest *
                (t.dtype() == DType::f32 ? static_cast<double>(std::numeric_limits<float>::epsilon())
                                         : std::numeric_limits<double>::epsilon());
  return *held;
}

std::optional<double> Units::number(Place p) {
  if (p == no_place) return std::nullopt;
  const Numbers& of = numbers(axis_of_[index(p)]);
  const auto i = static_cast<std::size_t>(p - axis_of(p).first);
  const double low = of.low[i], high = of.high[i];
  if (!std::isfinite(low) || !std::isfinite(high) || !(high - low <= of.slack)) return std::nullopt;
  if (low == 0 || high == 0) return low == high ? std::optional(0.0) : std::nullopt;
  return low;
}

/// Leaves that stand for something to be computed with: not the weights of layers, of which nobody asks whether they are
/// one number.
std::vector<std::uint8_t> Units::leaf_operands() const {
  std::vector<std::uint8_t> operand(graph_.values.size(), 0);
  for (const Graph::Node& node : graph_.nodes) {
    const bool layer =
        node.op == "linear" || node.op.starts_with("conv") || node.op == "lstm" || node.op == "gru" || node.op == "rnn";
    for (std::size_t k = 0; k < node.inputs.size(); ++k)
      if (node.inputs[k] != Tape::constant && (!layer || k == 0))
        operand[node.inputs[k]] |= graph_.values[node.inputs[k]].is_leaf();
  }
  return operand;
}

void Units::find_constants() {
  const std::vector<std::uint8_t> operand = leaf_operands();
  for (std::size_t a = 0; a < axes_.size(); ++a) {
    const Axis axis = axes_[a];
    for (Index i = 0; operand[axis.slot] && i < axis.length; ++i) {
      const Place p = axis.first + static_cast<Place>(i);
      set_fixed(p, number(p).has_value());
    }
  }
  for (std::size_t n = 0; n < graph_.nodes.size(); ++n) {
    const Fixed rule = rules_[n];
    const std::size_t begin = first_link_[n], end = first_link_[n + 1];
    for (std::size_t k = begin; k < end; ++k) set_fixed(links_[k].out, rule != Fixed::never);
    for (std::size_t k = begin; k < end; ++k) {
      const bool in = fixed(links_[k].in) && (rule != Fixed::zero || is_zero(links_[k].in));
      if (!in) set_fixed(links_[k].out, false);
    }
    if (rule == Fixed::same)
      for (std::size_t k = begin; k < end; ++k)
        if (fixed(links_[k].out) && !number(links_[k].out)) set_fixed(links_[k].out, false);
    for (const auto& reader : readers_[n]) reader->constants(*this);
  }
}

void Units::find_needs() {
  for (Place p : read_) set_needed(p);
  for (std::size_t n = graph_.nodes.size(); n-- > 0;) {
    for (const auto& reader : readers_[n]) reader->needs(*this);
    for (std::size_t k = first_link_[n]; k < first_link_[n + 1]; ++k)
      if (needed(links_[k].out)) set_needed(links_[k].in);
  }
}

std::vector<Units::Unit> Units::units() {
  std::vector<Unit> units;
  std::vector<std::size_t> of(parent_.size());
  for (Place p = 0; p < static_cast<Place>(parent_.size()); ++p) {
    const Place r = root(p);
    if (r == p) {
      of[index(p)] = units.size();
      units.emplace_back();
    }
    units[of[index(r)]].places.push_back(p);  // a root is its unit's smallest place
  }
  for (Unit& unit : units) {
    unit.pinned = pinned_[index(unit.places.front())] >= 0;
    unit.dead = true;
    for (Place p : unit.places) {
      unit.dead &= fixed(p) || needed_[index(p)] == 0;
      unit.read |= needed_[index(p)] != 0;
    }
    if (!unit.dead) continue;
    const Place r = unit.places.front();
    int why = pinned_[index(r)];
    for (Place p : unit.places)
      if (why < 0 && blocked_[index(p)] >= 0) why = blocked_[index(p)];
    if (why < 0) continue;
    unit.dead = false;
    const bool computed =
        std::any_of(unit.places.begin(), unit.places.end(), [&](Place p) { return weight_[axis_of(p).slot] == 0; });
    if (computed) unit.stays = reasons_[static_cast<std::size_t>(why)];
  }
  return units;
}

}  // namespace espalier::prune::detail
