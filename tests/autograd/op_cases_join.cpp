#include "espalier/autograd/ops/join.h"

#include "espalier/autograd/ops/elementwise.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

/// Inputs [outer, n_k, inner] one behind the other.
Array joined(std::span<const Array> in) {
  const Index outer = in[0].shape[0], inner = in[0].shape[2];
  Index n = 0;
  for (const Array& x : in) n += x.shape[1];
  Array y({outer, n, inner});
  Index begin = 0;
  for (const Array& x : in) {
    for (Index i = 0; i < x.size(); ++i)
      y[(i / (x.shape[1] * inner) * n + begin) * inner + i % (x.shape[1] * inner)] = x[i];
    begin += x.shape[1];
  }
  return y;
}
/// Elements [begin, end) of the middle axis of [outer, n, inner].
Array middle(const Array& x, Index begin, Index end) {
  const Index n = x.shape[1], inner = x.shape[2], m = end - begin;
  Array y({x.shape[0], m, inner});
  for (Index i = 0; i < y.size(); ++i) y[i] = x[(i / (m * inner) * n + begin + i / inner % m) * inner + i % inner];
  return y;
}

std::vector<Shape> three_of_one_rank(Lengths& draw) {
  const Index outer = draw.length(), inner = draw.length();
  return {{outer, draw.length(), inner}, {outer, draw.length(), inner}, {outer, draw.length(), inner}};
}
std::vector<Shape> two_equal(Lengths& draw) {
  const Shape shape{draw.length(), draw.length()};
  return {shape, shape};
}
/// [outer, 7, inner]
std::vector<Shape> seven(Lengths& draw) { return {{draw.length(), 7, draw.length()}}; }

/// Pieces in another order, one of them twice, one not at all: gradients must find their places.
Variable shuffled(const std::vector<Variable>& pieces, int axis) {
  return cat({pieces[2], pieces[0], mul(pieces[2], pieces[2])}, axis);
}
Array shuffled(const Array& third, const Array& first) {
  Array square = third;
  for (double& v : square.values) v *= v;
  return joined(std::vector<Array>{third, first, square});
}

}  // namespace

std::vector<OpCase> join_cases() {
  return {
      {"cat", VARIABLE(cat(v, 1)), joined, three_of_one_rank},
      {"cat: one twice", VARIABLE(cat({v[0], v[1], v[0]}, -2)),
       [](std::span<const Array> in) {
         return joined(std::vector<Array>{in[0], in[1], in[0]});
       },
       [](Lengths& draw) {
         std::vector<Shape> shapes = three_of_one_rank(draw);
         shapes.pop_back();
         return shapes;
       }},
      {"stack", VARIABLE(stack(v, 1)),
       [](std::span<const Array> in) {
         std::vector<Array> apart(in.begin(), in.end());
         for (Array& x : apart) x.shape.insert(1, 1);
         return joined(apart);
       },
       two_equal},
      {"split", VARIABLE(shuffled(split(v[0], 3, 1), 1)),
       [](std::span<const Array> in) { return shuffled(middle(in[0], 6, 7), middle(in[0], 0, 3)); }, seven},
      {"split: sizes", VARIABLE(shuffled(split(v[0], std::vector<Index>{1, 4, 2}, -2), 1)),
       [](std::span<const Array> in) { return shuffled(middle(in[0], 5, 7), middle(in[0], 0, 1)); }, seven},
      {"chunk", VARIABLE(shuffled(chunk(v[0], 3, 1), 1)),
       [](std::span<const Array> in) { return shuffled(middle(in[0], 6, 7), middle(in[0], 0, 3)); }, seven},
      {"unbind", VARIABLE(shuffled(unbind(v[0], 1), 0)),
       [](std::span<const Array> in) {
         Array third = middle(in[0], 2, 3), first = middle(in[0], 0, 1);
         for (Array* x : {&third, &first}) x->shape = {1, x->shape[0], x->shape[2]};
         Array y = shuffled(third, first);
         y.shape = {3 * third.shape[1], third.shape[2]};
         return y;
       },
       seven},
  };
}

}  // namespace espalier::testing
