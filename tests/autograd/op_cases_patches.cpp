#include "espalier/autograd/ops/patches.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

struct Plain {
  IndexPair kernel, stride = 1, padding = 0, dilation = 1;
};

/// Calls f(position in columns [N, C kh kw, L], position in x [N, C, H, W]) for all that lie inside.
template <class F>
Index each_pair(const Shape& xs, const Plain& p, F f) {
  const Index down = (xs[2] + 2 * p.padding[0] - p.dilation[0] * (p.kernel[0] - 1) - 1) / p.stride[0] + 1;
  const Index across = (xs[3] + 2 * p.padding[1] - p.dilation[1] * (p.kernel[1] - 1) - 1) / p.stride[1] + 1;
  Index at = 0;
  for (Index plane = 0; plane < xs[0] * xs[1]; ++plane)
    for (Index a = 0; a < p.kernel[0]; ++a)
      for (Index b = 0; b < p.kernel[1]; ++b)
        for (Index i = 0; i < down; ++i)
          for (Index j = 0; j < across; ++j, ++at) {
            const Index u = i * p.stride[0] + a * p.dilation[0] - p.padding[0];
            const Index v = j * p.stride[1] + b * p.dilation[1] - p.padding[1];
            if (u >= 0 && v >= 0 && u < xs[2] && v < xs[3]) f(at, (plane * xs[2] + u) * xs[3] + v);
          }
  return down * across;
}

auto unfolded(Plain p) {
  return [p](std::span<const Array> in) {
    const Shape& s = in[0].shape;
    const Index windows = each_pair(s, p, [](Index, Index) {});
    Array y({s[0], s[1] * p.kernel[0] * p.kernel[1], windows});
    each_pair(s, p, [&](Index column, Index x) { y[column] = in[0][x]; });
    return y;
  };
}
auto folded(Plain p, Index height, Index width) {
  return [=](std::span<const Array> in) {
    Array y({in[0].shape[0], in[0].shape[1] / (p.kernel[0] * p.kernel[1]), height, width});
    each_pair(y.shape, p, [&](Index column, Index x) { y[x] += in[0][column]; });
    return y;
  };
}
auto images(Lengths& draw) {
  const Index batch = std::min<Index>(draw.length(), 6);
  return std::vector<Shape>{{batch, 1 + draw.below(3), 3 + draw.positive() % 9, 3 + draw.positive() % 9}};
}

}  // namespace

std::vector<OpCase> patches_cases() {
  return {
      {"unfold", VARIABLE(unfold(v[0], 3, {.padding = 1})), unfolded({.kernel = 3, .padding = 1}), images},
      {"unfold: strided, dilated",
       VARIABLE(unfold(v[0], {2, 3}, {.stride = {2, 1}, .padding = {0, 3}, .dilation = {2, 2}})),
       unfolded({.kernel = {2, 3}, .stride = {2, 1}, .padding = {0, 3}, .dilation = {2, 2}}), images},
      {"fold", VARIABLE(fold(v[0], {5, 6}, {3, 2}, {.stride = {1, 2}, .padding = 1})),
       folded({.kernel = {3, 2}, .stride = {1, 2}, .padding = 1}, 5, 6),
       [](Lengths& draw) {
         return std::vector<Shape>{{draw.length(), 6 * (1 + draw.below(3)), 20}};
       }},
  };
}

}  // namespace espalier::testing
