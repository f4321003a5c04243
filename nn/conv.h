// Convolution layers.
//
// Weights and biases ~ U(-k, k), k = 1 / sqrt(fan_in), fan_in = weight.dim(1) * kernel elements: PyTorch's law, which is
// He et al. 2015, eq. 10, with a leaky slope of sqrt(5).
#pragma once

#include "espalier/autograd/ops/conv.h"
#include "espalier/nn/init.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

namespace detail {
/// Draws weight and bias. `outputs`: entries of the bias, 0 for none.
inline void draw_convolution(Rng& rng, const Shape& shape, Index outputs, DType type, Parameter& weight,
                             Parameter& bias) {
  const double fan_in = init::fans(shape).in;
  weight = Parameter(init::fan_in_uniform(rng, shape, fan_in, type));
  if (outputs > 0) bias = Parameter(init::fan_in_uniform(rng, {outputs}, fan_in, type));
}
/// Errors: ConfigError unless groups divides both.
inline void check_convolution(const char* layer, Index in, Index out, Index groups) {
  if (groups < 1 || in < 1 || out < 1 || in % groups != 0 || out % groups != 0)
    fail<ConfigError>("[", layer, "] in ", in, " and out ", out, " must be positive multiples of groups ", groups);
}
/// What is left of the groups after pruning. A layer that was built without groups never has any; one that lost no
/// unit has those it was built with, so that conv tells of channels that do not fit.
inline Index groups_left(const Variable& x, const Parameter& weight, int channel_axis, Index built) {
  const bool whole = !weight.ref()->resized() && weight.value().dim(0) % built == 0;
  if (built == 1 || whole || x.rank() < -channel_axis) return built;
  const Index per_group = weight.value().dim(1);
  return per_group == 0 ? 1 : std::max<Index>(1, x.dim(channel_axis) / per_group);
}

/// Weights of a kernel over one or two axes.
inline Shape kernel_shape(Index first, Index second, Index size) { return {first, second, size}; }
inline Shape kernel_shape(Index first, Index second, IndexPair size) { return {first, second, size[0], size[1]}; }
}  // namespace detail

template <class Extent>
struct ConvLayerOptions {
  Extent stride = 1;
  ConvPadding padding = 0;
  Extent dilation = 1;
  Index groups = 1;
  bool bias = true;
  DType dtype = DType::f32;
};

/// y = weight * x + bias, see conv2d. x [N, in, H, W] -> y [N, out, H', W']; over sequences [N, in, L] -> [N, out, L'].
/// weight [out, in / groups, kh, kw] or [out, in / groups, k], bias [out]. Errors: as conv2d; ConfigError unless groups
/// divides in and out.
template <int axes>
class Conv final : public Module {
 public:
  using Options = ConvLayerOptions<WindowExtent<axes>>;
  Conv(Rng& rng, Index in, Index out, WindowExtent<axes> kernel_size, Options options = {})
      : options_{options.stride, options.padding, options.dilation, options.groups} {
    detail::check_convolution(axes == 2 ? "Conv2d" : "Conv1d", in, out, options.groups);
    detail::draw_convolution(rng, detail::kernel_shape(out, in / options.groups, kernel_size), options.bias ? out : 0,
                             options.dtype, weight, bias);
  }

  Variable operator()(const Variable& x) const {
    return forward([&] {
      auto o = options_;
      if (o.groups > 1) o.groups = detail::groups_left(x, weight, -1 - axes, o.groups);
      const Variable b = bias.defined() ? Variable(bias) : Variable();
      if constexpr (axes == 2)
        return conv2d(x, weight, b, o);
      else
        return conv1d(x, weight, b, o);
    });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  ConvOptions<WindowExtent<axes>> options_;
};
using Conv2d = Conv<2>;
using Conv1d = Conv<1>;
using Conv2dLayerOptions = Conv2d::Options;
using Conv1dLayerOptions = Conv1d::Options;

template <class Extent>
struct ConvTransposeLayerOptions {
  Extent stride = 1;
  Extent padding = 0;
  Extent output_padding = 0;
  Extent dilation = 1;
  Index groups = 1;
  bool bias = true;
  DType dtype = DType::f32;
};

/// The adjoint of Conv, see conv_transpose2d. x [N, in, H, W] -> y [N, out, H', W'], or [N, in, L] -> [N, out, L'].
/// weight [in, out / groups, kh, kw] or [in, out / groups, k], bias [out]. Errors: as Conv.
template <int axes>
class ConvTranspose final : public Module {
 public:
  using Options = ConvTransposeLayerOptions<WindowExtent<axes>>;
  ConvTranspose(Rng& rng, Index in, Index out, WindowExtent<axes> kernel_size, Options options = {})
      : options_{options.stride, options.padding, options.output_padding, options.dilation, options.groups} {
    detail::check_convolution(axes == 2 ? "ConvTranspose2d" : "ConvTranspose1d", in, out, options.groups);
    detail::draw_convolution(rng, detail::kernel_shape(in, out / options.groups, kernel_size), options.bias ? out : 0,
                             options.dtype, weight, bias);
  }

  Variable operator()(const Variable& x) const {
    return forward([&] {
      const Variable b = bias.defined() ? Variable(bias) : Variable();
      if constexpr (axes == 2)
        return conv_transpose2d(x, weight, b, options_);
      else
        return conv_transpose1d(x, weight, b, options_);
    });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  ConvTransposeOptions<WindowExtent<axes>> options_;
};
using ConvTranspose2d = ConvTranspose<2>;
using ConvTranspose1d = ConvTranspose<1>;
using ConvTranspose2dLayerOptions = ConvTranspose2d::Options;
using ConvTranspose1dLayerOptions = ConvTranspose1d::Options;

}  // namespace espalier::nn
