#include "espalier/autograd/ops/shape.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// y[i, j, k] = x at the positions permuted by `order`, from a plain loop over three axes.
auto permuted(std::array<int, 3> order) {
  return [order](std::span<const Array> in) {
    const Shape& s = in[0].shape;
    Array y({s[order[0]], s[order[1]], s[order[2]]});
    Index n = 0;
    std::array<Index, 3> at{};
    auto& [i, j, k] = at;
    for (i = 0; i < y.shape[0]; ++i)
      for (j = 0; j < y.shape[1]; ++j)
        for (k = 0; k < y.shape[2]; ++k) {
          std::array<Index, 3> from{};
          for (std::size_t a = 0; a < 3; ++a) from[static_cast<std::size_t>(order[a])] = at[a];
          y[n++] = in[0][(from[0] * s[1] + from[1]) * s[2] + from[2]];
        }
    return y;
  };
}

auto in_shape(std::function<Shape(const Shape&)> shape) {
  return [shape](std::span<const Array> in) {
    Array y = in[0];
    y.shape = shape(in[0].shape);
    return y;
  };
}

std::vector<Shape> three_axes(Lengths& draw) { return {{draw.length(), draw.length(), draw.length()}}; }

}  // namespace

std::vector<OpCase> shape_cases() {
  return {
      {"reshape", VARIABLE(reshape(v[0], {v[0].size(), 1})), in_shape([](const Shape& s) {
         return Shape{count(s), 1};
       }),
       three_axes},
      {"reshape: -1", VARIABLE(reshape(v[0], {2, -1})), in_shape([](const Shape& s) {
         return Shape{2, s[0] * s[1]};
       }),
       [](Lengths& draw) {
         return std::vector<Shape>{{draw.length(), draw.length(), 2}};
       }},
      {"flatten", VARIABLE(flatten(v[0], 1)), in_shape([](const Shape& s) {
         return Shape{s[0], s[1] * s[2]};
       }),
       three_axes},
      {"transpose", VARIABLE(transpose(v[0], 0, -1)), permuted({2, 1, 0}), three_axes},
      {"permute", VARIABLE(permute(v[0], {2, 0, 1})), permuted({2, 0, 1}), three_axes},
      {"permute: negative axes", VARIABLE(permute(v[0], {-2, -1, 0})), permuted({1, 2, 0}), three_axes},
  };
}

}  // namespace espalier::testing
