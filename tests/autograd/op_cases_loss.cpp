#include <algorithm>
#include <cmath>

#include "espalier/autograd/ops/loss.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

Index label_of(Index row, Index classes) { return (7 * row + 3) % classes; }

Tensor labels_for(const Shape& logits) {
  std::vector<Index> labels;
  for (Index r = 0; r < logits[0]; ++r) labels.push_back(label_of(r, logits[1]));
  return Tensor::from(labels, {logits[0]});
}

auto of_pairs(double (*f)(double, double)) {
  return [f](std::span<const Array> in) {
    Array y(in[0].shape);
    for (Index i = 0; i < y.size(); ++i) y[i] = f(in[0][i], in[1][i]);
    return y;
  };
}

constexpr double smoothing = 0.2;
double class_weight(Index c) { return 0.5 + 0.25 * static_cast<double>(c % 5); }
constexpr Index ignored = 1;

ClassOptions options_for(const Shape& logits, double smooth, DType type) {
  std::vector<double> weight;
  for (Index c = 0; c < logits[1]; ++c) weight.push_back(class_weight(c));
  return {Tensor::from(weight, {logits[1]}).to(type), ignored, smooth};
}

/// Weighted losses of labels; `logits` are made log-probabilities first.
auto of_classes(bool logits, double smooth) {
  return [logits, smooth](std::span<const Array> in) {
    const Index classes = in[0].shape[1];
    Array y({in[0].shape[0]});
    for (Index r = 0; r < y.size(); ++r) {
      const Index label = label_of(r, classes);
      if (label == ignored) continue;
      double sum = 0;
      for (Index c = 0; c < classes; ++c) sum += std::exp(in[0][r * classes + c]);
      for (Index c = 0; c < classes; ++c) {
        const double target = (c == label ? 1 - smooth : 0) + smooth / static_cast<double>(classes);
        y[r] -= target * class_weight(c) * (in[0][r * classes + c] - (logits ? std::log(sum) : 0));
      }
    }
    return y;
  };
}

std::vector<Shape> scores(Lengths& draw) { return {{draw.length(), draw.positive()}}; }

std::vector<Shape> twice_the_same(Lengths& draw) { return std::vector<Shape>(2, draw.any()); }

}  // namespace

std::vector<OpCase> loss_cases() {
  return {
      {"softmax_cross_entropy", VARIABLE(softmax_cross_entropy(v[0], labels_for(v[0].shape()))),
       [](std::span<const Array> in) {
         const Index classes = in[0].shape[1];
         Array y({in[0].shape[0]});
         for (Index r = 0; r < y.size(); ++r) {
           double sum = 0;
           for (Index c = 0; c < classes; ++c) sum += std::exp(in[0][r * classes + c]);
           y[r] = std::log(sum) - in[0][r * classes + label_of(r, classes)];
         }
         return y;
       },
       [](Lengths& draw) {
         return std::vector<Shape>{{draw.length(), draw.positive()}};
       }},
      {"softmax_cross_entropy: weights, smoothing, ignored rows",
       VARIABLE(
           softmax_cross_entropy(v[0], labels_for(v[0].shape()), options_for(v[0].shape(), smoothing, v[0].dtype()))),
       of_classes(true, smoothing), scores},
      {"nll", VARIABLE(nll(v[0], labels_for(v[0].shape()), options_for(v[0].shape(), 0, v[0].dtype()))),
       of_classes(false, 0), scores},
      {"huber",
       VARIABLE(huber(v[0], 0.75)),
       [](std::span<const Array> in) {
         Array y = in[0];
         for (double& d : y.values) d = std::abs(d) <= 0.75 ? d * d / 2 : 0.75 * (std::abs(d) - 0.375);
         return y;
       },
       [](Lengths& draw) { return std::vector<Shape>{draw.any()}; },
       {.apart = 0.01, .apart_from = 0.75}},
      {"sigmoid_cross_entropy: pos_weight",
       VARIABLE(sigmoid_cross_entropy(v[0], v[1], Tensor::full({}, 1.5, v[0].dtype()))),
       of_pairs([](double x, double t) {
         const double p = 1 / (1 + std::exp(-x));
         return -(1.5 * t * std::log(p) + (1 - t) * std::log(1 - p));
       }),
       twice_the_same},
      {"sigmoid_cross_entropy", VARIABLE(sigmoid_cross_entropy(v[0], v[1])), of_pairs([](double x, double t) {
         const double p = 1 / (1 + std::exp(-x));
         return -(t * std::log(p) + (1 - t) * std::log(1 - p));
       }),
       twice_the_same},
      {"probability_cross_entropy",
       VARIABLE(probability_cross_entropy(v[0], v[1])),
       of_pairs([](double p, double t) {
         return -(t * std::max(std::log(p), -100.) + (1 - t) * std::max(std::log(1 - p), -100.));
       }),
       twice_the_same,
       {0.1, 0.9}},
  };
}

}  // namespace espalier::testing
