#include <cmath>
#include <limits>

#include "espalier/autograd/ops/activation.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

double logistic(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
double soft_plus(double x) { return std::max(x, 0.) + std::log1p(std::exp(-std::abs(x))); }
double within(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/// The slopes of prelu: one, or one for each channel.
OpCase prelu_case(std::string name, bool channels, int least_rank) {
  OpCase row{std::move(name), VARIABLE(prelu(v[0], v[1])), {}, {}, {-2, 2, 0.05}};
  row.reference = [](std::span<const Array> in) {
    const Shape& shape = in[0].shape;
    Array y(shape);
    Index behind = 1;
    for (int axis = 2; axis < shape.rank(); ++axis) behind *= shape[axis];
    for (Index i = 0; i < y.size(); ++i) {
      const Index channel = in[1].size() == 1 ? 0 : i / behind % in[1].size();
      y[i] = in[0][i] > 0 ? in[0][i] : in[1][channel] * in[0][i];
    }
    return y;
  };
  row.shapes = [channels, least_rank](Lengths& draw) {
    const Shape x = draw.any(least_rank);
    return std::vector<Shape>{x, {channels ? x[x.rank() > 1 ? 1 : 0] : 1}};
  };
  return row;
}

OpCase glu_case(std::string name, int axis) {
  OpCase row{std::move(name), [axis](std::span<const Variable> v) { return glu(v[0], axis); }, {}, {}, {}};
  row.reference = [axis](std::span<const Array> in) {
    const int rank = in[0].shape.rank(), at = axis < 0 ? axis + rank : axis;
    Shape shape;
    for (int k = 0; k < rank; ++k) shape.push_back(in[0].shape[k] / (k == at ? 2 : 1));
    Array y(shape);
    Index run = shape[at];
    for (int k = at + 1; k < shape.rank(); ++k) run *= shape[k];
    for (Index i = 0; i < y.size(); ++i) {
      const Index first = i / run * 2 * run + i % run;
      y[i] = in[0][first] * logistic(in[0][first + run]);
    }
    return y;
  };
  row.shapes = [axis](Lengths& draw) {
    Shape x = draw.any(2);
    if (x.rank() == 0) x = {3, 4};
    x[axis] *= 2;
    return std::vector<Shape>{x};
  };
  return row;
}

}  // namespace

std::vector<OpCase> activation_cases() {
  const Domain off_zero{-2, 2, 0.05}, off_one{-2, 2, 0.05, 1}, off_half{-2, 2, 0.05, 0.5}, wide{-5, 5, 0.05, 3};
  std::vector<OpCase> rows;
  const auto unary = [&](const char* name, Variable (*op)(const Variable&), double (*f)(double), Domain domain = {}) {
    rows.push_back(unary_case(
        name, [op](std::span<const Variable> v) { return op(v[0]); }, f, domain));
  };
  // --- smooth
  unary("tanh", tanh, std::tanh);
  unary("sigmoid", sigmoid, logistic);
  unary("logsigmoid", logsigmoid, [](double x) { return -soft_plus(-x); });
  rows.push_back(unary_case("softplus", VARIABLE(softplus(v[0])), [](double x) { return x > 20 ? x : soft_plus(x); }));
  rows.push_back(unary_case("softplus: beta, threshold within the draws", VARIABLE(softplus(v[0], 2, 1.5)),
                            [](double x) { return 2 * x > 1.5 ? x : soft_plus(2 * x) / 2; }, {-2, 2, 0.05, 0.75}));
  unary(
      "softsign", softsign, [](double x) { return x / (1 + std::abs(x)); }, off_zero);
  unary("tanhshrink", tanhshrink, [](double x) { return x - std::tanh(x); });
  rows.push_back(
      unary_case("gelu", VARIABLE(gelu(v[0])), [](double x) { return x * std::erfc(-x / std::sqrt(2.)) / 2; }));
  rows.push_back(unary_case("gelu: tanh", VARIABLE(gelu(v[0], GeluForm::tanh)), [](double x) {
    return x * logistic(2 * std::sqrt(2 / std::acos(-1.)) * (x + 0.044715 * x * x * x));
  }));
  unary("silu", silu, [](double x) { return x * logistic(x); });
  unary("mish", mish, [](double x) { return x * std::tanh(soft_plus(x)); });
  // --- linear above zero
  unary(
      "relu", relu, [](double x) { return x < 0 ? 0 : x; }, off_zero);
  rows.push_back(unary_case(
      "leaky_relu", VARIABLE(leaky_relu(v[0], 0.1)), [](double x) { return x < 0 ? 0.1 * x : x; }, off_zero));
  rows.push_back(prelu_case("prelu", false, 0));
  rows.push_back(prelu_case("prelu: channels", true, 1));
  rows.push_back(unary_case(
      "elu", VARIABLE(elu(v[0], 1.5)), [](double x) { return x > 0 ? x : 1.5 * std::expm1(x); }, off_zero));
  rows.push_back(unary_case(
      "celu", VARIABLE(celu(v[0], 1.3)), [](double x) { return x > 0 ? x : 1.3 * std::expm1(x / 1.3); }, off_zero));
  unary(
      "selu", selu,
      [](double x) { return 1.0507009873554804934 * (x > 0 ? x : 1.6732632423543772848 * std::expm1(x)); }, off_zero);
  // --- of straight pieces
  rows.push_back(unary_case(
      "hardtanh", VARIABLE(hardtanh(v[0])), [](double x) { return within(x, -1, 1); }, off_one));
  unary("relu6", relu6, [](double x) { return within(x, 0, 6); }, {-8, 8, 0.05, 6});
  unary(
      "hardsigmoid", hardsigmoid, [](double x) { return within(x + 3, 0, 6) / 6; }, wide);
  unary(
      "hardswish", hardswish, [](double x) { return x * within(x + 3, 0, 6) / 6; }, wide);
  rows.push_back(unary_case(
      "hardshrink", VARIABLE(hardshrink(v[0])), [](double x) { return std::abs(x) <= 0.5 ? 0 : x; }, off_half));
  rows.push_back(unary_case(
      "softshrink", VARIABLE(softshrink(v[0])),
      [](double x) { return std::abs(x) <= 0.5 ? 0 : x - std::copysign(0.5, x); }, off_half));
  rows.push_back(unary_case(
      "threshold", VARIABLE(threshold(v[0], 0.5, -3)), [](double x) { return x <= 0.5 ? -3 : x; }, off_half));
  // --- gates
  rows.push_back(glu_case("glu", -1));
  rows.push_back(glu_case("glu: first axis", 0));
  return rows;
}

}  // namespace espalier::testing
