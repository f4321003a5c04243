#include "tests/autograd/op_cases.h"

#include <algorithm>

namespace espalier::testing {

Index broadcast_position(const Shape& shape, Index i, const Shape& from) {
  Index position = 0, run = 1;
  for (int axis = shape.rank(), own = from.rank(); own-- > 0;) {
    --axis;
    if (from[own] != 1) position += i % shape[axis] * run;
    run *= from[own];
    i /= shape[axis];
  }
  return position;
}

OpCase binary_case(std::string name, std::function<Variable(std::span<const Variable>)> call,
                   std::function<double(double, double)> f, Domain domain) {
  OpCase row{std::move(name), std::move(call), {}, {}, domain};
  row.reference = [f](std::span<const Array> in) {
    Array y(broadcast_shapes("reference", in[0].shape, in[1].shape));
    for (Index i = 0; i < y.size(); ++i)
      y[i] = f(in[0][broadcast_position(y.shape, i, in[0].shape)], in[1][broadcast_position(y.shape, i, in[1].shape)]);
    return y;
  };
  row.shapes = [](Lengths& draw) {
    const Shape whole = draw.any();
    std::vector<Shape> both{whole, draw.below(3) == 0 ? whole : draw.broadcasting_with(whole)};
    if (draw.below(2)) std::swap(both[0], both[1]);
    return both;
  };
  row.special = true;
  return row;
}

const std::vector<OpCase>& op_cases() {
  static const std::vector<OpCase> all = [] {
    std::vector<OpCase> rows;
    for (auto family : {elementwise_cases, reduce_cases,  shape_cases,     linalg_cases,   loss_cases, math_cases,
                        activation_cases,  compare_cases, scan_cases,      sort_cases,     join_cases, index_cases,
                        embedding_cases,   einsum_cases,  dropout_cases,   conv_cases,     pool_cases, patches_cases,
                        interpolate_cases, norm_cases,    attention_cases, recurrent_cases}) {
      std::vector<OpCase> own = family();
      rows.insert(rows.end(), std::make_move_iterator(own.begin()), std::make_move_iterator(own.end()));
    }
    return rows;
  }();
  return all;
}

}  // namespace espalier::testing
