#include <cmath>

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

/// f(x W^T + bias)
auto activated(double (*f)(double)) {
  return [f](std::span<const Array> in) {
    Array y = affine_map(in);
    for (double& v : y.values) v = f(v);
    return y;
  };
}

std::vector<Shape> layer(Lengths& draw) {
  const Index in = draw.length(), out = draw.length();
  return {{draw.length(), in}, {out, in}, {out}};
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
      {"linear: relu", VARIABLE(linear(v[0], v[1], v[2], Activation::relu)),
       activated([](double x) { return x < 0 ? 0 : x; }), layer},
      {"linear: tanh", VARIABLE(linear(v[0], v[1], v[2], Activation::tanh)),
       activated([](double x) { return std::tanh(x); }), layer},
      {"linear: sigmoid", VARIABLE(linear(v[0], v[1], v[2], Activation::sigmoid)),
       activated([](double x) { return 1 / (1 + std::exp(-x)); }), layer},
      {"linear: gelu", VARIABLE(linear(v[0], v[1], v[2], Activation::gelu)),
       activated([](double x) { return x / 2 * std::erfc(-x / std::sqrt(2.)); }), layer},
      {"linear: silu, no bias, more axes", VARIABLE(linear(v[0], v[1], {}, Activation::silu)),
       activated([](double x) { return x / (1 + std::exp(-x)); }),
       [](Lengths& draw) {
         const Index in = draw.length(), out = draw.length();
         return Shapes{{draw.length(), 2, in}, {out, in}};
       }},
      {"bmm", VARIABLE(bmm(v[0], v[1])), product,
       [](Lengths& draw) {
         const Index n = draw.length(), k = draw.length();
         return Shapes{{n, draw.length(), k}, {n, k, draw.length()}};
       }},
      {"addmm", VARIABLE(addmm(v[0], v[1], v[2], 0.5, -1.5)),
       [](std::span<const Array> in) {
         Array y = product(in.subspan(1));
         for (Index i = 0; i < y.size(); ++i)
           y[i] = 0.5 * in[0][broadcast_position(y.shape, i, in[0].shape)] - 1.5 * y[i];
         return y;
       },
       [](Lengths& draw) {
         const Index m = draw.length(), k = draw.length(), n = draw.length();
         return Shapes{draw.below(2) ? Shape{n} : Shape{m, n}, {m, k}, {k, n}};
       }},
      {"outer", VARIABLE(outer(v[0], v[1])),
       [](std::span<const Array> in) {
         Array y({in[0].size(), in[1].size()});
         for (Index i = 0; i < y.size(); ++i) y[i] = in[0][i / in[1].size()] * in[1][i % in[1].size()];
         return y;
       },
       [](Lengths& draw) {
         return Shapes{{draw.length()}, {draw.length()}};
       }},
      {"dot", VARIABLE(dot(v[0], v[1])), product,
       [](Lengths& draw) {
         const Index n = draw.length();
         return Shapes{{n}, {n}};
       }},
  };
  return rows;
}

}  // namespace espalier::testing
