#include "espalier/autograd/ops/einsum.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {

std::vector<Row> einsum_rows() {
  return {{"einsum", of_call([](const Call& call) {
             std::vector<Variable> operands;
             for (std::size_t k = 0; k < call.size(); ++k) operands.push_back(call[k]);
             return einsum(call.args.text("equation"), operands);
           })}};
}

}  // namespace espalier::golden
