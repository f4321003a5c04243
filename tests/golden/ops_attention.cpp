#include "espalier/autograd/ops/attention.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/nn/attention.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

std::vector<Variable> run_multi_head_attention(const Call& call) {
  const AttentionResult result = nn::multi_head_attention(
      call.named("query"), call.named("key"), call.named("value"), call.named("in_proj_weight"),
      call.named("in_proj_bias"), call.args.integer("num_heads"),
      {.key_padding_mask = call.named("key_padding_mask").value(), .causal = call.args.flag("is_causal")}, true);
  return {linear(result.output, call.named("out_proj.weight"), call.named("out_proj.bias")), result.weights};
}

}  // namespace

std::vector<Row> attention_rows() {
  return {{"scaled_dot_product_attention", of_call([](const Call& call) {
             return scaled_dot_product_attention(call[0], call[1], call[2], call.named("attn_mask"),
                                                 {.causal = call.args.flag("is_causal")});
           })},
          {"multi_head_attention", differentiable(run_multi_head_attention)}};
}

}  // namespace espalier::golden
