#include "espalier/autograd/ops/norm.h"

#include <cmath>

#include "espalier/autograd/ops/detail/slopes.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/norm.h"

namespace espalier {
namespace {

/// How an input is seen by the rule made of ops: statistics run over `axes` of x seen as `view`, and weight and bias
/// are seen as `weight`.
struct Geometry {
  Shape view, weight;
  Dims axes;
};

/// The backward pass in differentiable ops. Mean and 1 / deviation are found again from x, unless they are given.
std::array<Variable, 3> composed(const Variable& g, const Variable& x, const Variable& weight, const Variable& bias,
                                 const Geometry& seen, double eps, bool centered, const Tensor& fixed, bool relu,
                                 Wants wants) {
  const Variable xs = reshape(x, seen.view);
  Variable gs = reshape(g, seen.view), rstd, xhat;
  if (fixed.defined()) {
    const Tensor of_type = fixed.to(x.dtype());
    rstd = of_type.select(1, 1).reshape(seen.weight);
    xhat = mul(sub(xs, of_type.select(1, 0).reshape(seen.weight)), rstd);
  } else {
    const Variable deviation = centered ? sub(xs, mean(xs, seen.axes, true)) : xs;
    rstd = pow(affine(mean(square(deviation), seen.axes, true), 1, eps), -0.5);
    xhat = mul(deviation, rstd);
  }
  const Variable w = weight.defined() ? reshape(weight, seen.weight) : weight;
  if (relu) {
    Variable y = xhat.detach();
    if (w.defined()) y = mul(y, w.detach());
    if (bias.defined()) y = add(y, reshape(bias, seen.weight).detach());
    gs = mul(gs, detail::relu_slope(y));
  }
  const Variable gw = w.defined() ? mul(gs, w) : gs;
  Variable dx;
  if (wants[0] && fixed.defined()) {
    dx = reshape(mul(gw, rstd), x.shape());
  } else if (wants[0]) {
    Variable inner = sub(gw, mul(xhat, mean(mul(gw, xhat), seen.axes, true)));
    if (centered) inner = sub(inner, mean(gw, seen.axes, true));
    dx = reshape(mul(rstd, inner), x.shape());
  }
  return gradients(std::move(dx),
                   wants[1] ? reshape(sum_to(mul(gs, xhat), seen.weight), {count(seen.weight)}) : no_gradient(),
                   wants[2] ? reshape(sum_to(gs, seen.weight), {count(seen.weight)}) : no_gradient());
}

NormWants to_core(Wants wants) { return {wants[0], wants[1], wants[2]}; }
std::array<Variable, 3> from_core(NormBackward from) {
  return gradients(std::move(from.x), std::move(from.weight), std::move(from.bias));
}
/// The gradients of weight and bias in the shape these have.
std::array<Variable, 3> shaped(std::array<Variable, 3> all, const Shape& shape) {
  for (std::size_t k : {1u, 2u})
    if (all[k].defined() && shape.rank() != 1) all[k] = reshape(all[k], shape);
  return all;
}

// --- rows -----------------------------------------------------------------------------------------------------------

Variable over_rows(const char* op, const Variable& x, const Shape& shape, const Variable& weight, const Variable& bias,
                   double eps, bool centered) {
  const int outer = x.rank() - shape.rank();
  bool fits = outer >= 0 && shape.rank() > 0;
  for (int axis = 0; fits && axis < shape.rank(); ++axis) fits = x.shape()[outer + axis] == shape[axis];
  if (!fits) [[unlikely]]
    fail<ShapeError>("[", op, "] the last axes of x ", x.shape(), " are not the normalized shape ", shape,
                     ". Hint: normalisation is over the last axes of x");
  for (const Variable* v : {&weight, &bias})
    if (v->defined() && !(v->shape() == shape)) [[unlikely]]
      fail<ShapeError>("[", op, "] ", v == &weight ? "weight " : "bias ", v->shape(),
                       " must have the normalized shape ", shape);
  const Index n = count(shape);
  NormForward forward = normalize_rows(op, x.value(), n, weight.value(), bias.value(), eps, centered);
  if (!recording(x, weight, bias)) return std::move(forward.y);
  return record(
      op, std::move(forward.y), {&x, &weight, &bias},
      [=, x = Saved(x), w = Saved(weight), found = std::move(forward.statistics)](const Variable& g, Wants wants) {
        const Variable &v = x.get(), &factor = w.get();
        if (!recording(g, v, factor))
          return shaped(from_core(normalize_rows_backward(op, g.value(), v.value(), n, factor.value(), found, centered,
                                                          to_core(wants))),
                        shape);
        Index rows = 1;
        for (int axis = 0; axis < outer; ++axis) rows *= v.shape()[axis];
        return shaped(composed(g, v, factor, {}, {{rows, n}, {1, n}, {1}}, eps, centered, {}, false, wants), shape);
      },
      settings(shape.rank(), setting_of(eps)));
}

// --- channels -------------------------------------------------------------------------------------------------------

void check_channels(const char* op, const Variable& x, const Variable& weight, const Variable& bias) {
  if (x.rank() < 2) [[unlikely]]
    fail<ShapeError>("[", op, "] x must be [N, C, ...], got ", x.shape());
  for (const Variable* v : {&weight, &bias})
    if (v->defined() && !(v->shape() == Shape{x.shape()[1]})) [[unlikely]]
      fail<ShapeError>("[", op, "] ", v == &weight ? "weight " : "bias ", v->shape(), " for x ", x.shape(),
                       ", which has ", x.shape()[1], " channels");
}

/// x as [N, groups, channels of one, length], and for statistics of a batch as [N, C, length].
Geometry geometry(const Shape& shape, const NormChannels& how) {
  Index length = 1;
  for (int axis = 2; axis < shape.rank(); ++axis) length *= shape[axis];
  if (how.over != NormOver::group) return {{shape[0], shape[1], length}, {1, shape[1], 1}, {0, 2}};
  const Index together = how.groups > 0 ? shape[1] / how.groups : 0;
  return {{shape[0], how.groups, together, length}, {1, how.groups, together, 1}, {2, 3}};
}

struct Normalised {
  Variable y;
  Tensor statistics;
};
Normalised over_channels(const char* op, const Variable& x, const NormChannels& how, const Variable& weight,
                         const Variable& bias, const Tensor& given = {}, const Variable& mean = {},
                         const Variable& variance = {}) {
  NormForward forward = normalize_channels(op, x.value(), how, weight.value(), bias.value(), given);
  if (!recording(x, weight, bias)) return {std::move(forward.y), std::move(forward.statistics)};
  const std::array<const Variable*, 5> inputs{&x, &weight, &bias, &mean, &variance};
  Variable y(std::move(forward.y));
  detail::record_outputs(
      op, {&y, 1}, std::span(inputs).first(given.defined() ? 5 : 3),
      [op, how, given, x = Saved(x), w = Saved(weight), b = Saved(bias), found = forward.statistics](const Variable& g,
                                                                                                     Wants wants) {
        const Variable &v = x.get(), &factor = w.get();
        const Variable offset = how.relu ? b.get() : Variable();  // else it has no part in the gradients
        if (recording(g, v, factor))
          return composed(g, v, factor, offset, geometry(v.shape(), how), how.eps, true, given, how.relu, wants);
        return from_core(normalize_channels_backward(op, g.value(), v.value(), how, factor.value(), offset.value(),
                                                     found, to_core(wants)));
      },
      settings(how.over == NormOver::group ? how.groups : 0, setting_of(how.eps), how.relu ? 1 : 0));
  return {std::move(y), std::move(forward.statistics)};
}

}  // namespace

Variable layer_norm(const Variable& x, const Shape& normalized_shape, const Variable& weight, const Variable& bias,
                    double eps) {
  return over_rows("layer_norm", x, normalized_shape, weight, bias, eps, true);
}

Variable rms_norm(const Variable& x, const Shape& normalized_shape, const Variable& weight, double eps) {
  return over_rows("rms_norm", x, normalized_shape, weight, {}, eps, false);
}

Variable group_norm(const Variable& x, Index groups, const Variable& weight, const Variable& bias, double eps) {
  check_channels("group_norm", x, weight, bias);
  if (groups < 1 || x.shape()[1] % groups != 0) [[unlikely]]
    fail<ShapeError>("[group_norm] the ", x.shape()[1], " channels of x ", x.shape(), " do not fall into ", groups,
                     " equal groups");
  return over_channels("group_norm", x, {.over = NormOver::group, .groups = groups, .eps = eps}, weight, bias).y;
}

Variable instance_norm(const Variable& x, const Variable& weight, const Variable& bias, double eps) {
  check_channels("instance_norm", x, weight, bias);
  return over_channels("instance_norm", x, {.over = NormOver::group, .groups = x.shape()[1], .eps = eps}, weight, bias)
      .y;
}

Variable batch_norm(const Variable& x, const Variable& weight, const Variable& bias, BatchNormOptions options,
                    BatchStatistics* statistics) {
  check_channels("batch_norm", x, weight, bias);
  const Index channels = x.shape()[1], each = channels > 0 ? x.size() / channels : 0;
  if (each == 1) [[unlikely]]
    fail<ShapeError>("[batch_norm] x ", x.shape(),
                     " has one value a channel, whose variance is 0. Hint: train on larger batches, or eval() the "
                     "layer");
  Normalised result =
      over_channels("batch_norm", x, {.over = NormOver::batch, .eps = options.eps, .relu = options.relu}, weight, bias);
  if (statistics) {
    Tensor variance = Tensor::empty({channels}, DType::f64);
    double* out = variance.write<double>("batch_norm");
    const double* found = result.statistics.data<double>();
    for (Index c = 0; c < channels; ++c) {
      const double rstd = found[2 * c + 1], spread = 1 / (rstd * rstd) - options.eps;
      out[c] = spread < 0 ? 0 : spread;  // NaN stays
    }
    *statistics = {result.statistics.select(1, 0).contiguous(), std::move(variance), each};
  }
  return std::move(result.y);
}

Variable batch_norm_inference(const Variable& x, const Tensor& mean, const Tensor& variance, const Variable& weight,
                              const Variable& bias, BatchNormOptions options) {
  check_channels("batch_norm_inference", x, weight, bias);
  const Shape channels{x.shape()[1]};
  if (!(mean.shape() == channels) || !(variance.shape() == channels)) [[unlikely]]
    fail<ShapeError>("[batch_norm_inference] mean ", mean.shape(), " and variance ", variance.shape(), " for x ",
                     x.shape(), ", which has ", channels[0], " channels");
  Tensor given = Tensor::empty({channels[0], 2}, DType::f64);
  given.select(1, 0).copy_from(mean);
  given.select(1, 1).copy_from(map_with("batch_norm_inference", variance.to(DType::f64), [&](auto v) {
    return static_cast<decltype(v)>(1 / std::sqrt(v + options.eps));
  }));
  return over_channels("batch_norm_inference", x, {.over = NormOver::fixed, .eps = options.eps, .relu = options.relu},
                       weight, bias, given, mean, variance)
      .y;
}

}  // namespace espalier
