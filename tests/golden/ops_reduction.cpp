#include "espalier/autograd/ops/reduce.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {

std::vector<Row> reduction_rows() {
  return {
      {"sum", reduction(sum)},
      {"mean", reduction(mean)},
      {"softmax", along_axis(softmax)},
      {"log_softmax", along_axis(log_softmax)},
  };
}

}  // namespace espalier::golden
