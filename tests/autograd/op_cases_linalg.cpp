#include "espalier/autograd/ops/linalg.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// [..., m, k] x [..., k, n], leading axes broadcast; vectors as in NumPy.
Array product(std::span<const Array> in) {
  const Shape &left = in[0].shape, &right = in[1].shape;
  const Shape a = left.rank() == 1 ? Shape{1, left[0]} : left, b = right.rank() == 1 ? Shape{right[0], 1} : right;
  const Index m = a[a.rank() - 2], k = a[a.rank() - 1], n = b[b.rank() - 1];
  auto leading = [](const Shape& s) {
    Shape lead;
    for (int axis = 0; axis + 2 < s.rank(); ++axis) lead.push_back(s[axis]);
    return lead;
  };
  const Shape la = leading(a), lb = leading(b), lead = broadcast_shapes("reference", la, lb);
  Shape shape = lead;
  if (in[0].shape.rank() > 1) shape.push_back(m);
  if (in[1].shape.rank() > 1) shape.push_back(n);
  Array y(shape);
  for (Index batch = 0; batch < count(lead); ++batch) {
    const Index p = broadcast_position(lead, batch, la) * m * k, q = broadcast_position(lead, batch, lb) * k * n;
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j)
        for (Index t = 0; t < k; ++t) y[(batch * m + i) * n + j] += in[0][p + i * k + t] * in[1][q + t * n + j];
  }
  return y;
}

/// x W^T + bias.
Array affine_map(std::span<const Array> in) {
  const Index features = in[1].shape[1], out = in[1].shape[0];
  Shape shape = in[0].shape;
  shape[shape.rank() - 1] = out;
  Array y(shape);
  for (Index i = 0; i < y.size(); ++i) {
    y[i] = in.size() > 2 ? in[2][i % out] : 0;
    for (Index t = 0; t < features; ++t) y[i] += in[0][i / out * features + t] * in[1][i % out * features + t];
  }
  return y;
}

}  // namespace

std::vector<OpCase> linalg_cases() {
  using Shapes = std::vector<Shape>;
  std::vector<OpCase> rows = {
      {"matmul", VARIABLE(matmul(v[0], v[1])), product,
       [](Lengths& draw) {
         const Index k = draw.length();
         return Shapes{{draw.length(), k}, {k, draw.length()}};
       }},
      {"matmul: batches broadcast", VARIABLE(matmul(v[0], v[1])), product,
       [](Lengths& draw) {
         const Index k = draw.length(), batch = draw.below(4);
         return Shapes{{batch, 1, draw.length(), k}, {3, k, draw.length()}};
       }},
      {"matmul: matrix and vector", VARIABLE(matmul(v[0], v[1])), product,
       [](Lengths& draw) {
         const Index k = draw.length();
         return Shapes{{2, draw.length(), k}, {k}};
       }},
      {"matmul: vector and matrix", VARIABLE(matmul(v[0], v[1])), product,
       [](Lengths& draw) {
         const Index k = draw.length();
         return Shapes{{k}, {2, k, draw.length()}};
       }},
      {"matmul: two vectors", VARIABLE(matmul(v[0], v[1])), product,
       [](Lengths& draw) {
         const Index k = draw.length();
         return Shapes{{k}, {k}};
       }},
      {"linear", VARIABLE(linear(v[0], v[1], v[2])), affine_map,
       [](Lengths& draw) {
         const Index in = draw.length(), out = draw.length();
         return Shapes{{draw.length(), in}, {out, in}, {out}};
       }},
      {"linear: no bias, more axes", VARIABLE(linear(v[0], v[1])), affine_map,
       [](Lengths& draw) {
         const Index in = draw.length(), out = draw.length();
         return Shapes{{draw.length(), 2, in}, {out, in}};
       }},
      {"linear: one row", VARIABLE(linear(v[0], v[1], v[2])), affine_map,
       [](Lengths& draw) {
         const Index in = draw.length(), out = draw.length();
         return Shapes{{in}, {out, in}, {out}};
       }},
  };
  return rows;
}

}  // namespace espalier::testing
