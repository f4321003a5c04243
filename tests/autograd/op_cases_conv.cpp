#include "espalier/autograd/ops/conv.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// One axis pair of a convolution, for the plain loops.
struct Plain {
  IndexPair stride = 1, padding = 0, dilation = 1, more = 0;  // more: output padding
  Index groups = 1;
};

/// As an image: [N, C, L] is [N, C, 1, L].
Shape as_image(const Shape& s) { return s.rank() == 3 ? Shape{s[0], s[1], 1, s[2]} : s; }

/// y[n, o, i, j] += w[o, c, a, b] x[n, c', i s + a d - p, j s + b d - p], or the other way round: x += w y.
void correlate(const Array& w, const Shape& ws, Array& x, const Shape& xs, Array& y, const Shape& ys, const Plain& p,
               bool spread) {
  const Index in = ws[1], out = ws[0] / p.groups;
  for (Index n = 0; n < ys[0]; ++n)
    for (Index o = 0; o < ys[1]; ++o)
      for (Index i = 0; i < ys[2]; ++i)
        for (Index j = 0; j < ys[3]; ++j)
          for (Index c = 0; c < in; ++c)
            for (Index a = 0; a < ws[2]; ++a)
              for (Index b = 0; b < ws[3]; ++b) {
                const Index u = i * p.stride[0] + a * p.dilation[0] - p.padding[0];
                const Index v = j * p.stride[1] + b * p.dilation[1] - p.padding[1];
                if (u < 0 || v < 0 || u >= xs[2] || v >= xs[3]) continue;
                const double factor = w[((o * in + c) * ws[2] + a) * ws[3] + b];
                double& at_x = x[((n * xs[1] + o / out * in + c) * xs[2] + u) * xs[3] + v];
                double& at_y = y[((n * ys[1] + o) * ys[2] + i) * ys[3] + j];
                if (spread)
                  at_x += factor * at_y;
                else
                  at_y += factor * at_x;
              }
}

void add_bias(Array& y, const Shape& s, std::span<const Array> in) {
  if (in.size() < 3) return;
  for (Index i = 0; i < y.size(); ++i) y[i] += in[2][i / (s[2] * s[3]) % s[1]];
}

auto reference(Plain p) {
  return [p](std::span<const Array> in) {
    const Shape xs = as_image(in[0].shape), ws = as_image(in[1].shape);
    const bool line = in[0].shape.rank() == 3;
    Shape ys{xs[0], ws[0], 0, 0};
    for (int a = 0; a < 2; ++a) {
      const auto k = static_cast<std::size_t>(a);
      ys[2 + a] = (xs[2 + a] + 2 * p.padding[k] - p.dilation[k] * (ws[2 + a] - 1) - 1) / p.stride[k] + 1;
    }
    Array x = in[0], y(line ? Shape{ys[0], ys[1], ys[3]} : ys);
    correlate(in[1], ws, x, xs, y, ys, p, false);
    add_bias(y, ys, in);
    return y;
  };
}

auto transposed_reference(Plain p) {
  return [p](std::span<const Array> in) {
    const Shape ys = as_image(in[0].shape), ws = as_image(in[1].shape);
    const bool line = in[0].shape.rank() == 3;
    Shape xs{ys[0], ws[1] * p.groups, 0, 0};
    for (int a = 0; a < 2; ++a) {
      const auto k = static_cast<std::size_t>(a);
      xs[2 + a] = (ys[2 + a] - 1) * p.stride[k] - 2 * p.padding[k] + p.dilation[k] * (ws[2 + a] - 1) + p.more[k] + 1;
    }
    Array y = in[0], x(line ? Shape{xs[0], xs[1], xs[3]} : xs);
    correlate(in[1], ws, x, xs, y, ys, p, true);
    add_bias(x, xs, in);
    return x;
  };
}

/// x [N, C, H, W], weight, bias; C and out are multiples of `groups`, the kernel is given.
auto images(Index kh, Index kw, Index groups, bool transposed, bool bias) {
  return [=](Lengths& draw) {
    const Index batch = draw.length();
    const Index in = groups * (1 + draw.below(3)), out = groups * (1 + draw.below(6));
    const Index h = kh + draw.positive() % 11, w = kw + draw.positive() % 23;
    const Shape x{std::min<Index>(batch, 9), in, h, w};
    const Shape weight = transposed ? Shape{in, out / groups, kh, kw} : Shape{out, in / groups, kh, kw};
    return bias ? std::vector<Shape>{x, weight, {out}} : std::vector<Shape>{x, weight};
  };
}
auto sequences(Index k, Index groups, bool transposed) {
  return [=](Lengths& draw) {
    const Index batch = draw.length();
    const Index in = groups * (1 + draw.below(3)), out = groups * (1 + draw.below(6));
    const Index length = k + draw.positive();
    return std::vector<Shape>{{std::min<Index>(batch, 9), in, length},
                              transposed ? Shape{in, out / groups, k} : Shape{out, in / groups, k},
                              {out}};
  };
}
/// Enough channels that short rows are taken pixel by pixel.
auto many_channels(Index kh, Index kw, bool transposed) {
  return [=](Lengths& draw) {
    const Index batch = std::min<Index>(draw.length(), 3);
    const Shape x{batch, 2, kh + draw.below(2), kw + draw.below(2)};
    return std::vector<Shape>{x, transposed ? Shape{2, 37, kh, kw} : Shape{37, 2, kh, kw}, {37}};
  };
}

}  // namespace

std::vector<OpCase> conv_cases() {
  std::vector<OpCase> rows = {
      {"conv2d", VARIABLE(conv2d(v[0], v[1])), reference({}), images(3, 3, 1, false, false)},
      {"conv2d: bias and padding", VARIABLE(conv2d(v[0], v[1], v[2], {.padding = {1, 2}})),
       reference({.padding = {1, 2}}), images(3, 2, 1, false, true)},
      {"conv2d: stride 2", VARIABLE(conv2d(v[0], v[1], v[2], {.stride = 2, .padding = 1})),
       reference({.stride = 2, .padding = 1}), images(3, 3, 1, false, true)},
      {"conv2d: odd strides", VARIABLE(conv2d(v[0], v[1], {}, {.stride = {1, 3}, .padding = {0, 4}})),
       reference({.stride = {1, 3}, .padding = {0, 4}}), images(1, 2, 1, false, false)},
      {"conv2d: stride beyond the kernel", VARIABLE(conv2d(v[0], v[1], {}, {.stride = {3, 2}})),
       reference({.stride = {3, 2}}), images(1, 1, 1, false, false)},
      {"conv2d: dilated", VARIABLE(conv2d(v[0], v[1], {}, {.stride = {2, 1}, .padding = {2, 4}, .dilation = {2, 3}})),
       reference({.stride = {2, 1}, .padding = {2, 4}, .dilation = {2, 3}}), images(2, 3, 1, false, false)},
      {"conv2d: groups", VARIABLE(conv2d(v[0], v[1], v[2], {.padding = 1, .groups = 3})),
       reference({.padding = 1, .groups = 3}), images(3, 3, 3, false, true)},
      {"conv2d: depthwise", VARIABLE(conv2d(v[0], v[1], {}, {.stride = 2, .padding = 1, .groups = v[0].shape()[1]})),
       [](std::span<const Array> in) { return reference({.stride = 2, .padding = 1, .groups = in[0].shape[1]})(in); },
       [](Lengths& draw) {
         const Index c = 1 + draw.below(6);
         return std::vector<Shape>{{std::min<Index>(draw.length(), 5), c, 3 + draw.below(5), 3 + draw.below(20)},
                                   {c * (1 + draw.below(2)), 1, 3, 3}};
       }},
      {"conv2d: one tap", VARIABLE(conv2d(v[0], v[1], v[2])), reference({}), images(1, 1, 1, false, true)},
      {"conv2d: short rows", VARIABLE(conv2d(v[0], v[1], v[2], {.padding = 1})), reference({.padding = 1}),
       many_channels(3, 2, false)},
      {"conv2d: a single pixel", VARIABLE(conv2d(v[0], v[1], v[2], {.stride = 2})), reference({.stride = 2}),
       many_channels(2, 2, false)},
      {"conv1d", VARIABLE(conv1d(v[0], v[1], v[2], {.stride = 2, .padding = 2})),
       reference({.stride = {1, 2}, .padding = {0, 2}}), sequences(3, 1, false)},
      {"conv1d: groups", VARIABLE(conv1d(v[0], v[1], v[2], {.padding = 2, .dilation = 2, .groups = 2})),
       reference({.padding = {0, 2}, .dilation = {1, 2}, .groups = 2}), sequences(3, 2, false)},
      {"conv_transpose2d", VARIABLE(conv_transpose2d(v[0], v[1], v[2])), transposed_reference({}),
       images(2, 3, 1, true, true)},
      {"conv_transpose2d: stride 2",
       VARIABLE(conv_transpose2d(v[0], v[1], v[2], {.stride = 2, .padding = 1, .output_padding = 1})),
       transposed_reference({.stride = 2, .padding = 1, .more = 1}), images(3, 3, 1, true, true)},
      {"conv_transpose2d: groups, dilated",
       VARIABLE(conv_transpose2d(v[0], v[1], {}, {.stride = {3, 1}, .dilation = {1, 2}, .groups = 2})),
       transposed_reference({.stride = {3, 1}, .dilation = {1, 2}, .groups = 2}), images(2, 2, 2, true, false)},
      {"conv_transpose2d: short rows", VARIABLE(conv_transpose2d(v[0], v[1], v[2], {.padding = 1})),
       transposed_reference({.padding = 1}), many_channels(3, 3, true)},
      {"conv_transpose1d", VARIABLE(conv_transpose1d(v[0], v[1], v[2], {.stride = 2, .padding = 1})),
       transposed_reference({.stride = {1, 2}, .padding = {0, 1}}), sequences(3, 1, true)},
  };
  return rows;
}

}  // namespace espalier::testing
