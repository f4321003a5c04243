#include "espalier/autograd/ops/embedding.h"
#include "tests/autograd/op_cases.h"

namespace espalier::testing {
namespace {

constexpr Index places = 11;
Index row_of(Index i, Index rows) { return (5 * i + i / 2) % rows; }

Tensor words(Index rows) {
  std::vector<Index> list;
  for (Index i = 0; i < places; ++i) list.push_back(row_of(i, rows));
  return Tensor::from(list, {1, places});
}

Array looked_up(std::span<const Array> in) {
  const Index rows = in[0].shape[0], n = in[0].shape[1];
  Array y({1, places, n});
  for (Index i = 0; i < y.size(); ++i) y[i] = in[0][row_of(i / n, rows) * n + i % n];
  return y;
}

std::vector<Shape> table(Lengths& draw) { return {{draw.positive(), draw.length()}}; }

}  // namespace

std::vector<OpCase> embedding_cases() {
  return {
      {"embedding", VARIABLE(embedding(words(v[0].dim(0)), v[0])), looked_up, table},
      {"embedding: row-sparse where it can be", VARIABLE(embedding(words(v[0].dim(0)), v[0], {.sparse = true})),
       looked_up, table},
  };
}

}  // namespace espalier::testing
