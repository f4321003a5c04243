// Single ops, forward, and with the gradients of all their inputs: what a model is made of besides its large products.
#include <memory>

#include "bench/workloads.h"
#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/compare.h"
#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/einsum.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/embedding.h"
#include "espalier/autograd/ops/index.h"
#include "espalier/autograd/ops/interpolate.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/loss.h"
#include "espalier/autograd/ops/math.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/autograd/ops/patches.h"
#include "espalier/autograd/ops/pool.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/scan.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/autograd/ops/sort.h"
#include "espalier/core/compare.h"
#include "espalier/core/rng.h"

namespace espalier::bench {
namespace {

using Inputs = std::vector<Variable>;

struct Op {
  std::string name;
  std::vector<Shape> inputs;
  std::function<Variable(const Inputs&)> f;
  bool positive = false;  ///< inputs above 0
};

/// What ops take besides their inputs.
struct Drawn {
  Drawn() {
    Rng rng(2);
    const auto below = [&](const Shape& shape, Index n) {
      std::vector<std::int64_t> values;
      for (Index i = 0; i < count(shape); ++i) values.push_back(rng.below(n));
      return Tensor::from(values, shape);
    };
    mask = lt(randn(rng, {256, 1024}), 0);
    rows = below({4096}, 5000);
    columns = below({256, 1024}, 1024);
    labels = below({512}, 1000);
  }
  Tensor mask, rows, columns, labels;
};

std::vector<Op> ops() {
  const auto d = std::make_shared<Drawn>();
  const Shape matrix{256, 1024}, images{16, 32, 56, 56};
  return {
      {"add", {matrix, matrix}, [](const Inputs& x) { return x[0] + x[1]; }},
      {"add_row", {matrix, {1024}}, [](const Inputs& x) { return x[0] + x[1]; }},
      {"add_column", {matrix, {256, 1}}, [](const Inputs& x) { return x[0] + x[1]; }},
      {"mul", {matrix, matrix}, [](const Inputs& x) { return x[0] * x[1]; }},
      {"mul_column", {matrix, {256, 1}}, [](const Inputs& x) { return x[0] * x[1]; }},
      {"mul_channels", {images, {32, 1, 1}}, [](const Inputs& x) { return x[0] * x[1]; }},
      {"div", {matrix, matrix}, [](const Inputs& x) { return x[0] / x[1]; }, true},
      {"sub_transposed", {matrix, {1024, 256}}, [](const Inputs& x) { return x[0] - transpose(x[1], 0, 1); }},
      {"exp", {matrix}, [](const Inputs& x) { return exp(x[0]); }},
      {"log", {matrix}, [](const Inputs& x) { return log(x[0]); }, true},
      {"sqrt", {matrix}, [](const Inputs& x) { return sqrt(x[0]); }, true},
      {"pow_3", {matrix}, [](const Inputs& x) { return pow(x[0], 3); }},
      {"pow_2.5", {matrix}, [](const Inputs& x) { return pow(x[0], 2.5); }, true},
      {"pow", {matrix, matrix}, [](const Inputs& x) { return pow(x[0], x[1]); }, true},
      {"sin", {matrix}, [](const Inputs& x) { return sin(x[0]); }},
      {"tan", {matrix}, [](const Inputs& x) { return tan(x[0]); }},
      {"atan", {matrix}, [](const Inputs& x) { return atan(x[0]); }},
      {"atan2", {matrix, matrix}, [](const Inputs& x) { return atan2(x[0], x[1]); }},
      {"asinh", {matrix}, [](const Inputs& x) { return asinh(x[0]); }},
      {"log1p", {matrix}, [](const Inputs& x) { return log1p(x[0]); }, true},
      {"expm1", {matrix}, [](const Inputs& x) { return expm1(x[0]); }},
      {"erf", {matrix}, [](const Inputs& x) { return erf(x[0]); }},
      {"tanh", {matrix}, [](const Inputs& x) { return tanh(x[0]); }},
      {"sigmoid", {matrix}, [](const Inputs& x) { return sigmoid(x[0]); }},
      {"gelu", {matrix}, [](const Inputs& x) { return gelu(x[0]); }},
      {"silu", {matrix}, [](const Inputs& x) { return silu(x[0]); }},
      {"mish", {matrix}, [](const Inputs& x) { return mish(x[0]); }},
      {"softplus", {matrix}, [](const Inputs& x) { return softplus(x[0]); }},
      {"elu", {matrix}, [](const Inputs& x) { return elu(x[0]); }},
      {"relu", {matrix}, [](const Inputs& x) { return relu(x[0]); }},
      {"leaky_relu", {matrix}, [](const Inputs& x) { return leaky_relu(x[0]); }},
      {"prelu", {images, {32}}, [](const Inputs& x) { return prelu(x[0], x[1]); }},
      {"hardswish", {matrix}, [](const Inputs& x) { return hardswish(x[0]); }},
      {"clamp", {matrix}, [](const Inputs& x) { return clamp(x[0], -1, 1); }},
      {"abs", {matrix}, [](const Inputs& x) { return abs(x[0]); }},
      {"maximum", {matrix, matrix}, [](const Inputs& x) { return maximum(x[0], x[1]); }},
      {"where", {matrix, matrix}, [d](const Inputs& x) { return where(d->mask, x[0], x[1]); }},
      {"masked_fill", {matrix}, [d](const Inputs& x) { return masked_fill(x[0], d->mask, 0.5); }},
      {"lerp", {matrix, matrix}, [](const Inputs& x) { return lerp(x[0], x[1], 0.3); }},
      {"addcmul", {matrix, matrix, matrix}, [](const Inputs& x) { return addcmul(x[0], x[1], x[2], 0.3); }},
      {"glu", {matrix}, [](const Inputs& x) { return glu(x[0]); }},
      {"sum", {matrix}, [](const Inputs& x) { return sum(x[0]); }},
      {"sum_axis0", {matrix}, [](const Inputs& x) { return sum(x[0], {0}); }},
      {"sum_axis1", {matrix}, [](const Inputs& x) { return sum(x[0], {1}); }},
      {"sum_images",
       {images},
       [](const Inputs& x) {
         return sum(x[0], {0, 2, 3});
       }},
      {"mean_axis1", {matrix}, [](const Inputs& x) { return mean(x[0], {1}); }},
      {"var_axis1", {matrix}, [](const Inputs& x) { return var(x[0], {1}); }},
      {"var_axis0", {matrix}, [](const Inputs& x) { return var(x[0], {0}); }},
      {"amax_axis1", {matrix}, [](const Inputs& x) { return amax(x[0], {1}); }},
      {"amax_axis0", {matrix}, [](const Inputs& x) { return amax(x[0], {0}); }},
      {"max_along_axis1", {matrix}, [](const Inputs& x) { return max_along(x[0], 1).values; }},
      {"max_along_axis0", {matrix}, [](const Inputs& x) { return max_along(x[0], 0).values; }},
      {"prod_axis1", {matrix}, [](const Inputs& x) { return prod(x[0], {1}); }, true},
      {"norm_2", {matrix}, [](const Inputs& x) { return norm(x[0], 2, {1}); }},
      {"norm_1", {matrix}, [](const Inputs& x) { return norm(x[0], 1, {1}); }},
      {"normalize", {matrix}, [](const Inputs& x) { return normalize(x[0]); }},
      {"cosine_similarity", {matrix, matrix}, [](const Inputs& x) { return cosine_similarity(x[0], x[1]); }},
      {"logsumexp", {matrix}, [](const Inputs& x) { return logsumexp(x[0], {1}); }},
      {"softmax_axis1", {matrix}, [](const Inputs& x) { return softmax(x[0], 1); }},
      {"softmax_axis0", {matrix}, [](const Inputs& x) { return softmax(x[0], 0); }},
      {"softmax_channels", {images}, [](const Inputs& x) { return softmax(x[0], 1); }},
      {"log_softmax", {matrix}, [](const Inputs& x) { return log_softmax(x[0], 1); }},
      {"softmax_cross_entropy", {{512, 1000}}, [d](const Inputs& x) { return softmax_cross_entropy(x[0], d->labels); }},
      {"cumsum_axis1", {matrix}, [](const Inputs& x) { return cumsum(x[0], 1); }},
      {"cumsum_axis0", {matrix}, [](const Inputs& x) { return cumsum(x[0], 0); }},
      {"cumprod", {matrix}, [](const Inputs& x) { return cumprod(x[0], 1); }, true},
      {"sort", {matrix}, [](const Inputs& x) { return sort(x[0], 1).values; }},
      {"topk_10", {matrix}, [](const Inputs& x) { return topk(x[0], 10, 1).values; }},
      {"median", {matrix}, [](const Inputs& x) { return median(x[0], 1).values; }},
      {"gather", {matrix}, [d](const Inputs& x) { return gather(x[0], 1, d->columns); }},
      {"scatter_add", {matrix, matrix}, [d](const Inputs& x) { return scatter_add(x[0], 1, d->columns, x[1]); }},
      {"index_select", {{5000, 64}}, [d](const Inputs& x) { return index_select(x[0], 0, d->rows); }},
      {"embedding", {{5000, 64}}, [d](const Inputs& x) { return embedding(d->rows, x[0]); }},
      {"masked_select", {matrix}, [d](const Inputs& x) { return masked_select(x[0], d->mask); }},
      {"cat_axis0",
       {matrix, matrix},
       [](const Inputs& x) {
         return cat({x[0], x[1]}, 0);
       }},
      {"cat_axis1",
       {matrix, matrix},
       [](const Inputs& x) {
         return cat({x[0], x[1]}, 1);
       }},
      {"stack",
       {matrix, matrix},
       [](const Inputs& x) {
         return stack({x[0], x[1]}, 2);
       }},
      {"transpose", {matrix}, [](const Inputs& x) { return transpose(x[0], 0, 1) * 1.0; }},
      {"permute_images",
       {images},
       [](const Inputs& x) {
         return permute(x[0], {0, 2, 3, 1}) * 1.0;
       }},
      {"pad",
       {images},
       [](const Inputs& x) {
         return pad(x[0], {1, 1, 1, 1});
       }},
      {"pad_reflect",
       {images},
       [](const Inputs& x) {
         return pad(x[0], {1, 1, 1, 1}, PadMode::reflect);
       }},
      {"flip", {images}, [](const Inputs& x) { return flip(x[0], {3}); }},
      {"roll", {images}, [](const Inputs& x) { return roll(x[0], {3}, {3}); }},
      {"repeat",
       {matrix},
       [](const Inputs& x) {
         return repeat(x[0], {2, 3});
       }},
      {"repeat_interleave", {matrix}, [](const Inputs& x) { return repeat_interleave(x[0], 3, 1); }},
      {"tril", {matrix}, [](const Inputs& x) { return tril(x[0]); }},
      {"max_pool_2", {images}, [](const Inputs& x) { return max_pool2d(x[0], 2); }},
      {"max_pool_3_stride_2",
       {images},
       [](const Inputs& x) { return max_pool2d(x[0], 3, {.stride = 2, .padding = 1}); }},
      {"avg_pool_2", {images}, [](const Inputs& x) { return avg_pool2d(x[0], 2); }},
      {"avg_pool_3", {images}, [](const Inputs& x) { return avg_pool2d(x[0], 3, {.stride = 1, .padding = 1}); }},
      {"adaptive_avg_pool_1", {images}, [](const Inputs& x) { return adaptive_avg_pool2d(x[0], 1); }},
      {"adaptive_avg_pool_7", {images}, [](const Inputs& x) { return adaptive_avg_pool2d(x[0], 7); }},
      {"interpolate_nearest",
       {images},
       [](const Inputs& x) {
         return interpolate(x[0], {112, 112});
       }},
      {"interpolate_bilinear",
       {images},
       [](const Inputs& x) {
         return interpolate(x[0], {112, 112}, Interpolation::linear);
       }},
      {"unfold", {{4, 32, 56, 56}}, [](const Inputs& x) { return unfold(x[0], 3, {.padding = 1}); }},
      {"layer_norm", {matrix, {1024}, {1024}}, [](const Inputs& x) { return layer_norm(x[0], {1024}, x[1], x[2]); }},
      {"group_norm", {images, {32}, {32}}, [](const Inputs& x) { return group_norm(x[0], 8, x[1], x[2]); }},
      {"instance_norm", {images}, [](const Inputs& x) { return instance_norm(x[0]); }},
      {"batch_norm", {images, {32}, {32}}, [](const Inputs& x) { return batch_norm(x[0], x[1], x[2]); }},
      {"matmul", {matrix, {1024, 256}}, [](const Inputs& x) { return matmul(x[0], x[1]); }},
      {"matmul_32", {{32, 32}, {32, 32}}, [](const Inputs& x) { return matmul(x[0], x[1]); }},
      {"matvec", {{1024, 1024}, {1024}}, [](const Inputs& x) { return matmul(x[0], x[1]); }},
      {"bmm", {{64, 64, 64}, {64, 64, 64}}, [](const Inputs& x) { return bmm(x[0], x[1]); }},
      {"bmm_transposed",
       {{64, 64, 64}, {64, 64, 64}},
       [](const Inputs& x) { return bmm(x[0], transpose(x[1], 1, 2)); }},
      {"einsum_heads",
       {{8, 64, 8, 32}, {8, 64, 8, 32}},
       [](const Inputs& x) {
         return einsum("bqhd,bkhd->bhqk", {x[0], x[1]});
       }},
      {"einsum_rows",
       {{256, 64}, {256, 64}},
       [](const Inputs& x) {
         return einsum("bi,bi->b", {x[0], x[1]});
       }},
      {"outer", {{1024}, {1024}}, [](const Inputs& x) { return outer(x[0], x[1]); }},
      {"linear_batch1", {{1, 1024}, {1024, 1024}, {1024}}, [](const Inputs& x) { return linear(x[0], x[1], x[2]); }},
      {"conv1d",
       {{16, 64, 256}, {64, 64, 5}},
       [](const Inputs& x) {
         Conv1dOptions o;
         o.padding = 2;
         return conv1d(x[0], x[1], Variable(), o);
       }},
      {"conv2d_3x3_28",
       {{8, 64, 28, 28}, {64, 64, 3, 3}},
       [](const Inputs& x) {
         Conv2dOptions o;
         o.padding = 1;
         return conv2d(x[0], x[1], Variable(), o);
       }},
      {"conv2d_1x1_28",
       {{8, 128, 28, 28}, {128, 128, 1, 1}},
       [](const Inputs& x) { return conv2d(x[0], x[1], Variable()); }},
      {"conv2d_1x1_14",
       {{8, 256, 14, 14}, {256, 256, 1, 1}},
       [](const Inputs& x) { return conv2d(x[0], x[1], Variable()); }},
      {"conv2d_3x3_14",
       {{8, 128, 14, 14}, {128, 128, 3, 3}},
       [](const Inputs& x) {
         Conv2dOptions o;
         o.padding = 1;
         return conv2d(x[0], x[1], Variable(), o);
       }},
      {"conv2d_3x3_7",
       {{8, 256, 7, 7}, {256, 256, 3, 3}},
       [](const Inputs& x) {
         Conv2dOptions o;
         o.padding = 1;
         return conv2d(x[0], x[1], Variable(), o);
       }},
      {"conv2d_7x7_stride_2",
       {{4, 3, 112, 112}, {64, 3, 7, 7}},
       [](const Inputs& x) {
         Conv2dOptions o;
         o.padding = 3;
         o.stride = 2;
         return conv2d(x[0], x[1], Variable(), o);
       }},
      {"conv2d_groups_8",
       {{8, 64, 28, 28}, {64, 8, 3, 3}},
       [](const Inputs& x) {
         Conv2dOptions o;
         o.padding = 1;
         o.groups = 8;
         return conv2d(x[0], x[1], Variable(), o);
       }},
      {"conv2d_dilation_2",
       {{8, 64, 28, 28}, {64, 64, 3, 3}},
       [](const Inputs& x) {
         Conv2dOptions o;
         o.padding = 2;
         o.dilation = 2;
         return conv2d(x[0], x[1], Variable(), o);
       }},
      {"conv_transpose2d_2x2",
       {{8, 64, 14, 14}, {64, 32, 2, 2}},
       [](const Inputs& x) {
         ConvTranspose2dOptions o;
         o.stride = 2;
         return conv_transpose2d(x[0], x[1], Variable(), o);
       }},
      {"conv_transpose2d_4x4",
       {{8, 64, 14, 14}, {64, 32, 4, 4}},
       [](const Inputs& x) {
         ConvTranspose2dOptions o;
         o.stride = 2;
         o.padding = 1;
         return conv_transpose2d(x[0], x[1], Variable(), o);
       }},
      {"conv2d_depthwise_3x3",
       {{16, 128, 28, 28}, {128, 1, 3, 3}},
       [](const Inputs& x) { return conv2d(x[0], x[1], Variable(), {.padding = 1, .groups = 128}); }},
      {"conv2d_depthwise_3x3_stride_2",
       {{16, 128, 28, 28}, {128, 1, 3, 3}},
       [](const Inputs& x) { return conv2d(x[0], x[1], Variable(), {.stride = 2, .padding = 1, .groups = 128}); }},
      {"conv2d_depthwise_5x5",
       {{16, 96, 28, 28}, {96, 1, 5, 5}},
       [](const Inputs& x) { return conv2d(x[0], x[1], Variable(), {.padding = 2, .groups = 96}); }},
      {"select_each",
       {{32, 128, 64}},
       [](const Inputs& x) {
         std::vector<Variable> parts;
         for (Index t = 0; t < 128; ++t) parts.push_back(select(x[0], 1, t));
         return stack(parts, 1);
       }},
  };
}

Inputs draw(const Op& op) {
  Rng rng(1);
  Inputs inputs;
  for (const Shape& shape : op.inputs) {
    const Tensor x = randn(rng, shape);
    inputs.emplace_back(op.positive ? (abs(Variable(x)) + 0.1).value() : x);
  }
  return inputs;
}

constexpr double block = 0.02;

Task forward(const Op& op) {
  Task task;
  task.run = [f = op.f, x = draw(op)] { keep(f(x).value().bytes()); };
  task.figures = {microseconds("forward")};
  task.min_seconds = block;
  return task;
}
Task forward_backward(const Op& op) {
  Inputs x = draw(op);
  Rng rng(3);
  const Inputs weights = {randn(rng, op.f(x).shape())};
  Task task;
  task.run = [f = op.f, x = std::move(x), weights] {
    Tape tape;
    Inputs leaves;
    for (const Variable& input : x) leaves.push_back(tape.watch(input.value()));
    const Inputs outputs = {f(leaves)};
    keep(tape.gradient(outputs, weights, leaves)[0].value().bytes());
  };
  task.figures = {microseconds("forward_backward")};
  task.min_seconds = block;
  return task;
}

}  // namespace

std::vector<Workload> op_workloads() {
  std::vector<Workload> rows;
  for (const Op& op : ops()) {
    rows.push_back({"ops", "op_" + op.name, [op] { return forward(op); }});
    rows.push_back({"ops", "op_" + op.name, [op] { return forward_backward(op); }});
  }
  return rows;
}

}  // namespace espalier::bench
