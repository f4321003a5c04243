#include "espalier/autograd/ops/embedding.h"
#include "espalier/autograd/ops/index.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

int axis_of(const Call& call) { return static_cast<int>(call.args.integer("dim")); }

Variable looked_up(const Call& call) {
  EmbeddingOptions options;
  if (call.args.has("padding_idx")) options.padding_idx = call.args.integer("padding_idx");
  return embedding(call[0].value(), call[1], options);
}

}  // namespace

std::vector<Row> index_rows() {
  return {
      {"gather", of_call([](const Call& c) { return gather(c[0], axis_of(c), c[1].value()); })},
      {"scatter", of_call([](const Call& c) { return scatter(c[0], axis_of(c), c[1].value(), c[2]); })},
      {"scatter_add", of_call([](const Call& c) { return scatter_add(c[0], axis_of(c), c[1].value(), c[2]); })},
      {"index_select", of_call([](const Call& c) { return index_select(c[0], axis_of(c), c[1].value()); })},
      {"index_add", of_call([](const Call& c) { return index_add(c[0], axis_of(c), c[1].value(), c[2]); })},
      {"masked_select", of_call([](const Call& c) { return masked_select(c[0], c[1].value()); })},
      {"one_hot",
       of_call([](const Call& c) { return Variable(one_hot(c[0].value(), c.args.integer("num_classes"))); })},
      {"embedding", of_call(looked_up)},
  };
}

}  // namespace espalier::golden
