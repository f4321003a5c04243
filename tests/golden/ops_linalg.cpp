#include "espalier/autograd/ops/linalg.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {

std::vector<Row> linalg_rows() {
  return {
      {"matmul", binary(matmul)},
      {"bmm", binary(bmm)},
      {"outer", binary(outer)},
      {"addmm",
       of_call([](const Call& c) { return addmm(c[0], c[1], c[2], c.args.number("beta"), c.args.number("alpha")); })},
      {"linear", of_call([](const Call& call) { return linear(call[0], call[1], call.named("bias")); })},
  };
}

}  // namespace espalier::golden
