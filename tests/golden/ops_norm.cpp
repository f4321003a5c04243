#include "espalier/autograd/ops/norm.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

double eps(const Call& call) { return call.args.number("eps"); }

/// (1 - momentum) running + momentum batch
Tensor moved(const Tensor& running, const Tensor& batch, double momentum) {
  return zip("moved", kernels::binary().blend, running, batch.to(running.dtype()), 1 - momentum, momentum);
}

std::vector<Variable> run_batch_norm(const Call& call) {
  const Variable &x = call[0], weight = call.named("weight"), bias = call.named("bias");
  const Tensor mean = call.named("running_mean").value(), variance = call.named("running_var").value();
  if (!call.args.flag("training"))
    return {batch_norm_inference(x, mean, variance, weight, bias, {.eps = eps(call)}), mean, variance};
  BatchStatistics batch;
  const Variable y = batch_norm(x, weight, bias, {.eps = eps(call)}, &batch);
  const double momentum = call.args.number("momentum"), n = static_cast<double>(batch.count);
  const Tensor unbiased = map("unbiased", kernels::unary().affine, batch.variance, n / (n - 1), 0);
  return {y, moved(mean, batch.mean, momentum), moved(variance, unbiased, momentum)};
}

}  // namespace

std::vector<Row> norm_rows() {
  return {
      {"batch_norm", differentiable(run_batch_norm)},
      {"layer_norm", of_call([](const Call& call) {
         return layer_norm(call[0], call.args.dims("normalized_shape"), call.named("weight"), call.named("bias"),
                           eps(call));
       })},
      {"group_norm", of_call([](const Call& call) {
         return group_norm(call[0], call.args.integer("num_groups"), call.named("weight"), call.named("bias"),
                           eps(call));
       })},
      {"instance_norm", of_call([](const Call& call) {
         return instance_norm(call[0], call.named("weight"), call.named("bias"), eps(call));
       })},
      {"rms_norm", of_call([](const Call& call) {
         return rms_norm(call[0], {call[0].shape()[-1]}, call.named("weight"), eps(call));
       })},
  };
}

}  // namespace espalier::golden
