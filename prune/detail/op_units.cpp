// The op table, and all ops without weights of their own.
#include "espalier/prune/detail/op_units.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string_view>

namespace espalier::prune::detail {
namespace {

using Node = Graph::Node;

std::string quoted(const Node& node) { return "'" + node.op + "'"; }

/// All axes but `left_out`, which a reader of its own, or nobody, takes care of.
void link_all(Units& u, std::uint32_t in, std::uint32_t out, unsigned left_out = 0) {
  for (int axis = 0; axis < u.shape(in).rank(); ++axis)
    if (!(left_out >> axis & 1)) u.link_axes(in, axis, out, axis);
}

// --- one number at a time -------------------------------------------------------------------------------------------

void elementwise(Units& u, const Node& node) {
  if (node.inputs.size() > 1) return describe_broadcast(u, node);
  link_all(u, node.inputs[0], node.first_output);
}

/// A value with places that stand for one unit and meet in one place of the output.
class Meeting final : public Reader {
 public:
  explicit Meeting(bool product) : product_(product) {}
  struct Entry {
    Place out;
    std::array<Place, 3> in;
    bool foreign;  // another operand that is not fixed there takes part
  };
  std::vector<Entry> entries;

  void constants(Units& u) const override {
    for (const Entry& e : entries) {
      bool all = !e.foreign, zero = false;
      for (Place p : e.in) {
        if (p == no_place) continue;
        all &= u.fixed(p);
        zero |= product_ && u.is_zero(p);
      }
      u.set_fixed(e.out, all || zero);
    }
  }
  void needs(Units& u) const override {
    for (const Entry& e : entries) {
      if (!u.needed(e.out)) continue;
      for (Place p : e.in) {
        bool matters = p != no_place;
        for (Place other : e.in) matters &= !(product_ && other != p && other != no_place && u.is_zero(other));
        if (matters) u.set_needed(p);
      }
    }
  }

 private:
  bool product_;
};

// --- views ----------------------------------------------------------------------------------------------------------

void transpose(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  std::vector<int> order(static_cast<std::size_t>(u.shape(x).rank()));
  std::iota(order.begin(), order.end(), 0);
  if (node.op == "transpose")
    std::swap(order[static_cast<std::size_t>(node.settings[0])], order[static_cast<std::size_t>(node.settings[1])]);
  else
    for (std::size_t k = 0; k < order.size(); ++k) order[k] = static_cast<int>(node.settings[k]);
  for (std::size_t k = 0; k < order.size(); ++k) u.link_axes(x, order[k], y, static_cast<int>(k));
}

/// Neighbouring axes of x that become neighbouring axes of y with as many elements.
struct Merge {
  int x_begin, x_end, y_begin, y_end;
};
std::vector<Merge> merges(const Shape& x, const Shape& y) {
  std::vector<Merge> list;
  int i = 0, j = 0;
  while (i < x.rank() && j < y.rank()) {
    Merge m{i, i + 1, j, j + 1};
    Index a = x[i++], b = y[j++];
    while (a != b) {
      if (a < b)
        a *= x[i++];
      else
        b *= y[j++];
    }
    m.x_end = i;
    m.y_end = j;
    list.push_back(m);
  }
  if (i < x.rank() || j < y.rank()) list.push_back({i, x.rank(), j, y.rank()});  // lengths of 1
  return list;
}

struct Coordinate {
  Index inner = 1, length = 1;
  Index of(Index flat) const { return flat / inner % length; }
};
Coordinate coordinate(const Shape& shape, int axis, int end) {
  Coordinate c{1, shape[axis]};
  for (int a = axis + 1; a < end; ++a) c.inner *= shape[a];
  return c;
}

void reshape_units(Units& u, const Node& node, const Merge& m) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  const Shape &from = u.shape(x), &to = u.shape(y);
  int cut = -1;
  for (int axis = m.x_begin; axis < m.x_end; ++axis) {
    if (u.first(x, axis) == no_place) continue;
    if (cut >= 0) return;  // two at once: both stay
    cut = axis;
  }
  if (cut < 0) return;
  const Coordinate source = coordinate(from, cut, m.x_end);
  Index n = 1;
  for (int axis = m.x_begin; axis < m.x_end; ++axis) n *= from[axis];
  const auto link_to = [&](int axis) {
    const Coordinate target = coordinate(to, axis, m.y_end);
    const Place in = u.first(x, cut), out = u.make(y, axis);
    std::set<std::pair<Index, Index>> seen;
    for (Index p = 0; p < n; ++p)
      if (seen.insert({source.of(p), target.of(p)}).second)
        u.link(in + static_cast<Place>(source.of(p)), out + static_cast<Place>(target.of(p)));
  };
  for (int axis = m.y_begin; axis < m.y_end; ++axis) {  // one axis that holds the units whole
    const Coordinate target = coordinate(to, axis, m.y_end);
    if (target.length == 1 && n > 1) continue;
    bool whole = true;
    std::vector<Index> seen(static_cast<std::size_t>(target.length), -1);
    for (Index p = 0; whole && p < n; ++p) {
      Index& at = seen[static_cast<std::size_t>(target.of(p))];
      if (at < 0) at = source.of(p);
      whole = at == source.of(p);
    }
    if (whole) return link_to(axis);
  }
  // Split: heads of some width. Elements that come to lie in one head are one unit.
  std::vector<int> longer;
  for (int axis = m.y_begin; axis < m.y_end; ++axis)
    if (to[axis] > 1) longer.push_back(axis);
  if (!u.trusting() || longer.empty()) return;
  const bool parts = longer.size() > 2 && to[longer[0]] == 3;  // queries, keys and values before the heads
  link_to(longer[parts ? 1 : 0]);
}

void reshape(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0];
  if (u.graph().values[x].tensor.size() == 0) return;
  for (const Merge& m : merges(u.shape(x), u.shape(node.first_output))) reshape_units(u, node, m);
}

void broadcast_to(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  const int added = u.shape(y).rank() - u.shape(x).rank();
  for (int axis = 0; axis < u.shape(x).rank(); ++axis)
    if (u.shape(x)[axis] == u.shape(y)[axis + added]) u.link_axes(x, axis, y, axis + added);
}

// --- pieces ---------------------------------------------------------------------------------------------------------

/// Pieces of equal length along an axis, whose ends are found from the axis' length: element j of one goes with element
/// j of each.
void link_pieces(Units& u, std::uint32_t x, int axis, Index begin, std::uint32_t y) {
  const Place in = u.first(x, axis);
  if (in == no_place) return;
  const Index length = u.shape(y)[axis];
  const Place out = u.make(y, axis);
  for (Index j = 0; j < length; ++j) {
    for (Index k = j; k < u.shape(x)[axis]; k += length)
      u.unite(in + static_cast<Place>(j), in + static_cast<Place>(k));
    u.link(in + static_cast<Place>(begin + j), out + static_cast<Place>(j));
  }
}

bool takes_from(const Node& other, const Node& node) {
  return (other.op == "narrow" || other.op == "slice") && other.inputs[0] == node.inputs[0] &&
         other.settings[0] == node.settings[0];
}

void narrow(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  const auto at = static_cast<int>(node.settings[0]);
  const Index length = u.shape(y)[at], all = u.shape(x)[at];
  link_all(u, x, y, 1u << at);
  if (length == all) return u.link_axes(x, at, y, at);
  if (!u.trusting() || length == 0 || node.settings[2] != 1 || all % length != 0) return;
  std::vector<std::uint8_t> taken(static_cast<std::size_t>(all / length));
  for (const Node& other : u.graph().nodes) {
    if (other.inputs.empty() || !takes_from(other, node)) continue;
    const Index begin = other.settings[1];
    if (u.shape(other.first_output)[at] != length || begin % length != 0) return;
    taken[static_cast<std::size_t>(begin / length)] = 1;
  }
  if (std::find(taken.begin(), taken.end(), 0) == taken.end()) link_pieces(u, x, at, node.settings[1], y);
}

void split(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0];
  const auto at = static_cast<int>(node.settings[0]);
  bool equal = node.op == "chunk" || u.trusting();
  for (std::uint32_t k = 0; k < node.outputs; ++k) {
    link_all(u, x, node.first_output + k, 1u << at);
    equal &= u.shape(node.first_output + k)[at] == u.shape(node.first_output)[at];
  }
  for (std::uint32_t k = 0; equal && k < node.outputs; ++k)
    link_pieces(u, x, at, static_cast<Index>(k) * u.shape(node.first_output)[at], node.first_output + k);
}

void select(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0];
  const auto at = static_cast<int>(node.settings[0]);
  for (int axis = 0; axis < u.shape(x).rank(); ++axis)
    for (std::uint32_t k = 0; axis != at && k < node.outputs; ++k)
      u.link_axes(x, axis, node.first_output + k, axis - (axis > at ? 1 : 0));
}

void glu(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  const auto at = static_cast<int>(node.settings[0]);
  link_all(u, x, y, 1u << at);
  link_pieces(u, x, at, 0, y);
  if (const Place in = u.first(x, at); in != no_place) {
    const Place out = u.first(y, at);
    const Index n = u.shape(y)[at];
    for (Index j = 0; j < n; ++j) u.link(in + static_cast<Place>(n + j), out + static_cast<Place>(j));
  }
}

// --- joining --------------------------------------------------------------------------------------------------------

void pin_if_alone(Units& u, std::uint32_t slot, int axis, std::uint32_t y, int y_axis, const Node& node) {
  if (u.first(y, y_axis) != no_place && u.first(slot, axis) == no_place)
    u.pin_axis(y, y_axis, quoted(node) + " with a value that has no such units");
}

void join(Units& u, const Node& node) {
  const std::uint32_t y = node.first_output;
  const auto at = static_cast<int>(node.settings[0]);
  const bool stacks = node.op == "stack";
  bool any = false;
  for (std::uint32_t x : node.inputs) {
    if (x == Tape::constant || u.shape(x).rank() + (stacks ? 1 : 0) != u.shape(y).rank()) continue;
    for (int axis = 0; axis < u.shape(x).rank(); ++axis)
      if (stacks || axis != at) u.link_axes(x, axis, y, axis + (stacks && axis >= at ? 1 : 0));
    any |= !stacks && u.first(x, at) != no_place;
  }
  const Place out = any ? u.make(y, at) : no_place;
  Index begin = 0;
  for (std::size_t k = 0; k < node.inputs.size(); ++k) {
    const std::uint32_t x = node.inputs[k];
    const Shape& piece = x == Tape::constant ? node.constants[k].shape() : u.shape(x);
    if (piece.rank() + (stacks ? 1 : 0) != u.shape(y).rank()) continue;  // of shape [0]: left out
    for (int axis = 0; axis < piece.rank(); ++axis)
      if ((stacks || axis != at) && piece[axis] > 0)
        pin_if_alone(u, x, axis, y, axis + (stacks && axis >= at ? 1 : 0), node);
    if (stacks) continue;
    const Place in = u.first(x, at);
    for (Index i = 0; out != no_place && i < piece[at]; ++i) {
      const Place to = out + static_cast<Place>(begin + i);
      if (in == no_place)
        u.pin(to, quoted(node) + " with a value that has no such units");
      else
        u.link(in + static_cast<Place>(i), to);
    }
    begin += piece[at];
  }
}

// --- along axes -----------------------------------------------------------------------------------------------------

/// Axes that are gone, or 1.
void reduce(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  const bool numbered = node.op == "var" || node.op == "std" || node.op == "norm";
  unsigned reduced = 0;
  for (std::size_t k = numbered ? 1 : 0; k < node.settings.size(); ++k) reduced |= 1u << node.settings[k];
  const bool keeps = u.shape(x).rank() == u.shape(y).rank();
  for (int axis = 0, to = 0; axis < u.shape(x).rank(); ++axis) {
    const bool gone = reduced >> axis & 1;
    if (!gone) u.link_axes(x, axis, y, to);
    to += !gone || keeps;
  }
  const std::string_view op = node.op;
  u.set_rule(op == "mean" || op == "amax" || op == "amin"  ? Fixed::keep
             : op == "sum" || op == "norm" || op == "prod" ? Fixed::zero
                                                           : Fixed::never);
}

/// Elements of one axis are mixed: its units stay, those of the others do.
void along(Units& u, const Node& node) {
  link_all(u, node.inputs[0], node.first_output, 1u << node.settings[0]);
  const std::string_view op = node.op;
  u.set_rule(op == "softmax" || op == "log_softmax" || op == "cumprod" ? Fixed::never
             : op == "cumsum"                                          ? Fixed::zero
                                                                       : Fixed::keep);
}

void flip(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  const auto at = static_cast<int>(node.settings[0]);
  link_all(u, x, y, 1u << at);
  const Place in = u.first(x, at), out = in == no_place ? no_place : u.make(y, at);
  for (Index i = 0; out != no_place && i < u.shape(y)[at]; ++i)
    u.link(in + static_cast<Place>(node.settings[static_cast<std::size_t>(i) + 1]), out + static_cast<Place>(i));
}

void pad(Units& u, const Node& node) {
  const std::uint32_t x = node.inputs[0], y = node.first_output;
  const int rank = u.shape(x).rank();
  unsigned touched = 0;
  for (int axis = 0; axis < rank; ++axis)
    if (u.shape(x)[axis] != u.shape(y)[axis]) touched |= 1u << axis;
  const auto n = static_cast<int>(node.settings.size());
  if (n > 0 && node.settings[0] >= 0 && node.settings[0] < rank &&
      n == 1 + u.shape(y)[static_cast<int>(node.settings[0])])
    touched |= 1u << node.settings[0];  // of places
  if (n % 2 == 0 && n <= 2 * rank)
    for (int k = 0; k < n; ++k)
      if (node.settings[static_cast<std::size_t>(k)] != 0) touched |= 1u << (rank - 1 - k / 2);
  link_all(u, x, y, touched);
  u.set_rule(Fixed::same);
}

void pool(Units& u, const Node& node) {
  const int rank = u.shape(node.inputs[0]).rank(), axes = node.op.ends_with("1d") ? 1 : 2;
  unsigned windows = 0;
  for (int axis = rank - axes; axis < rank; ++axis) windows |= 1u << axis;
  link_all(u, node.inputs[0], node.first_output, windows);
  if (node.op.starts_with("avg")) u.set_rule(Fixed::same);
}

void interpolate(Units& u, const Node& node) {
  unsigned resized = 0;
  for (int axis = 2; axis < u.shape(node.inputs[0]).rank(); ++axis) resized |= 1u << axis;
  link_all(u, node.inputs[0], node.first_output, resized);
}

void masked_fill(Units& u, const Node& node) {
  link_all(u, node.inputs[0], node.first_output);
  u.set_rule(Fixed::never);
}

struct Row {
  Describe describe;
  std::size_t settings;  // that it looks at, at least
  std::vector<std::string_view> ops;
};
const std::map<std::string_view, const Row*>& table() {
  static const std::map<std::string_view, const Row*> all = [] {
    static const Row rows[] = {
        {elementwise, 0, {"affine",     "neg",        "abs",        "sign",       "clamp",   "square",   "sqrt",
                          "rsqrt",      "reciprocal", "pow",        "exp",        "expm1",   "log",      "log1p",
                          "log2",       "log10",      "erf",        "erfc",       "sin",     "cos",      "tan",
                          "asin",       "acos",       "atan",       "sinh",       "cosh",    "asinh",    "acosh",
                          "atanh",      "floor",      "ceil",       "round",      "trunc",   "tanh",     "sigmoid",
                          "logsigmoid", "softplus",   "softsign",   "tanhshrink", "gelu",    "silu",     "mish",
                          "relu",       "leaky_relu", "elu",        "celu",       "selu",    "hardtanh", "hardsigmoid",
                          "hardswish",  "hardshrink", "softshrink", "threshold",  "add",     "sub",      "mul",
                          "div",        "maximum",    "minimum",    "addcmul",    "addcdiv", "lerp",     "atan2"}},
        {transpose, 1, {"transpose", "permute"}},
        {reshape, 0, {"reshape"}},
        {broadcast_to, 0, {"broadcast_to"}},
        {narrow, 3, {"narrow", "slice"}},
        {split, 1, {"split", "chunk"}},
        {select, 1, {"select", "unbind"}},
        {glu, 1, {"glu"}},
        {join, 1, {"cat", "stack"}},
        {reduce, 0, {"sum", "mean", "prod", "var", "std", "amax", "amin", "logsumexp", "norm"}},
        {along,
         1,
         {"softmax", "log_softmax", "cumsum", "cumprod", "cummax", "cummin", "sort", "topk", "kthvalue", "median",
          "max_along", "min_along", "roll", "repeat_interleave", "index_select"}},
        {flip, 1, {"flip"}},
        {pad, 0, {"pad"}},
        {pool,
         0,
         {"max_pool2d", "max_pool1d", "avg_pool2d", "avg_pool1d", "adaptive_max_pool2d", "adaptive_max_pool1d",
          "adaptive_avg_pool2d", "adaptive_avg_pool1d"}},
        {interpolate, 0, {"interpolate"}},
        {masked_fill, 0, {"masked_fill"}},
    };
    std::map<std::string_view, const Row*> map;
    for (const Row& row : rows)
      for (std::string_view op : row.ops) map[op] = &row;
    return map;
  }();
  return all;
}

}  // namespace

void describe_broadcast(Units& u, const Node& node) {
  const std::uint32_t y = node.first_output;
  const int rank = u.shape(y).rank();
  const bool product = node.op == "mul";
  auto reader = std::make_unique<Meeting>(product);
  const std::size_t operands = std::min<std::size_t>(node.inputs.size(), 3);
  for (int axis = 0; axis < rank; ++axis) {
    const Index n = u.shape(y)[axis];
    std::array<Place, 3> in{no_place, no_place, no_place};
    bool any = false, foreign = false, alone = false;
    for (std::size_t k = 0; k < operands; ++k) {
      const std::uint32_t x = node.inputs[k];
      if (!node.present[k]) continue;
      const Shape& shape = x == Tape::constant ? node.constants[k].shape() : u.shape(x);
      const int own = axis - (rank - shape.rank());
      in[k] = own >= 0 && shape[own] == n ? u.first(x, own) : no_place;
      any |= in[k] != no_place;
      if (in[k] != no_place) continue;
      alone |= own >= 0 && shape[own] == n;
      foreign |= !(u.is_weight(x) && count(shape) == 1);  // what it adds may differ from sample to sample
    }
    if (!any) continue;
    const Place out = u.make(y, axis);
    for (Index i = 0; i < n; ++i) {
      const auto step = static_cast<Place>(i);
      Meeting::Entry entry{out + step, in, foreign};
      for (Place& p : entry.in) {
        if (p == no_place) continue;
        p += step;
        u.unite(p, entry.out);
      }
      reader->entries.push_back(entry);
    }
    if (alone) u.pin_axis(y, axis, quoted(node) + " with a value that has no such units");
  }
  u.add(std::move(reader));
}

void describe(Units& u, const Node& node) {
  if (const Describe rule = layer_rule(node.op)) return rule(u, node);
  const auto found = table().find(node.op);
  if (found != table().end() && node.settings.size() >= found->second->settings)
    found->second->describe(u, node);  // else all units stay
}

}  // namespace espalier::prune::detail
