#include "espalier/optim/detail/example_gradient.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <string_view>
#include <utility>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/core/conv.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/index.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/core/patches.h"
#include "espalier/core/reduce.h"

namespace espalier::optim::detail {
namespace {

constexpr const char* op_name = "per_example";

/// Product of the lengths of axes [from, to).
Index extent(const Shape& shape, int from, int to) {
  Index n = 1;
  for (int axis = from; axis < to; ++axis) n *= shape[axis];
  return n;
}

/// t [N, ...] with the slice of example i times c[i].
Tensor scaled(const Tensor& t, const Tensor& c) {
  Shape shape{c.size()};
  for (int axis = 1; axis < t.rank(); ++axis) shape.push_back(1);
  return mul(Variable(t), Variable(c.to(t.dtype()).reshape(shape))).value();
}

template <class T>
double sum_squares_of(const T* x, Index n) {
  std::array<double, 8> sums{};
  Index i = 0;
  for (; i + 8 <= n; i += 8)
    for (Index k = 0; k < 8; ++k) {
      const double v = static_cast<double>(x[i + k]);
      sums[static_cast<std::size_t>(k)] += v * v;
    }
  for (; i < n; ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

void to_doubles(const Tensor& from, double* to) {
  const Tensor dense = from.contiguous();
  dispatch_floating(op_name, dense.dtype(), [&]<class T>() {
    const T* source = dense.data<T>();
    std::copy(source, source + dense.size(), to);
  });
}

// --- kinds of uses ---------------------------------------------------------------------------------------------------

/// u [N, T, p], v [N, T, q]: a matrix [p, q].
class Products final : public Use {
 public:
  Products(Tensor u, Tensor v) : u_(std::move(u)), v_(std::move(v)) {}

  Form form() const override { return {u_.shape()[1], 1, u_.shape()[2], v_.shape()[2]}; }
  void list(Index example, Index, double* u, Index*, double* v) const override {
    to_doubles(u_.select(0, example), u);
    to_doubles(v_.select(0, example), v);
  }
  void add_to(Tensor& into, Index example) const override {
    add_in_place(into, matmul(u_.select(0, example).t(), v_.select(0, example)));
  }
  Tensor weighted(const Tensor& c) const override {
    const bool left = u_.shape()[2] < v_.shape()[2];
    auto rows = [](const Tensor& t) { return t.reshape({t.shape()[0] * t.shape()[1], t.shape()[2]}); };
    return matmul(rows(left ? scaled(u_, c) : u_).t(), rows(left ? v_ : scaled(v_, c)));
  }

 private:
  Tensor u_, v_;
};

/// places i64 [N, T], v [N, T, q]: rows of a table; the row `skip` gets nothing.
class Rows final : public Use {
 public:
  Rows(Tensor places, Tensor v, Shape table, Index skip)
      : places_(std::move(places)), v_(std::move(v)), table_(table), skip_(skip) {}

  Form form() const override { return {v_.shape()[1], 1, table_[0], table_[1], true}; }
  void list(Index example, Index, double*, Index* places, double* v) const override {
    const std::int64_t* place = places_.data<std::int64_t>() + example * places_.shape()[1];
    for (Index t = 0; t < places_.shape()[1]; ++t) places[t] = place[t] == skip_ ? -1 : place[t];
    to_doubles(v_.select(0, example), v);
  }
  void add_to(Tensor& into, Index example) const override {
    add(into, places_.select(0, example), v_.select(0, example));
  }
  Tensor weighted(const Tensor& c) const override {
    Tensor sum = Tensor::zeros(table_, v_.dtype());
    const Index count = places_.size();
    add(sum, places_.reshape({count}), scaled(v_, c).reshape({count, table_[1]}));
    return sum;
  }

 private:
  void add(Tensor& into, const Tensor& places, const Tensor& values) const {
    if (skip_ < 0) return index_add_in_place(into, 0, places, values);
    const Tensor kept = into.select(0, skip_).clone();
    index_add_in_place(into, 0, places, values);
    into.select(0, skip_).copy_from(kept, op_name);
  }
  Tensor places_, v_;
  Shape table_;
  Index skip_;
};

/// image [N k, in, H, W], map [N k, out, H', W']: a kernel [out, in / groups, kh, kw]; u are pixels of the map, v the
/// patches of the image.
class Kernels final : public Use {
 public:
  /// The geometry is that of the k images of one example.
  Kernels(Tensor image, Tensor map, const ConvGeometry& geometry, Shape weight)
      : image_(image.contiguous()), map_(map.contiguous()), geometry_(geometry), weight_(weight) {}

  Form form() const override {
    const ConvGeometry& g = geometry_;
    return {g.batch * g.result[0] * g.result[1], g.groups, g.out / g.groups,
            g.in / g.groups * g.kernel[0] * g.kernel[1]};
  }
  void list(Index example, Index group, double* u, Index*, double* v) const override {
    const ConvGeometry& g = geometry_;
    const Index windows = g.result[0] * g.result[1], in = g.in / g.groups, out = g.out / g.groups;
    const PatchGeometry patches{g.batch, in, g.size, g.kernel, g.result, g.stride, g.dilation, g.before};
    const Tensor x = of(image_, example).narrow(1, group * in, in);
    const Tensor columns = unfold(x, {g.batch, patches.rows(), windows}, patches);
    to_doubles(columns.transpose(1, 2), v);
    to_doubles(of(map_, example).narrow(1, group * out, out).reshape({g.batch, out, windows}).transpose(1, 2), u);
  }
  void add_to(Tensor& into, Index example) const override {
    add_in_place(into, conv2d_weight(of(image_, example), of(map_, example), geometry_).reshape(weight_));
  }
  Tensor weighted(const Tensor& c) const override {
    ConvGeometry whole = geometry_;
    whole.batch *= c.size();
    Shape apart = map_.shape();
    apart[0] = geometry_.batch;
    apart.insert(0, c.size());
    return conv2d_weight(image_, scaled(map_.reshape(apart), c).reshape(map_.shape()), whole).reshape(weight_);
  }

 private:
  Tensor of(const Tensor& t, Index example) const { return t.narrow(0, example * geometry_.batch, geometry_.batch); }
  Tensor image_, map_;
  ConvGeometry geometry_;
  Shape weight_;
};

/// b [N, T, m, L]: a vector of m sums over T and L.
class Sums final : public Use {
 public:
  Sums(Tensor b, Shape shape) : b_(b.contiguous()), shape_(shape) {}

  void add_to(Tensor& into, Index example) const override {
    add_in_place(into, sum(b_.select(0, example), {0, 2}).reshape(shape_));
  }
  Tensor weighted(const Tensor& c) const override { return sum(scaled(b_, c), {0, 1, 3}).reshape(shape_); }

 private:
  Tensor b_;
  Shape shape_;
};

// --- which op makes which --------------------------------------------------------------------------------------------

std::unique_ptr<Use> vector_of_rows(const Tensor& b, Layout layout, Index n, const Shape& shape) {
  const Tensor rows = by_example(b, layout, n, shape.rank());
  return std::make_unique<Sums>(rows.reshape({n, rows.shape()[1], count(shape), 1}), shape);
}
/// b [N k, C, ...]
std::unique_ptr<Use> vector_of_channels(const Tensor& b, Index n, const Shape& shape) {
  const Index channels = b.shape()[1], inner = extent(b.shape(), 2, b.rank());
  return std::make_unique<Sums>(b.contiguous().reshape({n, b.shape()[0] / std::max<Index>(n, 1), channels, inner}),
                                shape);
}

using kernels::BackwardKernels;
using kernels::BinaryKernel;
/// The slopes of linear's activations, by their numbers among its settings: of the output, or of what was put in.
struct Slope {
  const char* name;
  BinaryKernel BackwardKernels::*kernel;
  bool of_output;
};
constexpr std::array<Slope, 5> slopes = {{{"relu", &BackwardKernels::relu, true},
                                          {"tanh", &BackwardKernels::tanh, true},
                                          {"sigmoid", &BackwardKernels::sigmoid, true},
                                          {"gelu", &BackwardKernels::gelu, false},
                                          {"silu", &BackwardKernels::silu, false}}};

/// What comes back to x W^T + bias.
Tensor before_activation(const OpRecord& r, const Tensor& g) {
  if (r.settings.empty()) return g;
  const Slope& slope = slopes.at(static_cast<std::size_t>(r.settings[0] - 1));
  const Variable& bias = r.inputs[2];
  const Tensor at = slope.of_output
                        ? r.output.value()
                        : linear(r.inputs[0].value(), r.inputs[1].value(), bias.defined() ? &bias.value() : nullptr);
  return zip(slope.name, kernels::backward().*slope.kernel, g, at);
}

int linear_leading(const OpRecord& r, std::size_t input) { return input > 0 ? r.output.rank() - 1 : 0; }
std::unique_ptr<Use> linear_use(const OpRecord& r, std::size_t input, const Tensor& g, Layout layout, Index n) {
  const Tensor h = before_activation(r, g);
  if (input == 2) return vector_of_rows(h, layout, n, r.inputs[2].shape());
  return std::make_unique<Products>(by_example(h, layout, n, 1), by_example(r.inputs[0].value(), layout, n, 1));
}

int matmul_leading(const OpRecord& r, std::size_t input) {
  return input == 1 && r.inputs[1].rank() == 2 ? std::max(0, r.inputs[0].rank() - 1) : 0;
}
std::unique_ptr<Use> matmul_use(const OpRecord& r, std::size_t, const Tensor& g, Layout layout, Index n) {
  return std::make_unique<Products>(by_example(r.inputs[0].value(), layout, n, 1), by_example(g, layout, n, 1));
}

int embedding_leading(const OpRecord& r, std::size_t input) { return input == 0 ? r.output.rank() - 1 : 0; }
std::unique_ptr<Use> embedding_use(const OpRecord& r, std::size_t, const Tensor& g, Layout layout, Index n) {
  return std::make_unique<Rows>(by_example(r.inputs[1].value(), layout, n, 0), by_example(g, layout, n, 1),
                                r.inputs[0].shape(), r.settings[0]);
}

/// Settings: see autograd/ops/conv.h.
int conv_leading(const OpRecord& r, std::size_t input) {
  const bool batched = r.inputs[0].rank() == r.inputs[1].rank();
  return input > 0 && batched && !r.settings.empty() ? 1 : 0;
}
std::unique_ptr<Use> conv_use_of(const OpRecord& r, std::size_t input, const Tensor& g, Index n, bool transposed) {
  if (input == 2) return vector_of_channels(g, n, r.inputs[2].shape());
  const bool line = r.settings.size() == 5;
  auto batched = [line](const Tensor& t) { return line ? t.unsqueeze(2) : t; };
  const Tensor x = batched(r.inputs[0].value()), y = batched(g), weight = batched(r.inputs[1].value());
  const Tensor &image = transposed ? y : x, &map = transposed ? x : y;
  auto pair = [&](std::size_t which, Index absent) -> ConvGeometry::Pair {
    return line ? ConvGeometry::Pair{absent, r.settings[which]}
                : ConvGeometry::Pair{r.settings[2 * which], r.settings[2 * which + 1]};
  };
  const ConvGeometry geometry{x.shape()[0] / std::max<Index>(n, 1),
                              r.settings.back(),
                              image.shape()[1],
                              map.shape()[1],
                              {image.shape()[2], image.shape()[3]},
                              {weight.shape()[2], weight.shape()[3]},
                              {map.shape()[2], map.shape()[3]},
                              pair(0, 1),
                              pair(2, 1),
                              pair(1, 0)};
  return std::make_unique<Kernels>(image, map, geometry, r.inputs[1].shape());
}
std::unique_ptr<Use> conv_use(const OpRecord& r, std::size_t input, const Tensor& g, Layout, Index n) {
  return conv_use_of(r, input, g, n, false);
}
std::unique_ptr<Use> transposed_use(const OpRecord& r, std::size_t input, const Tensor& g, Layout, Index n) {
  return conv_use_of(r, input, g, n, true);
}

/// The gain's gradient is that of a vector beside the input normalised without it. Settings: see autograd/ops/norm.h.
int row_norm_leading(const OpRecord& r, std::size_t input) {
  return input > 0 ? r.output.rank() - static_cast<int>(r.settings[0]) : 0;
}
std::unique_ptr<Use> row_norm_use(const OpRecord& r, std::size_t input, const Tensor& g, Layout layout, Index n) {
  const Shape& shape = r.inputs[input].shape();
  if (input == 2) return vector_of_rows(g, layout, n, shape);
  const Variable x = r.inputs[0].detach();
  const double eps = number_of(r.settings[1]);
  const Variable plain =
      std::string_view(r.op) == "layer_norm" ? layer_norm(x, shape, {}, {}, eps) : rms_norm(x, shape, {}, eps);
  return vector_of_rows(mul(Variable(g), plain).value(), layout, n, shape);
}
int group_norm_leading(const OpRecord&, std::size_t input) { return input > 0 ? 1 : 0; }
std::unique_ptr<Use> group_norm_use(const OpRecord& r, std::size_t input, const Tensor& g, Layout, Index n) {
  const Shape& shape = r.inputs[input].shape();
  if (input == 2) return vector_of_channels(g, n, shape);
  const Variable plain = group_norm(r.inputs[0].detach(), r.settings[0], {}, {}, number_of(r.settings[1]));
  return vector_of_channels(mul(Variable(g), plain).value(), n, shape);
}

struct Kind {
  std::string_view op;
  int (*leading)(const OpRecord&, std::size_t input);
  std::unique_ptr<Use> (*make)(const OpRecord&, std::size_t input, const Tensor& g, Layout, Index n);
};
constexpr std::array<Kind, 11> kinds = {{{"linear", linear_leading, linear_use},
                                         {"matmul", matmul_leading, matmul_use},
                                         {"embedding", embedding_leading, embedding_use},
                                         {"conv1d", conv_leading, conv_use},
                                         {"conv2d", conv_leading, conv_use},
                                         {"conv_transpose1d", conv_leading, transposed_use},
                                         {"conv_transpose2d", conv_leading, transposed_use},
                                         {"layer_norm", row_norm_leading, row_norm_use},
                                         {"rms_norm", row_norm_leading, row_norm_use},
                                         {"group_norm", group_norm_leading, group_norm_use},
                                         {"instance_norm", group_norm_leading, group_norm_use}}};
const Kind* kind_of(const char* op) {
  const auto at = std::find_if(kinds.begin(), kinds.end(), [op](const Kind& k) { return k.op == op; });
  return at == kinds.end() ? nullptr : &*at;
}

// --- norms -----------------------------------------------------------------------------------------------------------

/// How the norm of a parameter's example gradients is found.
struct Plan {
  Index terms = 0;        // of all uses
  Index dense_terms = 0;  // of those whose u is dense; they stand first
  Index groups = 1, rows = 0, columns = 0;
  bool listed = false;    // by the products of all pairs of terms
  bool by_place = false;  // all u are places: rows that meet are added
};

Plan plan_for(std::span<const std::unique_ptr<Use>> uses, bool masked) {
  Plan plan;
  bool alike = true;
  for (const auto& use : uses) {
    const Use::Form form = use->form();
    const bool first = &use == uses.data();
    alike = alike && form.rows > 0 &&
            (first || (form.groups == plan.groups && form.rows == plan.rows && form.columns == plan.columns));
    plan.groups = form.groups;
    plan.rows = form.rows;
    plan.columns = form.columns;
    plan.terms += form.terms;
    if (!form.rows_are_places) plan.dense_terms += form.terms;
  }
  if (!alike) return plan;
  plan.by_place = plan.dense_terms == 0;
  if (plan.by_place || masked) return plan;
  const double terms = static_cast<double>(plan.terms), dense = static_cast<double>(plan.dense_terms),
               rows = static_cast<double>(plan.rows), columns = static_cast<double>(plan.columns);
  // Twice, for they are made in f64; a scratch is written and read besides.
  const double pairs = 2 * (dense * dense * rows + terms * terms * columns) + 2 * terms * (rows + columns);
  const double scratch = dense * rows * columns + 2 * rows * columns;
  plan.listed = pairs < scratch || plan.terms <= 1;
  return plan;
}

/// sum over t, t' of (u_t u_t')(v_t v_t'), u_t dense or 1 in one place.
double sum_over_pairs(std::span<const std::unique_ptr<Use>> uses, const Plan& plan, Index example) {
  const Tensor u = Tensor::empty({plan.dense_terms, plan.rows}, DType::f64);
  const Tensor v = Tensor::empty({plan.terms, plan.columns}, DType::f64);
  double* u_at = Tensor(u).write<double>(op_name);
  double* v_at = Tensor(v).write<double>(op_name);
  std::vector<Index> places(static_cast<std::size_t>(plan.terms - plan.dense_terms));
  double total = 0;
  for (Index group = 0; group < plan.groups; ++group) {
    Index dense = 0, placed = 0;
    for (const auto& use : uses) {
      const Use::Form form = use->form();
      if (form.rows_are_places) {
        use->list(example, group, nullptr, places.data() + placed, v_at + (plan.dense_terms + placed) * plan.columns);
        placed += form.terms;
      } else {
        use->list(example, group, u_at + dense * plan.rows, nullptr, v_at + dense * plan.columns);
        dense += form.terms;
      }
    }
    if (plan.terms == 1 && dense == 1) {
      total += sum_squares_of(u_at, plan.rows) * sum_squares_of(v_at, plan.columns);
      continue;
    }
    const Tensor vv = matmul(v, v.t()), uu = matmul(u, u.t());
    const double *p = vv.data<double>(), *q = uu.data<double>();
    double sum = 0;
    for (Index s = 0; s < dense; ++s) {
      double row = 0;
      for (Index t = 0; t < dense; ++t) row += q[s * dense + t] * p[s * plan.terms + t];
      for (Index t = 0; t < placed; ++t)
        if (const Index place = places[static_cast<std::size_t>(t)]; place >= 0)
          row += 2 * u_at[s * plan.rows + place] * p[s * plan.terms + dense + t];
      sum += row;
    }
    for (Index s = 0; s < placed; ++s)
      for (Index t = 0; t < placed; ++t)
        if (const Index place = places[static_cast<std::size_t>(s)];
            place >= 0 && place == places[static_cast<std::size_t>(t)])
          sum += p[(dense + s) * plan.terms + dense + t];
    total += sum > 0 || !(sum <= 0) ? sum : 0;  // rounding may go below zero; NaN stays
  }
  return total;
}

/// The rows that meet in one place are added; of each the square.
double sum_over_places(std::span<const std::unique_ptr<Use>> uses, const Plan& plan, Index example, const Mask* mask) {
  std::vector<Index> places(static_cast<std::size_t>(plan.terms));
  std::vector<double> v(static_cast<std::size_t>(plan.terms * plan.columns));
  Index at = 0;
  for (const auto& use : uses) {
    use->list(example, 0, nullptr, places.data() + at, v.data() + at * plan.columns);
    at += use->form().terms;
  }
  std::vector<std::size_t> order(places.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return places[a] < places[b]; });
  std::vector<double> row(static_cast<std::size_t>(plan.columns));
  double total = 0;
  for (std::size_t first = 0, last = 0; first < order.size(); first = last) {
    const Index place = places[order[first]];
    std::fill(row.begin(), row.end(), 0.0);
    for (; last < order.size() && places[order[last]] == place; ++last)
      for (std::size_t j = 0; j < row.size(); ++j) row[j] += v[order[last] * row.size() + j];
    if (place < 0) continue;
    if (mask)
      for (std::size_t j = 0; j < row.size(); ++j)
        if (!(*mask)[place * plan.columns + static_cast<Index>(j)]) row[j] = 0;
    total += sum_squares_of(row.data(), plan.columns);
  }
  return total;
}

}  // namespace

std::vector<Layout> possible_layouts(const Shape& output, int leading, Index n) {
  std::vector<Layout> all;
  if (leading < 1 || n < 1) return all;
  if (output[0] == n) all.push_back(Layout::first);
  if (leading > 1 && output[1] == n) all.push_back(Layout::second);
  if (output[0] > n && output[0] % n == 0) all.push_back(Layout::grouped);
  return all;
}

Tensor by_example(const Tensor& t, Layout layout, Index n, int features) {
  const Tensor ordered = (layout == Layout::second ? t.transpose(0, 1) : t).contiguous();
  const Shape& shape = ordered.shape();
  Shape split{n, extent(shape, 0, shape.rank() - features) / std::max<Index>(n, 1)};
  for (int axis = shape.rank() - features; axis < shape.rank(); ++axis) split.push_back(shape[axis]);
  return ordered.reshape(split);
}

int leading_axes(const OpRecord& record, std::size_t input) {
  const Kind* kind = kind_of(record.op);
  return kind ? kind->leading(record, input) : 0;
}

std::unique_ptr<Use> make_use(const OpRecord& record, std::size_t input, const Tensor& g, Layout layout, Index n) {
  return kind_of(record.op)->make(record, input, g, layout, n);
}

long double sum_squares(const Tensor& t) {
  const Tensor dense = t.contiguous();
  return dispatch_floating(op_name, dense.dtype(), [&]<class T>() -> long double {
    const T* x = dense.data<T>();
    const double sum = sum_squares_of(x, dense.size());
    if (std::isfinite(sum)) return sum;
    long double wide = 0;  // squares of f64 that f64 does not hold
    for (Index i = 0; i < dense.size(); ++i) wide += static_cast<long double>(x[i]) * static_cast<long double>(x[i]);
    return wide;
  });
}

std::vector<long double> squared_norms(std::span<const std::unique_ptr<Use>> uses, const ParameterState& parameter,
                                       Index n) {
  std::vector<long double> norms(static_cast<std::size_t>(n), 0);
  if (uses.empty()) return norms;
  const bool masked = parameter.mask().defined() && parameter.mask_mode() == MaskMode::hard;
  const Plan plan = plan_for(uses, masked);
  const auto by_scratch = [&](Index example) {
    Tensor scratch = Tensor::zeros(parameter.value().shape(), parameter.value().dtype());
    for (const auto& use : uses) use->add_to(scratch, example);
    if (masked) zero_pruned(scratch, parameter.mask(), op_name);
    return sum_squares(scratch);
  };
  const Index work = plan.terms * (plan.rows + plan.columns) + 1;  // at least; each example's figure is its own
  parallel_for(n, std::max<Index>(1, (1 << 15) / work), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      double figure = std::numeric_limits<double>::quiet_NaN();
      if (plan.by_place)
        figure = sum_over_places(uses, plan, i, masked ? &parameter.mask() : nullptr);
      else if (plan.listed)
        figure = sum_over_pairs(uses, plan, i);
      // Products may be too large for f64 where the gradient is not.
      norms[static_cast<std::size_t>(i)] = std::isfinite(figure) ? figure : by_scratch(i);
    }
  });
  return norms;
}

}  // namespace espalier::optim::detail
