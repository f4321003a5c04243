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
/// What is left of the groups after pruning. A layer that was built without groups never has any.
inline Index groups_left(const Variable& x, const Parameter& weight, int channel_axis, Index built) {
  const Index per_group = weight.value().dim(1);
  return built == 1 || per_group == 0 ? 1 : std::max<Index>(1, x.dim(channel_axis) / per_group);
}
}  // namespace detail

struct Conv2dLayerOptions {
  IndexPair stride = 1;
  ConvPadding padding = 0;
  IndexPair dilation = 1;
  Index groups = 1;
  bool bias = true;
  DType dtype = DType::f32;
};
/// y = weight * x + bias, see conv2d. x [N, in, H, W] -> y [N, out, H', W']. weight [out, in / groups, kh, kw], bias
/// [out]. Errors: as conv2d; ConfigError unless groups divides in and out.
class Conv2d final : public Module {
 public:
  Conv2d(Rng& rng, Index in, Index out, IndexPair kernel_size, Conv2dLayerOptions options = {})
      : options_{options.stride, options.padding, options.dilation, options.groups} {
    detail::check_convolution("Conv2d", in, out, options.groups);
    detail::draw_convolution(rng, {out, in / options.groups, kernel_size[0], kernel_size[1]}, options.bias ? out : 0,
                             options.dtype, weight, bias);
  }

  Variable operator()(const Variable& x) const {
    return forward([&] {
      Conv2dOptions o = options_;
      if (o.groups > 1) o.groups = detail::groups_left(x, weight, -3, o.groups);
      return conv2d(x, weight, bias.defined() ? Variable(bias) : Variable(), o);
    });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  Conv2dOptions options_;
};

struct Conv1dLayerOptions {
  Index stride = 1;
  ConvPadding padding = 0;
  Index dilation = 1;
  Index groups = 1;
  bool bias = true;
  DType dtype = DType::f32;
};
/// The same over sequences: x [N, in, L] -> y [N, out, L'], weight [out, in / groups, k].
class Conv1d final : public Module {
 public:
  Conv1d(Rng& rng, Index in, Index out, Index kernel_size, Conv1dLayerOptions options = {})
      : options_{options.stride, options.padding, options.dilation, options.groups} {
    detail::check_convolution("Conv1d", in, out, options.groups);
    detail::draw_convolution(rng, {out, in / options.groups, kernel_size}, options.bias ? out : 0, options.dtype,
                             weight, bias);
  }

  Variable operator()(const Variable& x) const {
    return forward([&] {
      Conv1dOptions o = options_;
      if (o.groups > 1) o.groups = detail::groups_left(x, weight, -2, o.groups);
      return conv1d(x, weight, bias.defined() ? Variable(bias) : Variable(), o);
    });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  Conv1dOptions options_;
};

struct ConvTranspose2dLayerOptions {
  IndexPair stride = 1;
  IndexPair padding = 0;
  IndexPair output_padding = 0;
  IndexPair dilation = 1;
  Index groups = 1;
  bool bias = true;
  DType dtype = DType::f32;
};
/// The adjoint of Conv2d, see conv_transpose2d. x [N, in, H, W] -> y [N, out, H', W']. weight [in, out / groups, kh,
/// kw], bias [out].
class ConvTranspose2d final : public Module {
 public:
  ConvTranspose2d(Rng& rng, Index in, Index out, IndexPair kernel_size, ConvTranspose2dLayerOptions options = {})
      : options_{options.stride, options.padding, options.output_padding, options.dilation, options.groups} {
    detail::check_convolution("ConvTranspose2d", in, out, options.groups);
    detail::draw_convolution(rng, {in, out / options.groups, kernel_size[0], kernel_size[1]}, options.bias ? out : 0,
                             options.dtype, weight, bias);
  }

  Variable operator()(const Variable& x) const {
    return forward([&] { return conv_transpose2d(x, weight, bias.defined() ? Variable(bias) : Variable(), options_); });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  ConvTranspose2dOptions options_;
};

struct ConvTranspose1dLayerOptions {
  Index stride = 1;
  Index padding = 0;
  Index output_padding = 0;
  Index dilation = 1;
  Index groups = 1;
  bool bias = true;
  DType dtype = DType::f32;
};
/// The same over sequences: x [N, in, L] -> y [N, out, L'], weight [in, out / groups, k].
class ConvTranspose1d final : public Module {
 public:
  ConvTranspose1d(Rng& rng, Index in, Index out, Index kernel_size, ConvTranspose1dLayerOptions options = {})
      : options_{options.stride, options.padding, options.output_padding, options.dilation, options.groups} {
    detail::check_convolution("ConvTranspose1d", in, out, options.groups);
    detail::draw_convolution(rng, {in, out / options.groups, kernel_size}, options.bias ? out : 0, options.dtype,
                             weight, bias);
  }

  Variable operator()(const Variable& x) const {
    return forward([&] { return conv_transpose1d(x, weight, bias.defined() ? Variable(bias) : Variable(), options_); });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  ConvTranspose1dOptions options_;
};

}  // namespace espalier::nn
