#include "espalier/nn/norm.h"

#include <algorithm>

#include "espalier/core/compare.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"

namespace espalier::nn {
namespace {

Variable optional(const Parameter& p) { return p.defined() ? Variable(p) : Variable(); }
Parameter filled(bool wanted, const Shape& shape, double value, DType type) {
  return wanted ? Parameter(Tensor::full(shape, value, type)) : Parameter();
}

/// x must be [N, C] with `axes` more, or one less if `or_less`.
void check_axes(const char* layer, const Variable& x, int axes, bool or_less) {
  if (x.rank() == axes + 2 || (or_less && x.rank() == axes + 1)) [[likely]]
    return;
  constexpr const char* lengths[] = {"[N, C]", "[N, C, L]", "[N, C, H, W]", "[N, C, D, H, W]"};
  fail<ShapeError>("[", layer, axes, "d] x must be ", or_less ? lengths[axes - 1] : "", or_less ? " or " : "",
                   lengths[axes], ", got ", x.shape());
}

/// (1 - share) running + share factor batch in the channels of `sound`, else running.
Tensor moved(const Tensor& running, const Tensor& batch, double share, double factor, const Tensor& sound) {
  return where(
      sound, zip("batch_norm", kernels::binary().blend, running, batch.to(running.dtype()), 1 - share, share * factor),
      running);
}

}  // namespace

LayerNorm::LayerNorm(const Shape& shape, LayerNormOptions options)
    : weight(filled(options.affine, shape, 1, options.dtype)),
      bias(filled(options.affine && options.bias, shape, 0, options.dtype)),
      shape_(shape),
      eps_(options.eps) {}
Variable LayerNorm::operator()(const Variable& x) const {
  return forward([&] {
    return layer_norm(x, weight.defined() ? weight.shape() : shape_, optional(weight), optional(bias), eps_);
  });
}

RmsNorm::RmsNorm(const Shape& shape, RmsNormOptions options)
    : weight(filled(options.affine, shape, 1, options.dtype)), shape_(shape), eps_(options.eps) {}
Variable RmsNorm::operator()(const Variable& x) const {
  return forward([&] { return rms_norm(x, weight.defined() ? weight.shape() : shape_, optional(weight), eps_); });
}

GroupNorm::GroupNorm(Index groups, Index channels, GroupNormOptions options)
    : weight(filled(options.affine, {channels}, 1, options.dtype)),
      bias(filled(options.affine, {channels}, 0, options.dtype)),
      groups_(groups),
      together_(groups > 0 ? std::max<Index>(1, channels / groups) : 1),
      eps_(options.eps) {
  if (groups < 1 || channels % groups != 0)
    fail<ConfigError>("[GroupNorm] ", channels, " channels do not fall into ", groups, " equal groups");
}
Variable GroupNorm::operator()(const Variable& x) const {
  return forward([&] {
    const Index groups = weight.defined() ? std::max<Index>(1, weight.size() / together_) : groups_;
    return group_norm(x, groups, optional(weight), optional(bias), eps_);
  });
}

template <int axes>
InstanceNorm<axes>::InstanceNorm(Index channels, InstanceNormOptions options)
    : weight(filled(options.affine, {channels}, 1, options.dtype)),
      bias(filled(options.affine, {channels}, 0, options.dtype)),
      eps_(options.eps) {}
template <int axes>
Variable InstanceNorm<axes>::operator()(const Variable& x) const {
  return forward([&] {
    check_axes("InstanceNorm", x, axes, false);
    return instance_norm(x, optional(weight), optional(bias), eps_);
  });
}
template class InstanceNorm<1>;
template class InstanceNorm<2>;

template <int axes>
BatchNorm<axes>::BatchNorm(Index channels, BatchNormLayerOptions options)
    : weight(filled(options.affine, {channels}, 1, options.dtype)),
      bias(filled(options.affine, {channels}, 0, options.dtype)),
      eps_(options.eps),
      momentum_(options.momentum),
      relu_(options.relu) {
  if (!options.track_running_stats) return;
  running_mean = Buffer(Tensor::zeros({channels}, options.dtype));
  running_var = Buffer(Tensor::ones({channels}, options.dtype));
  num_batches_tracked = Buffer(Tensor::zeros({}, DType::i64));
}
template <int axes>
Variable BatchNorm<axes>::operator()(const Variable& x) const {
  return forward([&]() -> Variable {
    check_axes("BatchNorm", x, axes, axes == 1);
    const BatchNormOptions options{.eps = eps_, .relu = relu_};
    if (!training() && running_mean.defined())
      return batch_norm_inference(x, running_mean.value(), running_var.value(), optional(weight), optional(bias),
                                  options);
    BatchStatistics batch;
    Variable y = batch_norm(x, optional(weight), optional(bias), options, &batch);
    if (training() && running_mean.defined() && batch.count > 0) {
      const double batches = num_batches_tracked.value().item() + 1, n = static_cast<double>(batch.count);
      const double share = momentum_.value_or(1 / batches);
      num_batches_tracked.set(Tensor::full({}, batches, DType::i64));
      const Tensor sound = logical_and(isfinite(batch.mean), isfinite(batch.variance));
      running_mean.set(moved(running_mean.value(), batch.mean, share, 1, sound));
      running_var.set(moved(running_var.value(), batch.variance, share, n / (n - 1), sound));
    }
    return y;
  });
}
template class BatchNorm<1>;
template class BatchNorm<2>;

}  // namespace espalier::nn
