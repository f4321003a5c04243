#include "espalier/autograd/ops/scan.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// Every line along `axis` of three axes, as line(x, y, n, stride).
template <class Line>
auto lines(int axis, Line line) {
  return [=](std::span<const Array> in) {
    Array y(in[0].shape);
    Index stride = 1;
    for (int a = axis + 1; a < y.shape.rank(); ++a) stride *= y.shape[a];
    const Index n = y.shape[axis];
    for (Index i = 0; i < y.size(); ++i)
      if (i / stride % n == 0) line(in, y, i, n, stride);
    return y;
  };
}
using In = std::span<const Array>;

template <class Step>
auto running(Step step) {
  return [=](In in, Array& y, Index first, Index n, Index stride) {
    double state = in[0][first];
    y[first] = state;
    for (Index k = 1; k < n; ++k) y[first + k * stride] = state = step(state, in[0][first + k * stride]);
  };
}
auto recurrence(bool reverse) {
  return [=](In in, Array& y, Index first, Index n, Index stride) {
    double state = 0;
    for (Index k = 0; k < n; ++k) {
      const Index at = first + (reverse ? n - 1 - k : k) * stride;
      y[at] = state = in[0][at] * state + in[1][at];
    }
  };
}

std::vector<Shape> three_axes(Lengths& draw) { return {{draw.length(), draw.length(), draw.length()}}; }
std::vector<Shape> twice_three_axes(Lengths& draw) {
  const Shape shape = three_axes(draw)[0];
  return {shape, shape};
}
constexpr auto plus = [](double a, double b) { return a + b; };
constexpr auto times = [](double a, double b) { return a * b; };

}  // namespace

std::vector<OpCase> scan_cases() {
  const Domain near_one{-1.1, 1.1};
  return {
      {"cumsum", VARIABLE(cumsum(v[0], -1)), lines(2, running(plus)), three_axes},
      {"cumsum: first axis", VARIABLE(cumsum(v[0], 0)), lines(0, running(plus)), three_axes},
      {"cumprod", VARIABLE(cumprod(v[0], -1)), lines(2, running(times)), three_axes, near_one},
      {"cumprod: middle axis", VARIABLE(cumprod(v[0], 1)), lines(1, running(times)), three_axes, near_one},
      {"cummax", VARIABLE(cummax(v[0], -1).values),
       lines(2, running([](double a, double b) { return std::max(a, b); })), three_axes},
      {"cummin", VARIABLE(cummin(v[0], 0).values), lines(0, running([](double a, double b) { return std::min(a, b); })),
       three_axes},
      {"linear_scan", VARIABLE(linear_scan(v[0], v[1], -1)), lines(2, recurrence(false)), twice_three_axes, near_one},
      {"linear_scan: middle axis, reversed", VARIABLE(linear_scan(v[0], v[1], 1, true)), lines(1, recurrence(true)),
       twice_three_axes, near_one},
  };
}

}  // namespace espalier::testing
