#include <cmath>

#include "espalier/autograd/ops/interpolate.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// The share of input k in output i of an axis that goes from n to m.
double share(Interpolation mode, bool align, double scale, Index n, Index m, Index i, Index k) {
  const double step = align && mode == Interpolation::linear
                          ? (m > 1 ? static_cast<double>(n - 1) / static_cast<double>(m - 1) : 0)
                      : scale > 0 ? 1 / scale
                                  : static_cast<double>(n) / static_cast<double>(m);
  const auto at = static_cast<double>(i), last = static_cast<double>(n - 1), here = static_cast<double>(k);
  if (mode == Interpolation::nearest) return std::min(std::floor(at * step), last) == here;
  const double place = std::min(last, align ? at * step : std::max(0.0, (at + 0.5) * step - 0.5));
  return std::max(0.0, 1 - std::abs(place - here));  // a hat around each input
}

auto resized(Interpolation mode, bool align, double scale, Dims size) {
  return [=](std::span<const Array> in) {
    const Shape s = in[0].shape.rank() == 3 ? Shape{in[0].shape[0], in[0].shape[1], 1, in[0].shape[2]} : in[0].shape;
    const bool line = in[0].shape.rank() == 3;
    auto length = [&](int axis) {
      if (line && axis == 0) return Index{1};
      return scale > 0 ? static_cast<Index>(std::floor(static_cast<double>(s[2 + axis]) * scale))
                       : size[line ? 0 : axis];
    };
    const Index height = length(0), width = length(1);
    Array y(line ? Shape{s[0], s[1], width} : Shape{s[0], s[1], height, width});
    for (Index q = 0; q < y.size(); ++q) {
      const Index plane = q / (height * width), i = q / width % height, j = q % width;
      for (Index u = 0; u < s[2]; ++u)
        for (Index v = 0; v < s[3]; ++v)
          y[q] += in[0][(plane * s[2] + u) * s[3] + v] * (line ? 1 : share(mode, align, scale, s[2], height, i, u)) *
                  share(mode, align, scale, s[3], width, j, v);
    }
    return y;
  };
}

auto images(Lengths& draw) {
  const Index batch = std::min<Index>(draw.length(), 6);
  return std::vector<Shape>{{batch, 1 + draw.below(3), 1 + draw.positive() % 9, 1 + draw.positive() % 9}};
}
auto sequences(Lengths& draw) {
  const Index batch = std::min<Index>(draw.length(), 6);
  return std::vector<Shape>{{batch, 1 + draw.below(3), 1 + draw.positive() % 9}};
}

}  // namespace

std::vector<OpCase> interpolate_cases() {
  using enum Interpolation;
  return {
      {"interpolate", VARIABLE(interpolate(v[0], {5, 7})), resized(nearest, false, 0, {5, 7}), images},
      {"interpolate: linear", VARIABLE(interpolate(v[0], {5, 7}, linear)), resized(linear, false, 0, {5, 7}), images},
      {"interpolate: corners", VARIABLE(interpolate(v[0], {1, 9}, linear, {.align_corners = true})),
       resized(linear, true, 0, {1, 9}), images},
      {"interpolate: sequences", VARIABLE(interpolate(v[0], {6}, linear)), resized(linear, false, 0, {6}), sequences},
      {"interpolate_by", VARIABLE(interpolate_by(v[0], 2.5, linear)), resized(linear, false, 2.5, {}), images},
      {"interpolate_by: nearest", VARIABLE(interpolate_by(v[0], 2)), resized(nearest, false, 2, {}), images},
  };
}

}  // namespace espalier::testing
