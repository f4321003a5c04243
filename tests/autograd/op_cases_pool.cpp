#include <cmath>
#include <limits>

#include "espalier/autograd/ops/pool.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

struct Plain {
  IndexPair kernel = 1, stride = 1, padding = 0, dilation = 1;
  bool ceil_mode = false, count_padding = true;
  Index divisor = 0;
};
enum class Kind { max, mean };

Index windows(Index size, Index kernel, Index stride, Index padding, Index dilation, bool ceil_mode) {
  const Index room = size + 2 * padding - dilation * (kernel - 1) - 1;
  Index n = static_cast<Index>(ceil_mode ? std::ceil(static_cast<double>(room) / static_cast<double>(stride))
                                         : std::floor(static_cast<double>(room) / static_cast<double>(stride))) +
            1;
  if (ceil_mode && (n - 1) * stride >= size + padding) --n;
  return n;
}

/// Over the last two axes.
auto pooled(Kind kind, Plain p) {
  return [=](std::span<const Array> in) {
    const bool line = in[0].shape.rank() < 4;
    Shape xs = in[0].shape, ys = xs;
    const Index height = line ? 1 : xs[-2], width = xs[-1];
    const Index rows = windows(height, p.kernel[0], p.stride[0], p.padding[0], p.dilation[0], p.ceil_mode);
    const Index columns = windows(width, p.kernel[1], p.stride[1], p.padding[1], p.dilation[1], p.ceil_mode);
    if (!line) ys[-2] = rows;
    ys[-1] = columns;
    Array y(ys);
    for (Index q = 0; q < y.size(); ++q) {
      const Index plane = q / (rows * columns), i = q / columns % rows, j = q % columns;
      double sum = 0, most = -std::numeric_limits<double>::infinity();
      Index padded = 0, inside = 0;
      for (Index a = 0; a < p.kernel[0]; ++a)
        for (Index b = 0; b < p.kernel[1]; ++b) {
          const Index u = i * p.stride[0] + a * p.dilation[0] - p.padding[0];
          const Index v = j * p.stride[1] + b * p.dilation[1] - p.padding[1];
          padded += u < height + p.padding[0] && v < width + p.padding[1];
          if (u < 0 || v < 0 || u >= height || v >= width) continue;
          const double x = in[0][(plane * height + u) * width + v];
          ++inside;
          sum += x;
          most = std::max(most, x);
        }
      const Index n = p.divisor != 0 ? p.divisor : p.count_padding ? padded : inside;
      y[q] = kind == Kind::max ? most : sum / static_cast<double>(n);
    }
    return y;
  };
}

auto adaptive(Kind kind, Index rows, Index columns) {
  return [=](std::span<const Array> in) {
    const Shape& xs = in[0].shape;
    const bool line = xs.rank() < 4;
    const Index height = line ? 1 : xs[2], width = line ? xs[2] : xs[3];
    Shape ys = xs;
    if (!line) ys[-2] = rows;
    ys[-1] = columns;
    Array y(ys);
    for (Index q = 0; q < y.size(); ++q) {
      const Index plane = q / (rows * columns), i = q / columns % rows, j = q % columns;
      auto begin = [](Index k, Index n, Index to) {
        return static_cast<Index>(std::floor(static_cast<double>(k * n) / static_cast<double>(to)));
      };
      auto end = [](Index k, Index n, Index to) {
        return static_cast<Index>(std::ceil(static_cast<double>((k + 1) * n) / static_cast<double>(to)));
      };
      double sum = 0, most = -std::numeric_limits<double>::infinity();
      Index count = 0;
      for (Index u = begin(i, height, rows); u < end(i, height, rows); ++u)
        for (Index v = begin(j, width, columns); v < end(j, width, columns); ++v, ++count) {
          const double x = in[0][(plane * height + u) * width + v];
          sum += x;
          most = std::max(most, x);
        }
      y[q] = kind == Kind::max ? most : sum / static_cast<double>(count);
    }
    return y;
  };
}

auto images(Index least) {
  return [=](Lengths& draw) {
    const Index batch = std::min<Index>(draw.length(), 6);
    return std::vector<Shape>{{batch, 1 + draw.below(3), least + draw.positive() % 20, least + draw.positive()}};
  };
}
auto sequences(Index least) {
  return [=](Lengths& draw) {
    const Index batch = std::min<Index>(draw.length(), 6);
    return std::vector<Shape>{{batch, 1 + draw.below(3), least + draw.positive()}};
  };
}

}  // namespace

std::vector<OpCase> pool_cases() {
  std::vector<OpCase> rows = {
      {"max_pool2d", VARIABLE(max_pool2d(v[0], 2)), pooled(Kind::max, {.kernel = 2, .stride = 2}), images(2)},
      {"max_pool2d: overlapping, padded", VARIABLE(max_pool2d(v[0], 3, {.stride = 2, .padding = 1})),
       pooled(Kind::max, {.kernel = 3, .stride = 2, .padding = 1}), images(1)},
      {"max_pool2d: ceil, dilated",
       VARIABLE(max_pool2d(v[0], {3, 2}, {.stride = {2, 3}, .dilation = {1, 2}, .ceil_mode = true})),
       pooled(Kind::max, {.kernel = {3, 2}, .stride = {2, 3}, .dilation = {1, 2}, .ceil_mode = true}), images(3)},
      {"max_pool2d: a large window", VARIABLE(max_pool2d(v[0], 18, {.stride = 1, .padding = 9})),
       pooled(Kind::max, {.kernel = 18, .padding = 9}), images(2)},
      {"max_pool2d_with_indices", VARIABLE(max_pool2d_with_indices(v[0], {1, 2}).values),
       pooled(Kind::max, {.kernel = {1, 2}, .stride = {1, 2}}), images(2)},
      {"max_pool1d", VARIABLE(max_pool1d(v[0], 3, {.stride = 2, .padding = 1})),
       pooled(Kind::max, {.kernel = {1, 3}, .stride = {1, 2}, .padding = {0, 1}}), sequences(1)},
      {"avg_pool2d", VARIABLE(avg_pool2d(v[0], 2)), pooled(Kind::mean, {.kernel = 2, .stride = 2}), images(2)},
      {"avg_pool2d: padded, ceil", VARIABLE(avg_pool2d(v[0], 3, {.stride = 2, .padding = 1, .ceil_mode = true})),
       pooled(Kind::mean, {.kernel = 3, .stride = 2, .padding = 1, .ceil_mode = true}), images(2)},
      {"avg_pool2d: padding left out",
       VARIABLE(avg_pool2d(v[0], {2, 3}, {.stride = 1, .padding = 1, .count_include_pad = false})),
       pooled(Kind::mean, {.kernel = {2, 3}, .padding = 1, .count_padding = false}), images(2)},
      {"avg_pool2d: divisor", VARIABLE(avg_pool2d(v[0], 2, {.stride = 1, .divisor_override = 7})),
       pooled(Kind::mean, {.kernel = 2, .divisor = 7}), images(2)},
      {"avg_pool1d", VARIABLE(avg_pool1d(v[0], 2, {.stride = 3, .padding = 1})),
       pooled(Kind::mean, {.kernel = {1, 2}, .stride = {1, 3}, .padding = {0, 1}}), sequences(1)},
      {"avg_pool1d: divisor", VARIABLE(avg_pool1d(v[0], 2, {.stride = 1, .divisor_override = 7})),
       pooled(Kind::mean, {.kernel = {1, 2}, .divisor = 7}), sequences(1)},
      {"adaptive_max_pool2d", VARIABLE(adaptive_max_pool2d(v[0], {3, 2})), adaptive(Kind::max, 3, 2), images(1)},
      {"adaptive_max_pool1d", VARIABLE(adaptive_max_pool1d(v[0], 4)), adaptive(Kind::max, 1, 4), sequences(1)},
      {"adaptive_avg_pool2d", VARIABLE(adaptive_avg_pool2d(v[0], {3, 2})), adaptive(Kind::mean, 3, 2), images(1)},
      {"adaptive_avg_pool2d: the whole image", VARIABLE(adaptive_avg_pool2d(v[0], 1)), adaptive(Kind::mean, 1, 1),
       images(1)},
      {"adaptive_avg_pool1d", VARIABLE(adaptive_avg_pool1d(v[0], 4)), adaptive(Kind::mean, 1, 4), sequences(1)},
  };
  return rows;
}

}  // namespace espalier::testing
