#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {

namespace {

/// y = f(a, b, c) with broadcasting.
OpCase ternary_case(std::string name, std::function<Variable(std::span<const Variable>)> call,
                    std::function<double(double, double, double)> f, Domain domain = {}) {
  OpCase row{std::move(name), std::move(call), {}, {}, domain};
  row.reference = [f](std::span<const Array> in) {
    const Shape two = broadcast_shapes("reference", in[0].shape, in[1].shape);
    Array y(broadcast_shapes("reference", two, in[2].shape));
    const auto at = [&](int k, Index i) {
      return in[static_cast<std::size_t>(k)][broadcast_position(y.shape, i, in[static_cast<std::size_t>(k)].shape)];
    };
    for (Index i = 0; i < y.size(); ++i) y[i] = f(at(0, i), at(1, i), at(2, i));
    return y;
  };
  row.shapes = [](Lengths& draw) {
    const Shape whole = draw.any();
    std::vector<Shape> all{whole, whole, whole};
    for (Shape& shape : all)
      if (draw.below(2)) shape = draw.broadcasting_with(whole);
    return all;
  };
  row.special = true;
  return row;
}

}  // namespace

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
  rows.push_back(
      binary_case("add: alpha", VARIABLE(add(v[0], v[1], -1.5)), [](double a, double b) { return a - 1.5 * b; }));
  rows.push_back(
      binary_case("sub: alpha", VARIABLE(sub(v[0], v[1], 0.5)), [](double a, double b) { return a - 0.5 * b; }));
  rows.push_back(ternary_case("addcmul", VARIABLE(addcmul(v[0], v[1], v[2], -1.5)),
                              [](double x, double a, double b) { return x - 1.5 * a * b; }));
  rows.back().special = false;  // the product is not rounded, and so not infinite, where the sum is fused
  rows.push_back(ternary_case(
      "addcdiv", VARIABLE(addcdiv(v[0], v[1], v[2], 0.5)), [](double x, double a, double b) { return x + 0.5 * a / b; },
      positive));
  rows.push_back(ternary_case("lerp", VARIABLE(lerp(v[0], v[1], v[2])), [](double a, double b, double w) {
    return w < 0.5 ? a + w * (b - a) : b - (b - a) * (1 - w);
  }));
  rows.push_back(binary_case("lerp: a number", VARIABLE(lerp(v[0], v[1], 0.25)),
                             [](double a, double b) { return a + 0.25 * (b - a); }));
  // --- one operand
  rows.push_back(unary_case("affine", VARIABLE(affine(v[0], -1.5, 0.25)), [](double x) { return -1.5 * x + 0.25; }));
  rows.push_back(unary_case("affine: factor 1", VARIABLE(affine(v[0], 1, 3)), [](double x) { return x + 3; }));
  rows.push_back(unary_case("div: a number", VARIABLE(div(v[0], -3)), [](double x) { return x / -3; }));
  rows.push_back(unary_case("neg", VARIABLE(neg(v[0])), [](double x) { return -x; }));
  rows.push_back(unary_case(
      "abs", VARIABLE(abs(v[0])), [](double x) { return std::abs(x); }, off_zero));
  rows.push_back(unary_case(
      "sign", VARIABLE(sign(v[0])), [](double x) { return x > 0   ? 1.
                                                          : x < 0 ? -1.
                                                                  : 0.; }, off_zero));
  return rows;
}

}  // namespace espalier::testing
