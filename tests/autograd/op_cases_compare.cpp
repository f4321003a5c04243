#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// A condition of the broadcast shape of both operands: true at every third element.
Tensor every_third(const Shape& shape) {
  Tensor c = Tensor::empty(shape, DType::boolean);
  bool* p = c.write<bool>("every_third");
  for (Index i = 0; i < c.size(); ++i) p[i] = i % 3 == 0;
  return c;
}
Variable chosen(const Variable& a, const Variable& b) {
  return where(every_third(broadcast_shapes("test", a.shape(), b.shape())), a, b);
}

Array chosen_reference(std::span<const Array> in) {
  Array y(broadcast_shapes("reference", in[0].shape, in[1].shape));
  for (Index i = 0; i < y.size(); ++i) {
    const Array& from = in[i % 3 == 0 ? 0 : 1];
    y[i] = from[broadcast_position(y.shape, i, from.shape)];
  }
  return y;
}

double within(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

}  // namespace

std::vector<OpCase> compare_cases() {
  std::vector<OpCase> rows;
  OpCase row = binary_case("where", VARIABLE(chosen(v[0], v[1])), {});
  row.reference = chosen_reference;
  rows.push_back(row);
  row =
      unary_case("masked_fill", VARIABLE(masked_fill(v[0], every_third(v[0].shape()), -7)), [](double x) { return x; });
  row.reference = [](std::span<const Array> in) {
    Array y(in[0].shape);
    for (Index i = 0; i < y.size(); ++i) y[i] = i % 3 == 0 ? -7 : in[0][i];
    return y;
  };
  rows.push_back(row);
  rows.push_back(
      unary_case("clamp", VARIABLE(clamp(v[0], -1, 1)), [](double x) { return within(x, -1, 1); }, {-2, 2, 0.05, 1}));
  rows.push_back(unary_case("clamp: bounds out of order", VARIABLE(clamp(v[0], 1, -1)),
                            [](double x) { return std::isnan(x) ? x : -1; }));
  rows.push_back(binary_case("clamp: a lower bound", VARIABLE(clamp(v[0], v[1], Variable())), [](double x, double low) {
    return std::isnan(x) || std::isnan(low) ? x + low : x < low ? low : x;
  }));
  rows.push_back(binary_case("clamp: both bounds", VARIABLE(clamp(v[0], v[1], v[1] + 1)), [](double x, double low) {
    return std::isnan(x) || std::isnan(low) ? x + low : within(x, low, low + 1);
  }));
  return rows;
}

}  // namespace espalier::testing
