#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {

std::vector<OpCase> elementwise_cases() {
  const Domain positive{0.3, 3}, off_zero{-2, 2, 0.05};
  std::vector<OpCase> rows;
  // --- two operands
  rows.push_back(binary_case("add", VARIABLE(add(v[0], v[1])), [](double a, double b) { return a + b; }));
  rows.push_back(binary_case("sub", VARIABLE(sub(v[0], v[1])), [](double a, double b) { return a - b; }));
  rows.push_back(binary_case("mul", VARIABLE(mul(v[0], v[1])), [](double a, double b) { return a * b; }));
  rows.push_back(binary_case(
      "div", VARIABLE(div(v[0], v[1])), [](double a, double b) { return a / b; }, positive));
  rows.push_back(binary_case("maximum", VARIABLE(maximum(v[0], v[1])), [](double a, double b) {
    return std::isnan(a) || std::isnan(b) ? a + b : a > b ? a : b;
  }));
  rows.push_back(binary_case("minimum", VARIABLE(minimum(v[0], v[1])), [](double a, double b) {
    return std::isnan(a) || std::isnan(b) ? a + b : a < b ? a : b;
  }));
  // --- one operand
  rows.push_back(unary_case("affine", VARIABLE(affine(v[0], -1.5, 0.25)), [](double x) { return -1.5 * x + 0.25; }));
  rows.push_back(unary_case("affine: factor 1", VARIABLE(affine(v[0], 1, 3)), [](double x) { return x + 3; }));
  rows.push_back(unary_case("neg", VARIABLE(neg(v[0])), [](double x) { return -x; }));
  rows.push_back(unary_case(
      "abs", VARIABLE(abs(v[0])), [](double x) { return std::abs(x); }, off_zero));
  rows.push_back(unary_case("square", VARIABLE(square(v[0])), [](double x) { return x * x; }));
  rows.push_back(unary_case(
      "sqrt", VARIABLE(sqrt(v[0])), [](double x) { return std::sqrt(x); }, positive));
  rows.push_back(unary_case(
      "reciprocal", VARIABLE(reciprocal(v[0])), [](double x) { return 1 / x; }, positive));
  rows.push_back(unary_case(
      "pow", VARIABLE(pow(v[0], 2.5)), [](double x) { return std::pow(x, 2.5); }, positive));
  rows.push_back(unary_case("pow: cube", VARIABLE(pow(v[0], 3)), [](double x) { return std::pow(x, 3); }));
  rows.push_back(unary_case("pow: to 0", VARIABLE(pow(v[0], 0)), [](double x) { return std::pow(x, 0); }));
  rows.push_back(unary_case(
      "pow: negative", VARIABLE(pow(v[0], -2)), [](double x) { return std::pow(x, -2); }, positive));
  rows.push_back(unary_case("exp", VARIABLE(exp(v[0])), [](double x) { return std::exp(x); }));
  rows.push_back(unary_case(
      "log", VARIABLE(log(v[0])), [](double x) { return std::log(x); }, positive));
  rows.push_back(unary_case("tanh", VARIABLE(tanh(v[0])), [](double x) { return std::tanh(x); }));
  rows.push_back(unary_case("sigmoid", VARIABLE(sigmoid(v[0])), [](double x) { return 1 / (1 + std::exp(-x)); }));
  rows.push_back(unary_case(
      "relu", VARIABLE(relu(v[0])), [](double x) { return x < 0 ? 0 : x; }, off_zero));
  rows.push_back(unary_case(
      "leaky_relu", VARIABLE(leaky_relu(v[0], 0.1)), [](double x) { return x < 0 ? 0.1 * x : x; }, off_zero));
  rows.push_back(
      unary_case("softplus", VARIABLE(softplus(v[0])), [](double x) { return x > 20 ? x : std::log1p(std::exp(x)); }));
  rows.push_back(unary_case("softplus: beta, threshold within the draws", VARIABLE(softplus(v[0], 2, 1.5)),
                            [](double x) { return 2 * x > 1.5 ? x : std::log1p(std::exp(2 * x)) / 2; },
                            {-2, 2, 0.05, 0.75}));
  rows.push_back(unary_case("clamp", VARIABLE(clamp(v[0], -1, 1)), [](double x) { return x < -1  ? -1
                                                                                         : x > 1 ? 1
                                                                                                 : x; },
                            {-2, 2, 0.05, 1}));
  return rows;
}

}  // namespace espalier::testing
