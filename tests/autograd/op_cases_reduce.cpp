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
  return rows;
}

}  // namespace espalier::testing
