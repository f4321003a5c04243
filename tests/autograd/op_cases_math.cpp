#include <cmath>
#include <limits>

#include "espalier/autograd/ops/math.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {

std::vector<OpCase> math_cases() {
  const Domain positive{0.3, 3}, between{-0.9, 0.9}, above_one{1.2, 3}, off_whole{-1.9, 1.9, 0.05, 1};
  std::vector<OpCase> rows;
  const auto unary = [&](const char* name, Variable (*op)(const Variable&), double (*f)(double), Domain domain = {}) {
    rows.push_back(unary_case(
        name, [op](std::span<const Variable> v) { return op(v[0]); }, f, domain));
  };
  // --- powers
  unary("square", square, [](double x) { return x * x; });
  unary("sqrt", sqrt, std::sqrt, positive);
  unary(
      "rsqrt", rsqrt, [](double x) { return 1 / std::sqrt(x); }, positive);
  unary(
      "reciprocal", reciprocal, [](double x) { return 1 / x; }, positive);
  rows.push_back(unary_case(
      "pow", VARIABLE(pow(v[0], 2.5)), [](double x) { return std::pow(x, 2.5); }, positive));
  rows.push_back(unary_case("pow: cube", VARIABLE(pow(v[0], 3)), [](double x) { return std::pow(x, 3); }));
  rows.push_back(unary_case("pow: to 0", VARIABLE(pow(v[0], 0)), [](double x) { return std::pow(x, 0); }));
  rows.push_back(unary_case(
      "pow: negative", VARIABLE(pow(v[0], -2)), [](double x) { return std::pow(x, -2); }, positive));
  rows.push_back(binary_case(
      "pow: two operands", VARIABLE(pow(v[0], v[1])), [](double a, double b) { return std::pow(a, b); }, positive));
  // --- exponentials and logarithms
  unary("exp", exp, std::exp);
  unary("expm1", expm1, std::expm1);
  unary("log", log, std::log, positive);
  unary("log1p", log1p, std::log1p, between);
  unary("log2", log2, std::log2, positive);
  unary("log10", log10, std::log10, positive);
  unary("erf", erf, std::erf);
  unary("erfc", erfc, std::erfc);
  rows.push_back(binary_case(
      "xlogy", VARIABLE(xlogy(v[0], v[1])),
      [](double a, double b) { return a == 0 && !std::isnan(b) ? 0 : a * std::log(b); }, positive));
  // --- circular and hyperbolic
  unary("sin", sin, std::sin);
  unary("cos", cos, std::cos);
  unary("tan", tan, std::tan, {-1.2, 1.2});
  unary("asin", asin, std::asin, between);
  unary("acos", acos, std::acos, between);
  unary("atan", atan, std::atan);
  rows.push_back(binary_case(
      "atan2", VARIABLE(atan2(v[0], v[1])), [](double a, double b) { return std::atan2(a, b); }, positive));
  unary("sinh", sinh, std::sinh);
  unary("cosh", cosh, std::cosh);
  unary("asinh", asinh, std::asinh);
  unary("acosh", acosh, std::acosh, above_one);
  unary("atanh", atanh, std::atanh, between);
  // --- steps
  unary("floor", floor, std::floor, off_whole);
  unary("ceil", ceil, std::ceil, off_whole);
  unary("round", round, std::nearbyint, {-1.9, 1.9, 0.05, 0.5});
  unary("trunc", trunc, std::trunc, off_whole);
  for (OpCase& row : rows)
    if (row.name == "round") row.domain = {-0.4, 0.4};
  return rows;
}

}  // namespace espalier::testing
