#include "espalier/autograd/ops/linalg.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {

std::vector<Row> linalg_rows() {
  return {
      {"matmul", binary(matmul)},
      {"bmm", binary(matmul)},
      {"linear", of_call([](const Call& call) { return linear(call[0], call[1], call.named("bias")); })},
  };
}

}  // namespace espalier::golden
