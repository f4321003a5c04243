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
