#include "espalier/autograd/ops/sort.h"

#include <algorithm>

#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// The elements [first, first + kept) of every line along `axis`, sorted.
auto sorted(int axis, bool descending, Index first, Index kept, bool drop = false) {
  return [=](std::span<const Array> in) {
    const Array& x = in[0];
    const Index n = x.shape[axis], m = kept < 0 ? n : kept, from = first < 0 ? (n - 1) / 2 : first;
    Shape shape = x.shape;
    shape[axis] = m;
    Index stride = 1;
    for (int a = axis + 1; a < x.shape.rank(); ++a) stride *= x.shape[a];
    Array y(shape);
    for (Index i = 0; i < y.size(); ++i) {
      if (i / stride % m != 0) continue;
      std::vector<double> line;
      for (Index k = 0; k < n; ++k) line.push_back(x[(i / stride / m * n + k) * stride + i % stride]);
      std::sort(line.begin(), line.end());
      if (descending) std::reverse(line.begin(), line.end());
      for (Index k = 0; k < m; ++k) y[i + k * stride] = line[static_cast<std::size_t>(from + k)];
    }
    if (drop) y.shape.erase(axis);
    return y;
  };
}

/// Three axes; `axis` has at least two elements.
auto with_two(int axis) {
  return [axis](Lengths& draw) {
    Shape shape{draw.length(), draw.length(), draw.length()};
    shape[axis] = 1 + draw.positive();
    return std::vector<Shape>{shape};
  };
}
std::vector<Shape> three_axes(Lengths& draw) { return {{draw.length(), draw.length(), draw.length()}}; }

}  // namespace

std::vector<OpCase> sort_cases() {
  return {
      {"sort", VARIABLE(sort(v[0]).values), sorted(2, false, 0, -1), three_axes},
      {"sort: first axis, descending", VARIABLE(sort(v[0], 0, true).values), sorted(0, true, 0, -1), three_axes},
      {"topk", VARIABLE(topk(v[0], 2).values), sorted(2, true, 0, 2), with_two(2)},
      {"topk: smallest, middle axis", VARIABLE(topk(v[0], 2, 1, false).values), sorted(1, false, 0, 2), with_two(1)},
      {"kthvalue", VARIABLE(kthvalue(v[0], 2).values), sorted(2, false, 1, 1, true), with_two(2)},
      {"median", VARIABLE(median(v[0], 1, true).values), sorted(1, false, -1, 1), with_two(1)},
  };
}

}  // namespace espalier::testing
