#include "espalier/autograd/ops/shape.h"

#include <algorithm>
#include <array>

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
/// [R, C] and [R, 5, T]; the middle one at least four long.
std::vector<Shape> two_axes(Lengths& draw) { return {{draw.length(), draw.length()}}; }
std::vector<Shape> middle_five(Lengths& draw) { return {{draw.length(), 5, draw.length()}}; }

/// y[i, j, k] = x at from(shape of x, i, j, k), 0 where its first position is negative; of three axes.
using Three = std::array<Index, 3>;
template <class To, class From>
auto placed(To shape, From from) {
  return [=](std::span<const Array> in) {
    const Shape& s = in[0].shape;
    Array y(shape(s));
    Index n = 0;
    for (Index i = 0; i < y.shape[0]; ++i)
      for (Index j = 0; j < y.shape[1]; ++j)
        for (Index k = 0; k < y.shape[2]; ++k) {
          const Three at = from(s, Three{i, j, k});
          y[n++] = at[0] < 0 ? 0 : in[0][(at[0] * s[1] + at[1]) * s[2] + at[2]];
        }
    return y;
  };
}
constexpr auto same = [](const Shape& s) { return s; };
constexpr Three none{-1, 0, 0};

/// Padding of the two last axes by {1, 2, 3, -1}, then by `inside` of each position.
template <class Inside>
auto padded_by(Inside inside) {
  return placed(
      [](const Shape& s) {
        return Shape{s[0], s[1] + 2, s[2] + 3};
      },
      [=](const Shape& s, Three at) {
        const Index j = inside(at[1] - 3, s[1]), k = inside(at[2] - 1, s[2]);
        return j < 0 || k < 0 ? none : Three{at[0], j, k};
      });
}
std::vector<Shape> paddable(Lengths& draw) { return {{draw.length(), 3 + draw.positive(), 2 + draw.positive()}}; }

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
      {"movedim", VARIABLE(movedim(v[0], {0}, {-1})), permuted({1, 2, 0}), three_axes},
      {"squeeze", VARIABLE(squeeze(v[0], 1)), in_shape([](const Shape& s) {
         return Shape{s[0], s[2]};
       }),
       [](Lengths& draw) {
         return std::vector<Shape>{{draw.length(), 1, draw.length()}};
       }},
      {"squeeze: all", VARIABLE(squeeze(v[0])), in_shape([](const Shape& s) {
         Shape shape;
         for (const Index n : s)
           if (n != 1) shape.push_back(n);
         return shape;
       }),
       three_axes},
      {"unsqueeze", VARIABLE(unsqueeze(v[0], -1)), in_shape([](const Shape& s) {
         return Shape{s[0], s[1], s[2], 1};
       }),
       three_axes},
      {"slice", VARIABLE(slice(v[0], 1, 1, -1, 2)),
       placed(
           [](const Shape& s) {
             return Shape{s[0], 2, s[2]};
           },
           [](const Shape&, Three at) {
             return Three{at[0], 1 + 2 * at[1], at[2]};
           }),
       middle_five},
      {"narrow", VARIABLE(narrow(v[0], -2, 1, 3)),
       placed(
           [](const Shape& s) {
             return Shape{s[0], 3, s[2]};
           },
           [](const Shape&, Three at) {
             return Three{at[0], at[1] + 1, at[2]};
           }),
       middle_five},
      {"select", VARIABLE(select(v[0], 1, -2)),
       [](std::span<const Array> in) {
         Array y({in[0].shape[0], in[0].shape[2]});
         for (Index i = 0; i < y.size(); ++i) y[i] = in[0][(i / y.shape[1] * 5 + 3) * y.shape[1] + i % y.shape[1]];
         return y;
       },
       middle_five},
      {"diagonal", VARIABLE(diagonal(v[0], 1, 0, 2)),
       [](std::span<const Array> in) {
         const Shape& s = in[0].shape;
         Array y({s[1], std::max<Index>(0, std::min(s[0], s[2] - 1))});
         for (Index i = 0; i < y.size(); ++i) {
           const Index d = i % y.shape[1];
           y[i] = in[0][(d * s[1] + i / y.shape[1]) * s[2] + d + 1];
         }
         return y;
       },
       three_axes},
      {"expand", VARIABLE(expand(v[0], {2, -1, 4})),
       [](std::span<const Array> in) {
         Array y({2, in[0].shape[0], 4});
         for (Index i = 0; i < y.size(); ++i) y[i] = in[0][i / 4 % in[0].shape[0]];
         return y;
       },
       [](Lengths& draw) {
         return std::vector<Shape>{{draw.length(), 1}};
       }},
      {"tril", VARIABLE(tril(v[0], -1)),
       placed(same, [](const Shape&, Three at) { return at[2] - at[1] <= -1 ? at : none; }), three_axes},
      {"triu", VARIABLE(triu(v[0], 1)),
       placed(same, [](const Shape&, Three at) { return at[2] - at[1] >= 1 ? at : none; }), three_axes},
      {"flip", VARIABLE(flip(v[0], {0, -1})),
       placed(same,
              [](const Shape& s, Three at) {
                return Three{s[0] - 1 - at[0], at[1], s[2] - 1 - at[2]};
              }),
       three_axes},
      {"roll", VARIABLE(roll(v[0], {-2, 7}, {1, 2})),
       placed(same,
              [](const Shape& s, Three at) {
                return Three{at[0], (at[1] + 2) % s[1], (at[2] + 7 * s[2] - 7) % s[2]};
              }),
       three_axes},
      {"roll: flat", VARIABLE(roll(v[0], {3})),
       [](std::span<const Array> in) {
         Array y = in[0];
         for (Index i = 0; i < y.size(); ++i) y[(i + 3) % y.size()] = in[0][i];
         return y;
       },
       two_axes},
      {"repeat", VARIABLE(repeat(v[0], {2, 1, 3})),
       [](std::span<const Array> in) {
         const Index rows = in[0].shape[0], cols = in[0].shape[1];
         Array y({2, rows, 3 * cols});
         for (Index i = 0; i < y.size(); ++i) y[i] = in[0][i / (3 * cols) % rows * cols + i % cols];
         return y;
       },
       two_axes},
      {"repeat_interleave", VARIABLE(repeat_interleave(v[0], 3, 1)),
       placed(
           [](const Shape& s) {
             return Shape{s[0], 3 * s[1], s[2]};
           },
           [](const Shape&, Three at) {
             return Three{at[0], at[1] / 3, at[2]};
           }),
       three_axes},
      {"repeat_interleave: numbers", VARIABLE(repeat_interleave(v[0], std::vector<Index>{2, 0, 1, 3, 1}, 1)),
       placed(
           [](const Shape& s) {
             return Shape{s[0], 7, s[2]};
           },
           [](const Shape&, Three at) {
             constexpr Index from[] = {0, 0, 2, 3, 3, 3, 4};
             return Three{at[0], from[at[1]], at[2]};
           }),
       middle_five},
      {"pad", VARIABLE(pad(v[0], {1, 2, 3, -1})), padded_by([](Index j, Index n) { return j >= 0 && j < n ? j : -1; }),
       paddable},
      {"pad: reflect", VARIABLE(pad(v[0], {1, 2, 3, -1}, PadMode::reflect)),
       padded_by([](Index j, Index n) { return j < 0   ? -j
                                               : j < n ? j
                                                       : 2 * n - 2 - j; }), paddable},
      {"pad: replicate", VARIABLE(pad(v[0], {1, 2, 3, -1}, PadMode::replicate)),
       padded_by([](Index j, Index n) { return std::clamp<Index>(j, 0, n - 1); }), paddable},
      {"pad: circular", VARIABLE(pad(v[0], {2, 1}, PadMode::circular)),
       placed(
           [](const Shape& s) {
             return Shape{s[0], s[1], s[2] + 3};
           },
           [](const Shape& s, Three at) {
             return Three{at[0], at[1], (at[2] - 2 + s[2]) % s[2]};
           }),
       paddable},
  };
}

}  // namespace espalier::testing
