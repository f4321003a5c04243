#include <cmath>
#include <map>

#include "espalier/autograd/ops/norm.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

constexpr double eps = 0.1;  // small ones make differences of nearly equal values steep, and gradients uncheckable

using Place = std::function<Index(const Shape&, Index)>;

/// The plain loop: elements i of one group(i) are normalised together, and weight(i) is their place in the weight.
Array normalised(std::span<const Array> in, const Place& group, const Place& weight, bool centered = true,
                 bool relu = false) {
  const Array& x = in[0];
  std::map<Index, double> count, mean, variance;
  for (Index i = 0; i < x.size(); ++i) count[group(x.shape, i)] += 1;
  if (centered)
    for (Index i = 0; i < x.size(); ++i) mean[group(x.shape, i)] += x[i] / count[group(x.shape, i)];
  for (Index i = 0; i < x.size(); ++i) {
    const Index k = group(x.shape, i);
    variance[k] += (x[i] - mean[k]) * (x[i] - mean[k]) / count[k];
  }
  Array y(x.shape);
  for (Index i = 0; i < x.size(); ++i) {
    const Index k = group(x.shape, i), w = weight(x.shape, i);
    y[i] = (x[i] - mean[k]) / std::sqrt(variance[k] + eps);
    if (in.size() > 1) y[i] *= in[1][w];
    if (in.size() > 2) y[i] += in[2][w];
    if (relu && y[i] < 0) y[i] = 0;
  }
  return y;
}

/// x [N, C, ...]
Index length(const Shape& s) {
  Index n = 1;
  for (int axis = 2; axis < s.rank(); ++axis) n *= s[axis];
  return n;
}
Index channel(const Shape& s, Index i) { return i / length(s) % s[1]; }
Index instance(const Shape& s, Index i) { return i / length(s); }
Index row(const Shape& s, Index i) { return i / s[-1]; }
Index column(const Shape& s, Index i) { return i % s[-1]; }

auto by(Place group, Place weight, bool centered = true, bool relu = false) {
  return [=](std::span<const Array> in) { return normalised(in, group, weight, centered, relu); };
}

/// x [R, C], weight and bias [C], of which `more` are asked for.
auto rows(int more) {
  return [more](Lengths& draw) {
    const Index n = draw.positive();
    std::vector<Shape> shapes{{draw.length(), n}};
    for (int k = 0; k < more; ++k) shapes.push_back({n});
    return shapes;
  };
}
/// x [N, factor C, T ...] of this rank, weight and bias [factor C], of which `more` are asked for. At least two of
/// each channel.
auto channels(int rank, int more, Index factor = 1) {
  return [=](Lengths& draw) {
    Shape x{draw.positive() + 1, factor * draw.positive()};
    for (int axis = 2; axis < rank; ++axis) x.push_back(axis == 2 ? draw.length() : 2);
    std::vector<Shape> shapes{x};
    for (int k = 0; k < more; ++k) shapes.push_back({x[1]});
    return shapes;
  };
}

const Tensor& constant(Index n, double step) {
  static std::map<std::pair<Index, double>, Tensor> known;
  Tensor& t = known[{n, step}];
  if (!t.defined()) {
    std::vector<double> values;
    for (Index i = 0; i < n; ++i) values.push_back(0.5 + step * static_cast<double>(i % 7));
    t = Tensor::from(values, {n});
  }
  return t;
}
Array inference_reference(std::span<const Array> in) {
  const Array& x = in[0];
  Array y(x.shape);
  for (Index i = 0; i < x.size(); ++i) {
    const Index c = channel(x.shape, i);
    const double mean = 0.5 + 0.1 * static_cast<double>(c % 7), variance = 0.5 + 0.2 * static_cast<double>(c % 7);
    y[i] = (x[i] - mean) / std::sqrt(variance + eps) * in[1][c] + in[2][c];
  }
  return y;
}
Variable inference(std::span<const Variable> v) {
  const Index c = v[0].shape()[1];
  return batch_norm_inference(v[0], constant(c, 0.1), constant(c, 0.2), v[1], v[2], {.eps = eps});
}

}  // namespace

std::vector<OpCase> norm_cases() {
  std::vector<OpCase> all = {
      {"layer_norm", VARIABLE(layer_norm(v[0], {v[0].shape()[-1]}, v[1], v[2], eps)), by(row, column), rows(2)},
      {"layer_norm: without bias", VARIABLE(layer_norm(v[0], {v[0].shape()[-1]}, v[1], {}, eps)), by(row, column),
       rows(1)},
      {"layer_norm: plain", VARIABLE(layer_norm(v[0], {v[0].shape()[-1]}, {}, {}, eps)), by(row, column), rows(0)},
      {"layer_norm: two axes", VARIABLE(layer_norm(v[0], {v[0].shape()[1], v[0].shape()[2]}, v[1], v[2], eps)),
       by([](const Shape& s, Index i) { return i / (s[1] * s[2]); },
          [](const Shape& s, Index i) { return i % (s[1] * s[2]); }),
       [](Lengths& draw) {
         const Index a = draw.positive(), b = draw.positive();
         return std::vector<Shape>{{draw.length(), a, b}, {a, b}, {a, b}};
       }},
      {"rms_norm", VARIABLE(rms_norm(v[0], {v[0].shape()[-1]}, v[1], eps)), by(row, column, false), rows(1)},
      {"rms_norm: plain", VARIABLE(rms_norm(v[0], {v[0].shape()[-1]}, {}, eps)), by(row, column, false), rows(0)},
      {"group_norm", VARIABLE(group_norm(v[0], v[0].shape()[1] / 2, v[1], v[2], eps)),
       by([](const Shape& s, Index i) { return i / (2 * length(s)); }, channel), channels(4, 2, 2)},
      {"group_norm: plain, two axes", VARIABLE(group_norm(v[0], 1, {}, {}, eps)),
       by([](const Shape& s, Index i) { return i / s[1]; }, channel), channels(2, 0)},
      {"instance_norm", VARIABLE(instance_norm(v[0], v[1], v[2], eps)), by(instance, channel), channels(4, 2)},
      {"batch_norm", VARIABLE(batch_norm(v[0], v[1], v[2], {.eps = eps})), by(channel, channel), channels(4, 2)},
      {"batch_norm: two axes", VARIABLE(batch_norm(v[0], v[1], v[2], {.eps = eps})), by(channel, channel),
       channels(2, 2)},
      {"batch_norm: planes of one element", VARIABLE(batch_norm(v[0], v[1], v[2], {.eps = eps, .relu = true})),
       by(channel, channel, true, true),
       [](Lengths& draw) {
         const Index c = draw.length();
         return std::vector<Shape>{{draw.positive() + 1, c, 1, 1}, {c}, {c}};
       }},
      {"batch_norm: plain", VARIABLE(batch_norm(v[0], {}, {}, {.eps = eps})), by(channel, channel), channels(3, 0)},
      {"batch_norm: with relu", VARIABLE(batch_norm(v[0], v[1], v[2], {.eps = eps, .relu = true})),
       by(channel, channel, true, true), channels(4, 2)},
      {"batch_norm: few channels", VARIABLE(batch_norm(v[0], v[1], v[2], {.eps = eps})), by(channel, channel),
       [](Lengths& draw) {
         const Index images = draw.positive() + 1;
         return std::vector<Shape>{{images, 2, draw.length(), images}, {2}, {2}};
       }},
      {"batch_norm_inference", inference, inference_reference, channels(4, 2)},
      {"batch_norm_inference: two axes", inference, inference_reference, channels(2, 2)},
  };
  for (OpCase& row : all) row.f32_error = 8e-6;  // 1 / deviation, relative to the largest gradient
  return all;
}

}  // namespace espalier::testing
