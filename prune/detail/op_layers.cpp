// What layers do to units: products with weights, norms, recurrences, attention.
#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "espalier/prune/detail/op_units.h"

namespace espalier::prune::detail {
namespace {

using Node = Graph::Node;

std::string quoted(const Node& node) { return "'" + node.op + "'"; }
Place at(Place first, Index i) { return first == no_place ? no_place : first + static_cast<Place>(i); }

/// Where a layer may put a constant.
struct Target {
  std::uint32_t slot = Tape::constant;
  Index begin = 0;
  double sign = 1;
  bool exists() const { return slot != Tape::constant; }
};

/// A bias that is a parameter's, or a part of one that only parts are taken of, and read here alone. Without a bias, the
/// running mean of a batch norm that alone reads the output.
Target target_of(const Units& u, const Node& node, std::size_t bias) {
  const Graph& g = u.graph();
  if (bias < node.inputs.size() && node.present[bias]) {
    const std::uint32_t slot = node.inputs[bias];
    if (slot == Tape::constant || g.values[slot].reads != 1) return {};
    if (g.values[slot].is_leaf()) return {slot};
    const Node* part = u.maker(slot);
    if (!part || part->op != "narrow" || part->inputs[0] == Tape::constant || !g.values[part->inputs[0]].is_leaf())
      return {};
    std::set<Index> begins;
    std::uint32_t parts = 0;
    for (const Node& other : g.nodes)
      if (other.op == "narrow" && other.inputs[0] == part->inputs[0]) {
        begins.insert(other.settings[1]);
        ++parts;
      }
    if (parts != g.values[part->inputs[0]].reads || begins.size() != parts) return {};
    return {part->inputs[0], part->settings[1]};
  }
  if (node.op == "linear" && !node.settings.empty()) return {};  // its activation lies between
  for (const Node& next : g.nodes)
    if (next.op == "batch_norm_inference" && next.inputs[0] == node.first_output &&
        g.values[node.first_output].reads == 1 && next.inputs.size() > 3 && next.inputs[3] != Tape::constant &&
        g.values[next.inputs[3]].buffer && g.values[next.inputs[3]].reads == 1)
      return {next.inputs[3], 0, -1};
  return {};
}

/// y[row] = sum over columns of weight(row, column) x[column] + bias[row], where a weight is what a kernel sums up to.
class Product final : public Reader {
 public:
  struct Sizes {
    Index rows, columns, groups = 1;  // columns of one group
    bool columns_first = false;       // the first axis of the weight is that of the columns
  };
  Product(const Node& node, Sizes sizes, const Tensor& weight, Place x, Place y, Index units)
      : op_(quoted(node)),
        sizes_(sizes),
        weight_(weight.contiguous()),
        x_(x),
        y_(y),
        units_(std::max<Index>(1, units)) {
    const Index entries = sizes.rows * sizes.columns;
    taps_ = entries > 0 ? weight_.size() / entries : 0;
    present_.assign(static_cast<std::size_t>(entries), 0);
    dispatch_floating("compact", weight_.dtype(), [&]<class T>() {
      const T* w = weight_.data<T>();
      for (Index r = 0; r < sizes.rows; ++r)
        for (Index c = 0; c < sizes.columns; ++c)
          for (const T *k = w + kernel(r, c), *end = k + taps_; k < end; ++k) present_[index(r, c)] |= !(*k == 0);
    });
  }
  Target target;
  bool bias_is_weight = true;  // else no row is ever constant
  bool makes_constants = true;
  const char* inexact = nullptr;  // why a constant that is not 0 cannot be folded

  void constants(Units& u) const override {
    for (Index r = 0; makes_constants && r < sizes_.rows; ++r) {
      bool fixed = bias_is_weight;
      for (Index c = 0; fixed && c < sizes_.columns; ++c)
        if (present_[index(r, c)]) fixed = inexact ? u.is_zero(input(r, c)) : u.fixed(input(r, c));
      u.set_fixed(output(r), fixed);
    }
  }
  void needs(Units& u) const override {
    for (Index r = 0; r < sizes_.rows; ++r)
      for (Index c = 0; u.needed(output(r)) && c < sizes_.columns; ++c)
        if (present_[index(r, c)]) u.set_needed(input(r, c));
  }
  void block(Units& u) const override {
    for (Index r = 0; x_ != no_place && r < sizes_.rows; ++r)
      for (Index c = 0; u.needed(output(r)) && c < sizes_.columns; ++c) {
        const Place p = input(r, c);
        if (!present_[index(r, c)] || !u.fixed(p)) continue;
        const std::optional<double> k = u.number(p);
        if (k == 0.0) continue;
        if (!k)
          u.block(p, "its constant is not the same everywhere where " + op_ + " reads it");
        else if (inexact)
          u.block(p, std::string(inexact) + " of " + op_ + " meets its constant, which is not 0");
        else if (!target.exists())
          u.block(p, op_ + " has no bias of its own to take up its constant");
      }
  }
  void fold(Units& u, const std::vector<std::uint8_t>& cut, std::vector<Addend>& folds) const override {
    if (x_ == no_place || !target.exists() || inexact) return;
    Addend addend{target.slot, target.begin, std::vector<double>(static_cast<std::size_t>(sizes_.rows), 0.0)};
    bool any = false;
    for (Index r = 0; r < sizes_.rows; ++r) {
      if (output(r) != no_place && cut[static_cast<std::size_t>(output(r))]) continue;
      for (Index c = 0; c < sizes_.columns; ++c) {
        const Place p = input(r, c);
        if (!present_[index(r, c)] || !cut[static_cast<std::size_t>(p)] || !u.fixed(p)) continue;
        const double k = u.number(p).value_or(0);
        addend.values[static_cast<std::size_t>(r)] += target.sign * sum(r, c) * k;
        any |= k != 0;
      }
    }
    if (any) folds.push_back(std::move(addend));
  }

 private:
  std::size_t index(Index row, Index column) const { return static_cast<std::size_t>(row * sizes_.columns + column); }
  Place input(Index row, Index column) const {
    return at(x_, row / (sizes_.rows / sizes_.groups) * sizes_.columns + column);
  }
  Place output(Index row) const { return at(y_, row % units_); }

  /// Where the kernel of a row and a column begins.
  Index kernel(Index row, Index column) const {
    return (sizes_.columns_first ? column * sizes_.rows + row : row * sizes_.columns + column) * taps_;
  }
  double sum(Index row, Index column) const {
    double all = 0;
    dispatch_floating("compact", weight_.dtype(), [&]<class T>() {
      const T* k = weight_.data<T>() + kernel(row, column);
      for (Index t = 0; t < taps_; ++t) all += static_cast<double>(k[t]);
    });
    return all;
  }

  std::string op_;
  Sizes sizes_;
  Tensor weight_;
  Place x_, y_;
  Index units_;  // rows that differ by a multiple of it belong to one
  Index taps_ = 0;
  std::vector<std::uint8_t> present_;
};

bool all_zero(const Tensor& t) {
  const std::vector<double> v = as_doubles(t);
  return std::all_of(v.begin(), v.end(), [](double x) { return x == 0; });
}

/// A first state made of zeros has the size of the weights it meets, if we may trust the code.
bool is_zero_state(const Units& u, const Node& node, std::size_t k) {
  return u.trusting() && node.inputs[k] == Tape::constant && node.constants[k].defined() && all_zero(node.constants[k]);
}

bool is_weight_or_absent(const Units& u, const Node& node, std::size_t k) {
  return !node.present[k] || u.is_weight(node.inputs[k]);
}

/// Axis `axis` of y, which stands for rows, with the first axis of the weight and the bias.
Place unite_rows(Units& u, const Node& node, std::uint32_t y, int axis, std::uint32_t weight, int weight_axis) {
  u.make(y, axis);
  u.unite_axes(weight, weight_axis, y, axis, quoted(node));
  if (node.present[2]) u.unite_axes(node.inputs[2], 0, y, axis, quoted(node) + " with a bias that is no parameter");
  return u.first(y, axis);
}

void linear(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], w = node.inputs[1], y = node.first_output;
  if (!u.is_weight(w)) return;
  const Shape weight = u.shape(w);
  const int last = u.shape(y).rank() - 1;
  const Place rows = unite_rows(u, node, y, last, w, 0);
  if (x != Tape::constant) {
    for (int axis = 0; axis < last; ++axis) u.link_axes(x, axis, y, axis);
    u.unite_axes(x, last, w, 1, "an input of the network");
  } else if (is_zero_state(u, node, 0)) {
    for (Index c = 0; u.first(w, 1) != no_place && c < weight[1]; ++c)
      u.unite(at(u.first(w, 1), c), at(u.first(w, 1), c));
  }
  auto product = std::make_unique<Product>(node, Product::Sizes{weight[0], weight[1]}, u.graph().values[w].tensor,
                                           x == Tape::constant ? no_place : u.first(x, last), rows, weight[0]);
  product->target = target_of(u, node, 2);
  product->bias_is_weight = is_weight_or_absent(u, node, 2);
  u.add(std::move(product));
}

/// Input and output channels of a convolution with groups. Of a depthwise one each channel goes with its own; else
/// channel j of each group is cut with channel j of all others, for groups must stay equal.
void unite_groups(Units& u, const Node& node, int channels, Index groups) {
  const std::uint32_t x = node.inputs[0], w = node.inputs[1], y = node.first_output;
  const Index in = u.shape(w)[1], out = u.shape(y)[channels] / groups;
  const Place cx = u.first(x, channels), cy = u.first(y, channels), cw = u.first(w, 1);
  if (cx == no_place && in == 1) return u.pin_axis(y, channels, "an input of the network");
  for (Index g = 0; g < groups; ++g) {
    for (Index r = 0; r < out; ++r) u.unite(at(cy, g * out + r), in == 1 ? at(cx, g) : at(cy, r));
    for (Index c = 0; in > 1 && c < in; ++c) u.unite(at(cw, c), at(cx, g * in + c));
  }
  if (in > 1 && cx == no_place) u.pin_axis(w, 1, "an input of the network");
}

void convolution(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], w = node.inputs[1], y = node.first_output;
  const int axes = node.op.ends_with("1d") ? 1 : 2;
  const bool transposed = node.op.starts_with("conv_transpose");
  if (!u.is_weight(w) || x == Tape::constant || node.settings.size() != static_cast<std::size_t>(4 * axes + 1)) return;
  const Index groups = node.settings.back();
  const int channels = u.shape(x).rank() - 1 - axes;
  const Shape weight = u.shape(w);
  if (transposed && groups != 1) return;
  if (channels == 1) u.link_axes(x, 0, y, 0);
  const Place rows = unite_rows(u, node, y, channels, w, transposed ? 1 : 0);
  if (groups == 1)
    u.unite_axes(x, channels, w, transposed ? 0 : 1, "an input of the network");
  else
    unite_groups(u, node, channels, groups);

  const Product::Sizes sizes{weight[transposed ? 1 : 0], weight[transposed ? 0 : 1], groups, transposed};
  auto product =
      std::make_unique<Product>(node, sizes, u.graph().values[w].tensor, u.first(x, channels), rows, sizes.rows);
  bool padded = false;
  for (int a = 0; a < axes; ++a) padded |= node.settings[static_cast<std::size_t>(axes + a)] != 0;
  product->inexact = transposed ? "the kernel" : padded ? "the zero padding" : nullptr;
  product->target = target_of(u, node, 2);
  product->bias_is_weight = is_weight_or_absent(u, node, 2);
  u.add(std::move(product));
}

/// Leading axes that a product of two values has in common: heads. What it sums over stays.
class Heads final : public Reader {
 public:
  struct Entry {
    Place out, a, b;
  };
  std::vector<Entry> entries;
  void constants(Units& u) const override {
    for (const Entry& e : entries) u.set_fixed(e.out, u.is_zero(e.a) || u.is_zero(e.b));
  }
  void needs(Units& u) const override {
    for (const Entry& e : entries) {
      if (!u.needed(e.out)) continue;
      if (!u.is_zero(e.b)) u.set_needed(e.a);
      if (!u.is_zero(e.a)) u.set_needed(e.b);
    }
  }
};

void matmul(Units& u, const Node& node) {
  const std::uint32_t a = node.inputs[0], b = node.inputs[1], y = node.first_output;
  if (a == Tape::constant || b == Tape::constant) return;
  const int ra = u.shape(a).rank(), rb = u.shape(b).rank(), ry = u.shape(y).rank();
  if (u.is_weight(b) && rb == 2 && ra >= 2) {
    for (int axis = 0; axis + 1 < ra; ++axis) u.link_axes(a, axis, y, axis);
    u.make(y, ry - 1);
    u.unite_axes(b, 1, y, ry - 1, quoted(node));
    u.unite_axes(a, ra - 1, b, 0, "an input of the network");
    const Index in = u.shape(b)[0], out = u.shape(b)[1];
    auto product = std::make_unique<Product>(node, Product::Sizes{out, in, 1, true}, u.graph().values[b].tensor,
                                             u.first(a, ra - 1), u.first(y, ry - 1), out);
    return u.add(std::move(product));
  }
  if (ra < 2 || rb < 2 || ra != rb) return;
  auto heads = std::make_unique<Heads>();
  for (int axis = 0; axis + 2 < ra; ++axis) {
    if (u.shape(a)[axis] != u.shape(b)[axis]) continue;
    const Place pa = u.first(a, axis), pb = u.first(b, axis);
    u.unite_axes(a, axis, b, axis, quoted(node) + " with a value that has no such units");
    if (pa == no_place || pb == no_place) continue;
    const Place py = u.make(y, axis);
    for (Index i = 0; i < u.shape(y)[axis]; ++i) {
      u.unite(at(pa, i), at(py, i));
      heads->entries.push_back({at(py, i), at(pa, i), at(pb, i)});
    }
  }
  if (const Place pb = u.first(b, rb - 1); pb != no_place && !u.is_weight(b)) {
    const Place py = u.make(y, ry - 1);
    for (Index i = 0; i < u.shape(b)[rb - 1]; ++i) {
      u.unite(at(pb, i), at(py, i));
      heads->entries.push_back({at(py, i), at(pb, i), no_place});
    }
  }
  u.add(std::move(heads));
}

// --- norms ----------------------------------------------------------------------------------------------------------

/// Channels, normalised in runs of `together`: constant if all of a run are, or where the gain is 0.
class ChannelNorm final : public Reader {
 public:
  ChannelNorm(Place x, Place y, Index together, std::vector<double> gain, bool bias_is_weight)
      : x_(x), y_(y), together_(together), gain_(std::move(gain)), bias_is_weight_(bias_is_weight) {}
  void constants(Units& u) const override {
    for (Index run = 0; run < channels(); run += together_) {
      bool all = true;
      for (Index c = run; c < run + together_; ++c) all &= u.fixed(at(x_, c));
      for (Index c = run; c < run + together_; ++c) u.set_fixed(at(y_, c), bias_is_weight_ && (all || gain(c) == 0));
    }
  }
  void needs(Units& u) const override {
    for (Index run = 0; run < channels(); run += together_) {
      bool any = false;
      for (Index c = run; c < run + together_; ++c) any |= u.needed(at(y_, c)) && gain(c) != 0;
      for (Index c = run; any && c < run + together_; ++c) u.set_needed(at(x_, c));
    }
  }

 private:
  Index channels() const { return static_cast<Index>(gain_.size()); }
  double gain(Index c) const { return gain_[static_cast<std::size_t>(c)]; }
  Place x_, y_;
  Index together_;
  std::vector<double> gain_;
  bool bias_is_weight_;
};

void channel_norm(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  if (x == Tape::constant || node.settings.empty()) return;
  const Index channels = u.shape(x)[1], groups = node.settings[0];
  if (channels == 0) return;
  if (node.op == "group_norm" && !(u.trusting() && node.present[1])) return;  // the code may know their number
  const Place in = u.first(x, 1), out = in == no_place ? no_place : u.make(y, 1);
  const Index together = groups > 0 ? channels / groups : 1;
  for (Index c = 0; in != no_place && c < channels; ++c) {
    u.unite(at(in, c), at(out, c));
    u.unite(at(in, c / together * together), at(in, c));
  }
  for (std::size_t k = 1; k < node.inputs.size(); ++k) {
    if (!node.present[k]) continue;
    if (node.inputs[k] == Tape::constant)
      u.pin_axis(x, 1, quoted(node) + " with a value that is no parameter or buffer");
    else
      u.unite_axes(x, 1, node.inputs[k], 0, "an input of the network");
  }
  std::vector<double> gain(static_cast<std::size_t>(channels), 1.0);
  if (node.present[1] && u.is_weight(node.inputs[1])) gain = as_doubles(u.graph().values[node.inputs[1]].tensor);
  u.add(std::make_unique<ChannelNorm>(in, out, together, std::move(gain), is_weight_or_absent(u, node, 2)));
}

/// Over the last axes: units of these stay.
void row_norm(Units& u, const Node& node) {
  if (node.settings.empty()) return;
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  for (int axis = 0; x != Tape::constant && axis < u.shape(x).rank() - static_cast<int>(node.settings[0]); ++axis)
    u.link_axes(x, axis, y, axis);
}

void prelu(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], w = node.inputs[1], y = node.first_output;
  if (x == Tape::constant || w == Tape::constant) return;
  const int channels = u.shape(x).rank() == 1 ? 0 : 1;
  const bool each = u.shape(w).rank() > 0 && u.shape(w)[0] == u.shape(x)[channels] && u.shape(w)[0] > 1;
  for (int axis = 0; axis < u.shape(x).rank(); ++axis) u.link_axes(x, axis, y, axis);
  if (each) u.unite_axes(x, channels, w, 0, quoted(node));
}

void embedding(Units& u, const Node& node) {
  if (node.inputs[0] != Tape::constant)
    u.link_axes(node.inputs[0], 1, node.first_output, u.shape(node.first_output).rank() - 1);
}

// --- recurrences ----------------------------------------------------------------------------------------------------

/// Hidden units of a whole sequence: unit u has row u of each gate and column u of the recurrent weight.
class Recurrence final : public Reader {
 public:
  Index units = 0, gates = 0, content = 0;  // content: the gate without which a unit that begins at 0 stays 0
  std::vector<Place> outputs;               // first places
  std::vector<Place> states;                // of the first state
  bool starts_at_zero = true;
  Place x = no_place;
  Index columns = 0;
  std::vector<double> input, recurrent, biases;  // biases: |input's| + |recurrent's| of each row

  void constants(Units& u) const override {
    std::vector<std::uint8_t> zero(static_cast<std::size_t>(units), 0);
    for (Index h = 0; h < units; ++h) {
      bool all = biases[row(content, h)] == 0;
      for (Index c = 0; all && c < columns; ++c)
        if (!(input[row(content, h) * size(columns) + size(c)] == 0)) all = u.is_zero(at(x, c));
      for (Place s : states) all &= u.is_zero(at(s, h));
      zero[size(h)] = all && starts_at_zero;
    }
    for (bool changed = true; changed;) {  // one that reads a unit that is not 0 is not 0
      changed = false;
      for (Index h = 0; h < units; ++h)
        for (Index from = 0; zero[size(h)] && from < units; ++from)
          if (!zero[size(from)] && !(recurrent[row(content, h) * size(units) + size(from)] == 0)) {
            zero[size(h)] = 0;
            changed = true;
          }
    }
    for (Place out : outputs)
      for (Index h = 0; h < units; ++h) u.set_fixed(at(out, h), zero[size(h)] != 0);
  }
  void needs(Units& u) const override {
    std::vector<std::uint8_t> needed(static_cast<std::size_t>(units), 0);
    for (Place out : outputs)
      for (Index h = 0; h < units; ++h) needed[size(h)] |= u.needed(at(out, h)) && !u.fixed(at(out, h));
    for (bool changed = true; changed;) {
      changed = false;
      for (Index h = 0; h < units; ++h)
        for (Index from = 0; needed[size(h)] && from < units; ++from)
          for (Index g = 0; !needed[size(from)] && g < gates; ++g)
            if (!(recurrent[row(g, h) * size(units) + size(from)] == 0) && !u.fixed(at(outputs.front(), from)))
              needed[size(from)] = changed = true;
    }
    for (Index h = 0; h < units; ++h) {
      if (!needed[size(h)]) continue;
      u.set_needed(at(outputs.front(), h));
      for (Place s : states) u.set_needed(at(s, h));
    }
  }

 private:
  static std::size_t size(Index i) { return static_cast<std::size_t>(i); }
  std::size_t row(Index gate, Index unit) const { return size(gate * units + unit); }
};

/// Rows of all gates, one unit each.
void unite_gates(Units& u, Place rows, Place units, Index count, Index gates) {
  for (Index r = 0; rows != no_place && r < count * gates; ++r) u.unite(at(rows, r), at(units, r % count));
}

void recurrence(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], w_ih = node.inputs[3], w_hh = node.inputs[4];
  if (!u.is_weight(w_ih) || !u.is_weight(w_hh) || !is_weight_or_absent(u, node, 5) || !is_weight_or_absent(u, node, 6))
    return;
  const Graph& g = u.graph();
  auto reader = std::make_unique<Recurrence>();
  const Index units = reader->units = u.shape(w_hh)[1];
  if (units == 0) return;
  const Index gates = reader->gates = u.shape(w_hh)[0] / units;
  reader->content = gates == 4 ? 2 : gates == 3 ? 2 : 0;
  for (std::uint32_t k = 0; k < node.outputs; ++k) {
    const std::uint32_t y = node.first_output + k;
    reader->outputs.push_back(u.make(y, u.shape(y).rank() - 1));
    for (Index h = 0; h < units; ++h) u.unite(at(reader->outputs[0], h), at(reader->outputs.back(), h));
  }
  const Place first = reader->outputs[0];
  const auto same = [&](Place p) {
    for (Index h = 0; p != no_place && h < units; ++h) u.unite(at(p, h), at(first, h));
    if (p == no_place) u.pin_axis(node.first_output, u.shape(node.first_output).rank() - 1, quoted(node));
  };
  same(u.first(w_hh, 1));
  for (std::size_t k : {1u, 2u}) {  // h and c
    if (!node.present[k]) continue;
    if (is_zero_state(u, node, k)) continue;
    reader->starts_at_zero &= node.inputs[k] != Tape::constant;
    const Place state = node.inputs[k] == Tape::constant ? no_place : u.first(node.inputs[k], 1);
    same(state);
    if (state != no_place)
      reader->states.push_back(state);
    else
      reader->starts_at_zero = false;
  }
  std::vector<double> sum(static_cast<std::size_t>(gates * units), 0.0);
  for (std::size_t k : {5u, 6u}) {
    if (!node.present[k]) continue;
    const std::vector<double> b = as_doubles(g.values[node.inputs[k]].tensor);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += std::abs(b[i]);
    unite_gates(u, u.first(node.inputs[k], 0), first, units, gates);
  }
  unite_gates(u, u.first(w_ih, 0), first, units, gates);
  unite_gates(u, u.first(w_hh, 0), first, units, gates);
  const Index columns = reader->columns = u.shape(w_ih)[1];
  if (x != Tape::constant) {
    const int last = u.shape(x).rank() - 1;
    u.unite_axes(x, last, w_ih, 1, "an input of the network");
    reader->x = u.first(x, last);
  }
  reader->biases = std::move(sum);
  reader->input = as_doubles(g.values[w_ih].tensor);
  reader->recurrent = as_doubles(g.values[w_hh].tensor);

  auto product = std::make_unique<Product>(node, Product::Sizes{gates * units, columns}, g.values[w_ih].tensor,
                                           reader->x, first, units);
  product->makes_constants = false;
  if (node.present[5]) product->target = target_of(u, node, 5);
  u.add(std::move(reader));
  u.add(std::move(product));
}

/// One step: sums of the gates and a state in, the next state out.
class Cell final : public Reader {
 public:
  struct Entry {
    Place out, in;
  };
  std::vector<Entry> entries;
  void needs(Units& u) const override {
    for (const Entry& e : entries)
      if (u.needed(e.out)) u.set_needed(e.in);
  }
};

void cell(Units& u, const Node& node) {
  const std::uint32_t y = node.first_output;
  const Index units = u.shape(y)[1];
  const Place first = u.make(y, 1);
  auto reader = std::make_unique<Cell>();
  for (std::uint32_t k = 1; k < node.outputs; ++k) {
    const Place more = u.make(y + k, 1);
    for (Index h = 0; h < units; ++h) u.unite(at(first, h), at(more, h));
  }
  for (std::size_t k = 0; k < node.inputs.size(); ++k) {
    const std::uint32_t x = node.inputs[k];
    if (is_zero_state(u, node, k)) continue;
    const Place in = x == Tape::constant ? no_place : u.first(x, 1);
    if (in == no_place) u.pin_axis(y, 1, quoted(node) + " with a value that has no such units");
    const Index length = in == no_place ? 0 : u.shape(x)[1];
    for (Index i = 0; i < length; ++i) {
      u.unite(at(in, i), at(first, i % units));
      for (std::uint32_t o = 0; o < node.outputs; ++o)
        reader->entries.push_back({at(u.first(y + o, 1), i % units), at(in, i)});
    }
  }
  u.add(std::move(reader));
}

// --- attention ------------------------------------------------------------------------------------------------------

/// Means of values, weighted by what queries and keys say: constant where the values are.
class Attention final : public Reader {
 public:
  struct Entry {
    Place out, value;
    std::vector<Place> others;  // queries and keys
  };
  std::vector<Entry> entries;
  bool weights_sum_to_one = true;  // else a query may see nothing, and get 0
  void constants(Units& u) const override {
    for (const Entry& e : entries) u.set_fixed(e.out, weights_sum_to_one ? u.fixed(e.value) : u.is_zero(e.value));
  }
  void needs(Units& u) const override {
    for (const Entry& e : entries) {
      if (!u.needed(e.out)) continue;
      u.set_needed(e.value);
      for (Place p : e.others)
        if (!u.fixed(e.out)) u.set_needed(p);
    }
  }
};

bool sees_something(const Node& node, std::size_t mask, std::size_t causal) {
  return !node.present[mask] && (node.settings[causal] == 0 || node.settings[causal + 1] >= 0);
}

void self_attention(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  const int last = u.shape(y).rank() - 1;
  const Index heads = node.settings[0], width = u.shape(y)[last], each = heads > 0 ? width / heads : 0;
  const Place in = x == Tape::constant ? no_place : u.first(x, last);
  if (in == no_place || width == 0) return;
  for (int axis = 0; axis + 2 < u.shape(x).rank(); ++axis) u.link_axes(x, axis, y, axis);
  if (node.present[1]) {
    const Shape& mask = node.inputs[1] == Tape::constant ? node.constants[1].shape() : u.shape(node.inputs[1]);
    if (mask.rank() >= 3 && mask[-3] == heads && heads > 1) return;  // a row of the mask for each head
  }
  const Place out = u.make(y, last);
  auto reader = std::make_unique<Attention>();
  reader->weights_sum_to_one = sees_something(node, 1, 2);
  for (Index h = 0; h < heads; ++h) {
    std::vector<Place> others;
    for (Index part = 0; part < 2; ++part)
      for (Index j = 0; j < each; ++j) others.push_back(at(in, part * width + h * each + j));
    for (Index j = 0; j < each; ++j) {
      const Index i = h * each + j;
      for (Index part = 0; part < 3; ++part) u.unite(at(in, part * width + i), at(out, h * each));
      u.unite(at(out, i), at(out, h * each));
      reader->entries.push_back({at(out, i), at(in, 2 * width + i), others});
    }
  }
  u.add(std::move(reader));
}

void attention(Units& u, const Node& node) {
  const std::uint32_t y = node.first_output;
  const int rank = u.shape(y).rank();
  for (std::size_t k = 0; k < 3; ++k)
    if (node.inputs[k] == Tape::constant) return;
  auto reader = std::make_unique<Attention>();
  reader->weights_sum_to_one = sees_something(node, 3, 1);
  for (int axis = 0; axis + 2 < rank; ++axis) {
    for (std::size_t k : {0u, 1u}) u.unite_axes(node.inputs[k], axis, node.inputs[2], axis, quoted(node));
    const Place q = u.first(node.inputs[0], axis), k = u.first(node.inputs[1], axis), v = u.first(node.inputs[2], axis);
    if (q == no_place || k == no_place || v == no_place) continue;
    const Place out = u.make(y, axis);
    for (Index i = 0; i < u.shape(y)[axis]; ++i) {
      u.unite(at(v, i), at(out, i));
      reader->entries.push_back({at(out, i), at(v, i), {at(q, i), at(k, i)}});
    }
    if (!node.present[3]) continue;
    const Shape& mask = node.inputs[3] == Tape::constant ? node.constants[3].shape() : u.shape(node.inputs[3]);
    const int own = axis - (rank - mask.rank());
    if (own >= 0 && mask[own] == u.shape(y)[axis] && mask[own] > 1) u.pin_axis(y, axis, quoted(node) + " with a mask");
  }
  if (const Place v = u.first(node.inputs[2], rank - 1); v != no_place) {
    const Place out = u.make(y, rank - 1);
    for (Index i = 0; i < u.shape(y)[rank - 1]; ++i) {
      u.unite(at(v, i), at(out, i));
      reader->entries.push_back({at(out, i), at(v, i), {}});
    }
  }
  u.add(std::move(reader));
}

}  // namespace

Describe layer_rule(const std::string& op) {
  static const std::map<std::string_view, Describe> table = {{"linear", linear},
                                                             {"conv2d", convolution},
                                                             {"conv1d", convolution},
                                                             {"conv_transpose2d", convolution},
                                                             {"conv_transpose1d", convolution},
                                                             {"matmul", matmul},
                                                             {"batch_norm_inference", channel_norm},
                                                             {"batch_norm", channel_norm},
                                                             {"instance_norm", channel_norm},
                                                             {"group_norm", channel_norm},
                                                             {"layer_norm", row_norm},
                                                             {"rms_norm", row_norm},
                                                             {"prelu", prelu},
                                                             {"embedding", embedding},
                                                             {"rnn_tanh", recurrence},
                                                             {"rnn_relu", recurrence},
                                                             {"rnn", recurrence},
                                                             {"lstm", recurrence},
                                                             {"gru", recurrence},
                                                             {"lstm_cell", cell},
                                                             {"gru_cell", cell},
                                                             {"self_attention", self_attention},
                                                             {"scaled_dot_product_attention", attention}};
  const auto found = table.find(op);
  return found == table.end() ? nullptr : found->second;
}

}  // namespace espalier::prune::detail
