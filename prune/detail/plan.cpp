#include "espalier/prune/detail/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

namespace espalier::prune::detail {
namespace {

/// Ops that work on each element by itself: a unit stays a unit, and a constant one stays constant.
constexpr std::string_view elementwise[] = {
    "affine",      "neg",       "abs",        "sign",       "clamp",    "square",   "sqrt",       "rsqrt",
    "reciprocal",  "pow",       "exp",        "expm1",      "log",      "log1p",    "log2",       "log10",
    "erf",         "erfc",      "sin",        "cos",        "tan",      "asin",     "acos",       "atan",
    "sinh",        "cosh",      "asinh",      "acosh",      "atanh",    "floor",    "ceil",       "round",
    "trunc",       "tanh",      "sigmoid",    "logsigmoid", "softplus", "softsign", "tanhshrink", "gelu",
    "silu",        "mish",      "relu",       "leaky_relu", "elu",      "celu",     "selu",       "hardtanh",
    "hardsigmoid", "hardswish", "hardshrink", "softshrink", "threshold"};

constexpr int none = -1;

struct Space {
  Index units = 0;
  bool pinned = false;
  int producer = none;                      // layer
  std::vector<int> readers;                 // layers
  std::vector<std::uint8_t> constant, cut;  // per unit
};

struct Layer {
  ParameterRef weight, bias;  // an activation that linear() does itself is part of the layer: its bias lies before it
  bool foldable = false;      // its bias may be changed
  std::uint32_t x = Tape::constant;
  int in = none, out = none;  // spaces; in: none for what is no space
  Index rows = 0, columns = 0;
  std::vector<double> w;
  double at(Index row, Index column) const { return w[static_cast<std::size_t>(row * columns + column)]; }
};

std::vector<double> as_doubles(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }

class Planner {
 public:
  explicit Planner(const Graph& graph) : graph_(graph), space_of_(graph.values.size(), none) {
    for (const Graph::Node& node : graph_.nodes) {
      if (!add_layer(node) && !carry(node))
        for (std::uint32_t slot : node.inputs) pin(slot);
    }
    for (std::uint32_t slot : graph_.output_slots) pin(slot);
    for (std::uint32_t slot = 0; slot < graph_.values.size(); ++slot)
      if (graph_.values[slot].escaped) pin(slot);
    for (Space& space : spaces_) space.pinned |= space.readers.empty();
  }

  Plan plan() {
    find_constants();
    Plan plan;
    for (std::size_t s = spaces_.size(); s-- > 0;) cut(spaces_[s], plan);  // readers are decided before what they read
    for (Layer& layer : layers_) slice(layer, plan);
    for (const Graph::Node& node : graph_.nodes) {
      const int s = node.outputs == 1 ? space_of_[node.first_output] : none;
      plan.kept.push_back(s != none && any_cut(spaces_[index(s)]) ? kept(spaces_[index(s)]) : std::vector<Index>());
    }
    return plan;
  }

 private:
  struct Read {
    std::vector<double> x;
    double slack = 0;  // up to which rows count as equal
  };

  static std::size_t index(int i) { return static_cast<std::size_t>(i); }

  int space_of(std::uint32_t slot) const { return slot == Tape::constant ? none : space_of_[slot]; }
  void pin(std::uint32_t slot) {
    if (const int s = space_of(slot); s != none) spaces_[index(s)].pinned = true;
  }
  const Tensor& tensor(std::uint32_t slot) const { return graph_.values[slot].tensor; }
  /// The parameter in this slot, if this node is the only one that reads it.
  ParameterRef own_parameter(std::uint32_t slot) const {
    if (slot == Tape::constant) return nullptr;
    const Graph::Value& value = graph_.values[slot];
    return value.reads == 1 ? value.parameter : nullptr;
  }

  bool add_layer(const Graph::Node& node) {
    if (node.op != "linear" || node.inputs.size() != 3) return false;
    Layer layer;
    layer.weight = own_parameter(node.inputs[1]);
    if (!layer.weight) return false;  // computed, tied, or used elsewhere: an op like any other
    const bool has_bias = node.present[2];
    if (has_bias) layer.bias = own_parameter(node.inputs[2]);
    layer.foldable = layer.bias != nullptr;
    layer.x = node.inputs[0];
    layer.in = space_of(layer.x);
    layer.rows = layer.weight->value().dim(0);
    layer.columns = layer.weight->value().dim(1);
    layer.w = as_doubles(layer.weight->value());
    const int self = static_cast<int>(layers_.size());
    if (layer.in != none) spaces_[index(layer.in)].readers.push_back(self);
    layer.out = static_cast<int>(spaces_.size());
    Space space;
    space.units = layer.rows;
    space.producer = self;
    space.pinned = has_bias && !layer.bias;  // a bias that cannot be sliced
    space.constant.assign(static_cast<std::size_t>(space.units), 0);
    space.cut = space.constant;
    spaces_.push_back(std::move(space));
    space_of_[node.first_output] = layer.out;
    layers_.push_back(std::move(layer));
    return true;
  }

  bool carry(const Graph::Node& node) {
    if (node.inputs.size() != 1 || node.outputs != 1) return false;
    const int s = space_of(node.inputs[0]);
    if (s == none) return true;  // carries no units
    const Shape &x = tensor(node.inputs[0]).shape(), &y = tensor(node.first_output).shape();
    const bool per_element =
        x == y && std::find(std::begin(elementwise), std::end(elementwise), node.op) != std::end(elementwise);
    const bool keeps_units = node.op == "reshape" && y.rank() > 0 && x[-1] == y[-1];
    if (!per_element && !keeps_units) return false;
    space_of_[node.first_output] = s;
    return true;
  }

  /// A unit is constant if every weight that is not 0 leads to it from a constant one.
  void find_constants() {
    for (const Layer& layer : layers_) {
      Space& space = spaces_[index(layer.out)];
      for (Index r = 0; r < layer.rows; ++r) {
        bool fed = false;
        for (Index c = 0; c < layer.columns && !fed; ++c)
          fed = layer.at(r, c) != 0 && !(layer.in != none && spaces_[index(layer.in)].constant[index(c)]);
        space.constant[index(r)] = !fed;
      }
    }
  }
  static std::size_t index(Index i) { return static_cast<std::size_t>(i); }

  /// The value that unit `column` has in every row of what the layer reads; nothing if rows differ or it is not finite.
  std::optional<double> constant_read(const Layer& layer, Index column) {
    if (reads_.size() < graph_.values.size()) reads_.resize(graph_.values.size());
    Read& read = reads_[layer.x];
    if (read.x.empty()) {
      read.x = as_doubles(tensor(layer.x));
      double largest = 0;
      for (double v : read.x) largest = std::max(largest, std::abs(v));
      // Kernels may round the first and the last rows of a block in other orders.
      const bool single = tensor(layer.x).dtype() == DType::f32;
      read.slack = 8 * largest *
                   (single ? static_cast<double>(std::numeric_limits<float>::epsilon())
                           : std::numeric_limits<double>::epsilon());
    }
    const std::vector<double>& x = read.x;
    if (x.empty()) return std::nullopt;
    const double first = x[index(column)];
    if (!std::isfinite(first)) return std::nullopt;
    for (std::size_t i = index(column); i < x.size(); i += index(layer.columns))
      if (!(std::abs(x[i] - first) <= read.slack)) return std::nullopt;
    return first;
  }

  bool row_stays(const Layer& layer, Index row) const { return !spaces_[index(layer.out)].cut[index(row)]; }

  void cut(Space& space, Plan& plan) {
    if (space.pinned) return;
    for (Index u = 0; u < space.units; ++u) {
      bool read = false, foldable = space.constant[index(u)] != 0;
      for (int reader : space.readers) {
        const Layer& layer = layers_[index(reader)];
        bool reads = false;
        for (Index r = 0; r < layer.rows && !reads; ++r) reads = layer.at(r, u) != 0 && row_stays(layer, r);
        read |= reads;
        if (!reads || !foldable) continue;
        const std::optional<double> value = constant_read(layer, u);
        foldable = value && (*value == 0 || layer.foldable);
      }
      if (read && !foldable) continue;
      space.cut[index(u)] = 1;
      ++(read ? plan.cut_constant : plan.cut_unread);
    }
  }

  static bool any_cut(const Space& space) {
    return std::find(space.cut.begin(), space.cut.end(), 1) != space.cut.end();
  }
  static std::vector<Index> kept(const Space& space) {
    std::vector<Index> units;
    for (Index u = 0; u < space.units; ++u)
      if (!space.cut[index(u)]) units.push_back(u);
    return units;
  }
  static std::vector<Index> all(Index n) {
    std::vector<Index> units(index(n));
    for (Index u = 0; u < n; ++u) units[index(u)] = u;
    return units;
  }

  void slice(const Layer& layer, Plan& plan) {
    const Space& out = spaces_[index(layer.out)];
    const bool rows_cut = any_cut(out), columns_cut = layer.in != none && any_cut(spaces_[index(layer.in)]);
    if (!rows_cut && !columns_cut) return;
    if (columns_cut) fold(layer, plan);
    plan.slices.push_back({layer.weight, kept(out), columns_cut ? kept(spaces_[index(layer.in)]) : all(layer.columns)});
    if (rows_cut && layer.bias) plan.slices.push_back({layer.bias, kept(out), {}});
  }

  void fold(const Layer& layer, Plan& plan) {
    const Space& in = spaces_[index(layer.in)];
    Fold fold{layer.bias, std::vector<double>(index(layer.rows), 0.0)};
    bool any = false;
    for (Index u = 0; u < in.units; ++u) {
      if (!in.cut[index(u)]) continue;
      for (Index r = 0; r < layer.rows; ++r) {
        if (layer.at(r, u) == 0 || !row_stays(layer, r)) continue;
        const double value = *constant_read(layer, u);
        fold.addend[index(r)] += layer.at(r, u) * value;
        any |= value != 0;
      }
    }
    if (any) plan.folds.push_back(std::move(fold));
  }

  const Graph& graph_;
  std::vector<int> space_of_;  // by slot
  std::vector<Space> spaces_;
  std::vector<Layer> layers_;
  std::vector<Read> reads_;  // by slot, filled at need
};

template <class T>
void add_to(Tensor& value, const std::vector<double>& addend) {
  T* b = value.write<T>("fold");
  for (std::size_t i = 0; i < addend.size(); ++i) b[i] = static_cast<T>(static_cast<double>(b[i]) + addend[i]);
}

}  // namespace

Plan plan_cuts(const Graph& graph) { return Planner(graph).plan(); }

void apply(const Plan& plan) {
  for (const Fold& fold : plan.folds) {
    ParameterState& bias = *fold.bias;
    Tensor value = bias.value().clone();
    dispatch_floating("fold", value.dtype(), [&]<class T>() { add_to<T>(value, fold.addend); });
    Mask mask = bias.mask();
    if (mask.defined())  // a pruned entry that now carries a constant is live
      for (std::size_t i = 0; i < fold.addend.size(); ++i)
        if (fold.addend[i] != 0) mask.set(static_cast<Index>(i), true);
    bias.replace(std::move(value), std::move(mask));
  }
  for (const Slice& slice : plan.slices) {
    ParameterState& p = *slice.parameter;
    const bool matrix = p.value().rank() == 2;
    const Index from_columns = matrix ? p.value().dim(1) : 1;
    const auto rows = static_cast<Index>(slice.rows.size());
    const std::vector<Index> only{0};
    const std::vector<Index>& columns = matrix ? slice.columns : only;
    Tensor value =
        Tensor::empty(matrix ? Shape{rows, static_cast<Index>(columns.size())} : Shape{rows}, p.value().dtype());
    Mask mask = p.mask().defined() ? Mask(value.size()) : Mask();
    dispatch_floating("slice", value.dtype(), [&]<class T>() {
      const T* from = p.value().data<T>();
      T* to = value.write<T>("slice");
      Index at = 0;
      for (Index r : slice.rows)
        for (Index c : columns) {
          const Index source = r * from_columns + c;
          if (mask.defined() && !p.mask()[source]) mask.set(at, false);
          to[at++] = from[source];
        }
    });
    if (mask.defined() && mask.live() == mask.size()) mask = Mask();
    p.replace(std::move(value), std::move(mask));
  }
}

}  // namespace espalier::prune::detail
