#include <algorithm>

#include "espalier/autograd/ops/index.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

using Arrays = std::span<const Array>;

/// The place that element i of an index of `of` places names; some are named twice.
Index pick(Index i, Index of) { return (7 * i + i / 3 + 2) % of; }

Tensor indices(const Shape& shape, Index of) {
  std::vector<Index> values;
  for (Index i = 0; i < count(shape); ++i) values.push_back(pick(i, of));
  return Tensor::from(values, shape);
}

/// Of gather: shorter than x outside, another length along axis 1.
Shape gather_shape(const Shape& x) { return {x[0] - x[0] / 2, x[1] + 2, x[2] - x[2] / 2}; }
/// Of scatter: fits into src, and into x but along axis 1.
Shape scatter_shape(const Shape& x, const Shape& src) {
  return {std::min(x[0], src[0]), src[1] - src[1] / 3, std::min(x[2], src[2])};
}

Index flat(const Shape& s, Index i, Index j, Index k) { return (i * s[1] + j) * s[2] + k; }

/// Calls f(element of index in row-major order, its place in x along axis 1) as (i, j, k, place).
template <class F>
void for_index(const Shape& shape, Index of, F f) {
  for (Index i = 0; i < shape[0]; ++i)
    for (Index j = 0; j < shape[1]; ++j)
      for (Index k = 0; k < shape[2]; ++k) f(i, j, k, pick(flat(shape, i, j, k), of));
}

Array gathered(Arrays in) {
  const Shape& x = in[0].shape;
  Array y(gather_shape(x));
  for_index(y.shape, x[1],
            [&](Index i, Index j, Index k, Index at) { y[flat(y.shape, i, j, k)] = in[0][flat(x, i, at, k)]; });
  return y;
}

Array scattered(Arrays in, bool add) {
  Array y = in[0];
  const Shape &x = y.shape, &src = in[1].shape;
  for_index(scatter_shape(x, src), x[1], [&](Index i, Index j, Index k, Index at) {
    double& place = y[flat(x, i, at, k)];
    place = (add ? place : 0) + in[1][flat(src, i, j, k)];
  });
  return y;
}

std::vector<Shape> block(Lengths& draw) { return {{draw.length(), draw.positive(), draw.length()}}; }
std::vector<Shape> block_and_source(Lengths& draw) {
  return {{draw.length(), draw.positive(), draw.length()}, {draw.length(), draw.length(), draw.length()}};
}

constexpr Index listed = 7;  // the length of the lists below

Tensor every_second(const Shape& shape) {
  Tensor mask = Tensor::zeros(shape, DType::boolean);
  bool* live = mask.write<bool>("test");
  for (Index i = 0; i < mask.size(); ++i) live[i] = i % 3 != 1;
  return mask;
}

}  // namespace

std::vector<OpCase> index_cases() {
  return {
      {"gather", VARIABLE(gather(v[0], 1, indices(gather_shape(v[0].shape()), v[0].dim(1)))), gathered, block},
      {"gather: the axis counted from the last", VARIABLE(gather(v[0], -1, indices({v[0].dim(0), 9}, v[0].dim(1)))),
       [](Arrays in) {
         Array y({in[0].shape[0], 9});
         for (Index i = 0; i < y.size(); ++i) y[i] = in[0][i / 9 * in[0].shape[1] + pick(i, in[0].shape[1])];
         return y;
       },
       [](Lengths& draw) {
         return std::vector<Shape>{{draw.length(), draw.positive()}};
       }},
      {"scatter", VARIABLE(scatter(v[0], 1, indices(scatter_shape(v[0].shape(), v[1].shape()), v[0].dim(1)), v[1])),
       [](Arrays in) { return scattered(in, false); }, block_and_source},
      {"scatter_add",
       VARIABLE(scatter_add(v[0], 1, indices(scatter_shape(v[0].shape(), v[1].shape()), v[0].dim(1)), v[1])),
       [](Arrays in) { return scattered(in, true); }, block_and_source},
      {"index_select", VARIABLE(index_select(v[0], 1, indices({listed}, v[0].dim(1)))),
       [](Arrays in) {
         const Shape& x = in[0].shape;
         Array y({x[0], listed, x[2]});
         for (Index i = 0; i < x[0]; ++i)
           for (Index j = 0; j < listed; ++j)
             for (Index k = 0; k < x[2]; ++k) y[flat(y.shape, i, j, k)] = in[0][flat(x, i, pick(j, x[1]), k)];
         return y;
       },
       block},
      {"index_select: single elements", VARIABLE(index_select(v[0], 0, indices({listed}, v[0].dim(0)))),
       [](Arrays in) {
         Array y({listed});
         for (Index j = 0; j < listed; ++j) y[j] = in[0][pick(j, in[0].size())];
         return y;
       },
       [](Lengths& draw) { return std::vector<Shape>{{draw.positive()}}; }},
      {"index_add", VARIABLE(index_add(v[0], -2, indices({listed}, v[0].dim(1)), v[1], 0.5)),
       [](Arrays in) {
         Array y = in[0];
         const Shape& x = y.shape;
         for (Index i = 0; i < x[0]; ++i)
           for (Index j = 0; j < listed; ++j)
             for (Index k = 0; k < x[2]; ++k)
               y[flat(x, i, pick(j, x[1]), k)] += 0.5 * in[1][flat(in[1].shape, i, j, k)];
         return y;
       },
       [](Lengths& draw) {
         const Shape x = block(draw)[0];
         return std::vector<Shape>{x, {x[0], listed, x[2]}};
       }},
      {"index_fill", VARIABLE(index_fill(v[0], 1, indices({listed}, v[0].dim(1)), 0.25)),
       [](Arrays in) {
         Array y = in[0];
         const Shape& x = y.shape;
         for (Index i = 0; i < x[0]; ++i)
           for (Index j = 0; j < listed; ++j)
             for (Index k = 0; k < x[2]; ++k) y[flat(x, i, pick(j, x[1]), k)] = 0.25;
         return y;
       },
       block},
      {"masked_select", VARIABLE(masked_select(v[0], every_second({2, v[0].dim(0), v[0].dim(1)}))),
       [](Arrays in) {
         std::vector<double> kept;
         for (Index i = 0; i < 2 * in[0].size(); ++i)
           if (i % 3 != 1) kept.push_back(in[0][i % in[0].size()]);
         Array y({static_cast<Index>(kept.size())});
         y.values = kept;
         return y;
       },
       [](Lengths& draw) {
         return std::vector<Shape>{{draw.length(), draw.length()}};
       }},
  };
}

}  // namespace espalier::testing
