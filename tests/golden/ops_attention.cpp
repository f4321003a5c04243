#include "espalier/autograd/ops/attention.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {

std::vector<Row> attention_rows() {
  return {{"scaled_dot_product_attention", of_call([](const Call& call) {
             return scaled_dot_product_attention(call[0], call[1], call[2], call.named("attn_mask"),
                                                 {.causal = call.args.flag("is_causal")});
           })}};
}

}  // namespace espalier::golden
