#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/autograd/ops/reduce.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// Sums, or means, over the axes whose bit is set in `axes`.
Array summed(const Array& x, unsigned axes, bool keepdim, bool mean) {
  Shape kept = x.shape, shape;
  Index n = 1;
  for (int axis = 0; axis < x.shape.rank(); ++axis) {
    if (axes >> axis & 1) {
      n *= x.shape[axis];
      kept[axis] = 1;
    }
    if (keepdim || !(axes >> axis & 1)) shape.push_back(kept[axis]);
  }
  Array y(shape);
  for (Index i = 0; i < x.size(); ++i) y[broadcast_position(x.shape, i, kept)] += x[i];
  if (mean)
    for (double& v : y.values) v = n > 0 ? v / static_cast<double>(n) : std::numeric_limits<double>::quiet_NaN();
  return y;
}

auto reference(unsigned axes, bool keepdim, bool mean) {
  return [=](std::span<const Array> in) { return summed(in[0], axes, keepdim, mean); };
}

/// The shape [R, C], or [R, C, T].
auto axes(int rank) {
  return [rank](Lengths& draw) {
    Shape shape;
    for (int axis = 0; axis < rank; ++axis) shape.push_back(draw.length());
    return std::vector<Shape>{shape};
  };
}

/// softmax of each row along the last but `behind` axes of [R, C, T].
template <bool logarithm>
Array softmax_reference(const Array& x, int axis) {
  Array y(x.shape);
  Index stride = 1;
  for (int a = axis + 1; a < x.shape.rank(); ++a) stride *= x.shape[a];
  const Index n = x.shape[axis];
  for (Index i = 0; i < x.size(); ++i) {
    const Index first = i - i / stride % n * stride;
    double sum = 0, largest = -std::numeric_limits<double>::infinity();
    for (Index k = 0; k < n; ++k) largest = std::max(largest, x[first + k * stride]);
    for (Index k = 0; k < n; ++k) sum += std::exp(x[first + k * stride] - largest);
    y[i] = logarithm ? x[i] - largest - std::log(sum) : std::exp(x[i] - largest) / sum;
  }
  return y;
}

/// y = f(the elements of each group) over the axes whose bit is set.
template <class F>
auto grouped(unsigned over, bool keepdim, F f) {
  return [=](std::span<const Array> in) {
    const Array& x = in[0];
    Shape kept = x.shape, shape;
    for (int axis = 0; axis < x.shape.rank(); ++axis) {
      if (over >> axis & 1) kept[axis] = 1;
      if (keepdim || !(over >> axis & 1)) shape.push_back(kept[axis]);
    }
    std::vector<std::vector<double>> groups(static_cast<std::size_t>(count(kept)));
    for (Index i = 0; i < x.size(); ++i)
      groups[static_cast<std::size_t>(broadcast_position(x.shape, i, kept))].push_back(x[i]);
    Array y(shape);
    for (Index i = 0; i < y.size(); ++i) y[i] = f(groups[static_cast<std::size_t>(i)]);
    return y;
  };
}
using Group = const std::vector<double>&;

double product(Group x) {
  double y = 1;
  for (const double v : x) y *= v;
  return y;
}
template <bool unbiased>
double variance(Group x) {
  const auto n = static_cast<double>(x.size());
  double mean = 0, squares = 0;
  for (const double v : x) mean += v / n;
  for (const double v : x) squares += (v - mean) * (v - mean);
  return n == 0 ? std::nan("") : squares / (n - (unbiased ? 1 : 0));
}
double largest(Group x) { return x.empty() ? 0 : *std::max_element(x.begin(), x.end()); }
double smallest(Group x) { return x.empty() ? 0 : *std::min_element(x.begin(), x.end()); }
double log_of_sum(Group x) {
  double sum = 0;
  for (const double v : x) sum += std::exp(v);
  return std::log(sum);
}
/// The p-norm for finite p, and the extremes of |x|.
auto norm_of(double p) {
  return [p](Group x) {
    double sum = 0, most = 0, least = std::numeric_limits<double>::infinity();
    for (const double v : x) {
      sum += p == 0 ? (v != 0 ? 1 : 0) : std::pow(std::abs(v), p);
      most = std::max(most, std::abs(v));
      least = std::min(least, std::abs(v));
    }
    if (std::isinf(p)) return p > 0 ? most : least;
    return p == 0 ? sum : std::pow(sum, 1 / p);
  };
}
constexpr double inf = std::numeric_limits<double>::infinity();

/// Axes as drawn by axes(), but those in `searched` are never empty: there is no largest of nothing.
auto axes_with(int rank, unsigned searched) {
  return [=](Lengths& draw) {
    Shape shape;
    for (int axis = 0; axis < rank; ++axis) shape.push_back(searched >> axis & 1 ? draw.positive() : draw.length());
    return std::vector<Shape>{shape};
  };
}
/// The same with at least two elements on the last axis, which unbiased variances need to be finite.
std::vector<Shape> at_least_two(Lengths& draw) { return {{draw.length(), draw.length(), 1 + draw.positive()}}; }

auto renormed(double p, int axis, double max_norm) {
  return [=](std::span<const Array> in) {
    Array y = in[0];
    Index stride = 1;
    for (int a = axis + 1; a < y.shape.rank(); ++a) stride *= y.shape[a];
    std::vector<double> sums(static_cast<std::size_t>(y.shape[axis]));
    const auto own = [&](Index i) -> double& { return sums[static_cast<std::size_t>(i / stride % y.shape[axis])]; };
    for (Index i = 0; i < y.size(); ++i) own(i) += std::pow(std::abs(y[i]), p);
    for (Index i = 0; i < y.size(); ++i)
      if (const double n = std::pow(own(i), 1 / p); n > max_norm) y[i] *= max_norm / (n + 1e-7);
    return y;
  };
}

Array cosine(std::span<const Array> in) {
  Array y({in[0].shape[0], in[0].shape[2]});
  const Index n = in[0].shape[1], inner = in[0].shape[2];
  for (Index i = 0; i < y.size(); ++i) {
    double ab = 0, aa = 0, bb = 0;
    for (Index k = 0; k < n; ++k) {
      const double a = in[0][(i / inner * n + k) * inner + i % inner], b = in[1][k * inner + i % inner];
      ab += a * b;
      aa += a * a;
      bb += b * b;
    }
    y[i] = ab / (std::max(std::sqrt(aa), 1e-8) * std::max(std::sqrt(bb), 1e-8));
  }
  return y;
}

std::vector<OpCase> more_cases() {
  const Domain off_zero{-2, 2, 0.2, 0}, positive{0.3, 2, 0, 0};
  return {
      {"prod", VARIABLE(prod(v[0])), grouped(7, false, product), axes(3), {0.7, 1.3}},
      {"prod: middle axis", VARIABLE(prod(v[0], {1})), grouped(2, false, product), axes(3), {-1.1, 1.1}},
      {"prod: first and last axis, kept",
       VARIABLE(prod(v[0], {0, 2}, true)),
       grouped(5, true, product),
       axes(3),
       {0.7, 1.3}},
      {"var", VARIABLE(var(v[0], {-1})), grouped(4, false, variance<true>), at_least_two},
      {"var: of all, biased", VARIABLE(var(v[0], {}, false)), grouped(7, false, variance<false>), axes(3)},
      {"var: outer axes, kept", VARIABLE(var(v[0], {0, 1}, false, true)), grouped(3, true, variance<false>), axes(3)},
      {"var: first and last axis", VARIABLE(var(v[0], {0, 2})), grouped(5, false, variance<true>), at_least_two},
      {"stddev", VARIABLE(stddev(v[0], {-1}, true, true)),
       grouped(4, true, [](Group x) { return std::sqrt(variance<true>(x)); }),
       [](Lengths& draw) {
         return std::vector<Shape>{{draw.length(), draw.length(), 3 + draw.positive()}};
       }},
      {"stddev: first axis, biased", VARIABLE(stddev(v[0], {0}, false)),
       grouped(1, false, [](Group x) { return std::sqrt(variance<false>(x)); }),
       [](Lengths& draw) {
         return std::vector<Shape>{{3 + draw.positive(), draw.length(), draw.length()}};
       }},
      {"amax", VARIABLE(amax(v[0], {-1})), grouped(4, false, largest), axes_with(3, 4)},
      {"amax: middle axis, kept", VARIABLE(amax(v[0], {1}, true)), grouped(2, true, largest), axes_with(3, 2)},
      {"amin", VARIABLE(amin(v[0], {0, 2})), grouped(5, false, smallest), axes_with(3, 5)},
      {"amin: first axis", VARIABLE(amin(v[0], {0})), grouped(1, false, smallest), axes_with(3, 1)},
      {"max", VARIABLE(max(v[0])), grouped(7, false, largest), axes_with(3, 7)},
      {"min", VARIABLE(min(v[0])), grouped(7, false, smallest), axes_with(3, 7)},
      {"max_along", VARIABLE(max_along(v[0], 1).values), grouped(2, false, largest), axes_with(3, 2)},
      {"max_along: last axis, kept", VARIABLE(max_along(v[0], -1, true).values), grouped(4, true, largest),
       axes_with(3, 4)},
      {"min_along", VARIABLE(min_along(v[0], 0).values), grouped(1, false, smallest), axes_with(3, 1)},
      {"logsumexp", VARIABLE(logsumexp(v[0], {-1})), grouped(4, false, log_of_sum), axes(3)},
      {"logsumexp: all", VARIABLE(logsumexp(v[0])), grouped(7, false, log_of_sum), axes(3)},
      {"logsumexp: outer axes, kept", VARIABLE(logsumexp(v[0], {0, 1}, true)), grouped(3, true, log_of_sum), axes(3)},
      {"norm", VARIABLE(norm(v[0])), grouped(7, false, norm_of(2)), axes(3), off_zero},
      {"norm: 2, middle axis, kept", VARIABLE(norm(v[0], 2, {1}, true)), grouped(2, true, norm_of(2)), axes(3),
       off_zero},
      {"norm: 1", VARIABLE(norm(v[0], 1, {-1})), grouped(4, false, norm_of(1)), axes(3), off_zero},
      {"norm: 1, first axis", VARIABLE(norm(v[0], 1, {0})), grouped(1, false, norm_of(1)), axes(3), off_zero},
      {"norm: infinity", VARIABLE(norm(v[0], inf, {-1})), grouped(4, false, norm_of(inf)), axes(3), off_zero},
      {"norm: infinity, middle axis", VARIABLE(norm(v[0], inf, {1})), grouped(2, false, norm_of(inf)), axes(3),
       off_zero},
      {"norm: minus infinity",
       VARIABLE(norm(v[0], -inf, {0})),
       grouped(1, false, norm_of(-inf)),
       axes_with(3, 1),
       {-2, -0.3}},  // keeping off zero would make ties of the smallest
      {"norm: 0", VARIABLE(norm(v[0], 0, {-1})), grouped(4, false, norm_of(0)), axes(3), off_zero},
      {"norm: 3, outer axes", VARIABLE(norm(v[0], 3, {0, 1})), grouped(3, false, norm_of(3)), axes(3), off_zero},
      {"norm: 1/2", VARIABLE(norm(v[0], 0.5, {-1})), grouped(4, false, norm_of(0.5)), axes(3), off_zero, true, false,
       4e-6},
      {"normalize", VARIABLE(normalize(v[0], 2, 1)),
       [](std::span<const Array> in) {
         const Array length = grouped(2, true, norm_of(2))(in);
         Array y = in[0];
         for (Index i = 0; i < y.size(); ++i) y[i] /= length[broadcast_position(y.shape, i, length.shape)];
         return y;
       },
       axes(3), off_zero},
      {"renorm", VARIABLE(renorm(v[0], 2, 1, 2.5)), renormed(2, 1, 2.5), axes(3), off_zero},
      {"renorm: 1, last axis", VARIABLE(renorm(v[0], 1, -1, 4)), renormed(1, 2, 4), axes(3), off_zero},
      {"renorm: of a vector", VARIABLE(renorm(v[0], 3, 0, 1)), renormed(3, 0, 1), axes(1), off_zero},
      {"cosine_similarity", VARIABLE(cosine_similarity(v[0], v[1], 1)), cosine,
       [](Lengths& draw) {
         const Shape whole{draw.length(), draw.length(), draw.length()};
         return std::vector<Shape>{whole, {whole[1], whole[2]}};
       },
       positive},
  };
}

}  // namespace

std::vector<OpCase> reduce_cases() {
  std::vector<OpCase> rows = {
      {"sum", VARIABLE(sum(v[0])), reference(7, false, false), axes(3)},
      {"sum: last axis, kept", VARIABLE(sum(v[0], {-1}, true)), reference(4, true, false), axes(3)},
      {"sum: middle axis", VARIABLE(sum(v[0], {1})), reference(2, false, false), axes(3)},
      {"sum: outer axes", VARIABLE(sum(v[0], {0, -1})), reference(5, false, false), axes(3)},
      {"mean", VARIABLE(mean(v[0])), reference(7, false, true), axes(3)},
      {"mean: first axis, kept", VARIABLE(mean(v[0], {0}, true)), reference(1, true, true), axes(2)},
      {"sum_to", VARIABLE(sum_to(v[0], {1, v[0].shape()[2]})),
       [](std::span<const Array> in) {
         Array y = summed(in[0], 3, true, false);
         y.shape = {1, in[0].shape[2]};
         return y;
       },
       axes(3)},
      {"broadcast_to", VARIABLE(broadcast_to(v[0], {3, v[0].shape()[0], 4})),
       [](std::span<const Array> in) {
         Array y({3, in[0].shape[0], 4});
         for (Index i = 0; i < y.size(); ++i) y[i] = in[0][i / 4 % in[0].shape[0]];
         return y;
       },
       [](Lengths& draw) {
         return std::vector<Shape>{{draw.length(), 1}};
       }},
      {"softmax", VARIABLE(softmax(v[0], -1)),
       [](std::span<const Array> in) { return softmax_reference<false>(in[0], 1); }, axes(2)},
      {"softmax: middle axis", VARIABLE(softmax(v[0], 1)),
       [](std::span<const Array> in) { return softmax_reference<false>(in[0], 1); }, axes(3)},
      {"log_softmax", VARIABLE(log_softmax(v[0], -1)),
       [](std::span<const Array> in) { return softmax_reference<true>(in[0], 1); }, axes(2)},
      {"log_softmax: first axis", VARIABLE(log_softmax(v[0], 0)),
       [](std::span<const Array> in) { return softmax_reference<true>(in[0], 0); }, axes(3)},
  };
  for (OpCase& row : more_cases()) rows.push_back(std::move(row));
  return rows;
}

}  // namespace espalier::testing
