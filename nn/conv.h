// Convolution layers.
//
// Weights and biases ~ U(-k, k), k = 1 / sqrt(fan_in), fan_in = weight.dim(1) * kernel elements: PyTorch's law, which is
// He et al. 2015, eq. 10, with a leaky slope of sqrt(5).
#pragma once

#include <algorithm>
#include <vector>

#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/shape.h"
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

/// An extent's number for axis `k` from the last on.
inline Index from_last(Index extent, int) { return extent; }
inline Index from_last(const IndexPair& extent, int k) { return extent[static_cast<std::size_t>(1 - k)]; }

/// What pad() is to put around x in the place of a convolution's own zeros; nothing if that is nothing. Errors: as
/// conv2d.
template <int axes>
std::vector<Index> pads_of(const char* layer, const ConvPadding& padding, WindowExtent<axes> kernel,
                           WindowExtent<axes> stride, WindowExtent<axes> dilation) {
  const bool same = padding.mode == "same";
  if (!same && padding.mode != "valid" && !padding.mode.empty())
    fail<ConfigError>("[", layer, "] padding \"", padding.mode, "\" is neither \"same\" nor \"valid\"");
  std::vector<Index> pads;
  for (int k = 0; k < axes; ++k) {
    if (same && from_last(stride, k) != 1)
      fail<ConfigError>("[", layer, "] padding \"same\" needs stride 1, got ", stride,
                        ". Hint: give the padding as a number");
    const Index reach = from_last(dilation, k) * (from_last(kernel, k) - 1), both = from_last(padding.zeros, k);
    if (both < 0) fail<ConfigError>("[", layer, "] padding must not be negative, got ", padding.zeros);
    pads.push_back(same ? reach / 2 : both);
    pads.push_back(same ? reach - reach / 2 : both);
  }
  return std::count(pads.begin(), pads.end(), 0) == 2 * axes ? std::vector<Index>() : pads;
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
  PadMode padding_mode = PadMode::constant;  ///< what the padding holds: zeros, or what pad() makes of x
  DType dtype = DType::f32;
};

/// y = weight * x + bias, see conv2d. x [N, in, H, W] -> y [N, out, H', W']; over sequences [N, in, L] -> [N, out, L'].
/// weight [out, in / groups, kh, kw] or [out, in / groups, k], bias [out]. Errors: as conv2d; ConfigError unless groups
/// divides in and out. A padding that is not of zeros is put around x by pad(), whose limits hold: reflect and circular
/// reach no further than x does.
template <int axes>
class Conv final : public Module {
 public:
  using Options = ConvLayerOptions<WindowExtent<axes>>;
  Conv(Rng& rng, Index in, Index out, WindowExtent<axes> kernel_size, Options options = {})
      : options_{options.stride, options.padding, options.dilation, options.groups},
        padding_mode_(options.padding_mode) {
    const char* const layer = axes == 2 ? "Conv2d" : "Conv1d";
    detail::check_convolution(layer, in, out, options.groups);
    if (padding_mode_ != PadMode::constant) {
      pads_ = detail::pads_of<axes>(layer, options.padding, kernel_size, options.stride, options.dilation);
      options_.padding = 0;
    }
    detail::draw_convolution(rng, detail::kernel_shape(out, in / options.groups, kernel_size), options.bias ? out : 0,
                             options.dtype, weight, bias);
  }

  Variable operator()(const Variable& x) const {
    return forward([&] {
      auto o = options_;
      if (o.groups > 1) o.groups = detail::groups_left(x, weight, -1 - axes, o.groups);
      const Variable b = bias.defined() ? Variable(bias) : Variable();
      const Variable longer = pads_.empty() ? Variable() : pad(x, pads_, padding_mode_);
      const Variable& around = pads_.empty() ? x : longer;
      if constexpr (axes == 2)
        return conv2d(around, weight, b, o);
      else
        return conv1d(around, weight, b, o);
    });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  ConvOptions<WindowExtent<axes>> options_;
  PadMode padding_mode_;
  std::vector<Index> pads_;
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
///
/// With stride s a convolution turns images of s sizes into one; called with an `output_size` the layer gives that one
/// of them, layer(x, {h, w}), as output_padding does for all calls. Errors: ShapeError for a size that x cannot have
/// come from.
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
    return forward([&] { return spread(x, options_); });
  }
  Variable operator()(const Variable& x, WindowExtent<axes> output_size) const {
    return forward([&] {
      ConvTransposeOptions<WindowExtent<axes>> o = options_;
      if (x.rank() > axes) o.output_padding = output_padding(x.shape(), output_size);
      return spread(x, o);
    });
  }
  void members(Visitor& v) override { v("weight", weight)("bias", bias); }

  Parameter weight, bias;

 private:
  Variable spread(const Variable& x, const ConvTransposeOptions<WindowExtent<axes>>& o) const {
    const Variable b = bias.defined() ? Variable(bias) : Variable();
    if constexpr (axes == 2)
      return conv_transpose2d(x, weight, b, o);
    else
      return conv_transpose1d(x, weight, b, o);
  }
  /// What makes the output that long.
  WindowExtent<axes> output_padding(const Shape& x, WindowExtent<axes> output_size) const {
    std::array<Index, static_cast<std::size_t>(axes)> more;
    for (int k = 0; k < axes; ++k) {
      const Index stride = detail::from_last(options_.stride, k), dilation = detail::from_last(options_.dilation, k);
      const Index least = (x[-1 - k] - 1) * stride - 2 * detail::from_last(options_.padding, k) +
                          dilation * (weight.shape()[-1 - k] - 1) + 1;
      const Index missing = detail::from_last(output_size, k) - least, most = std::max(stride, dilation) - 1;
      if (missing < 0 || missing > most)
        fail<ShapeError>("[", axes == 2 ? "ConvTranspose2d" : "ConvTranspose1d", "] x ", x, " cannot become ",
                         output_size, ": axis ", -1 - k, " is ", least, " to ", least + most, " long");
      more[static_cast<std::size_t>(axes - 1 - k)] = missing;
    }
    if constexpr (axes == 2)
      return more;
    else
      return more[0];
  }
  ConvTransposeOptions<WindowExtent<axes>> options_;
};
using ConvTranspose2d = ConvTranspose<2>;
using ConvTranspose1d = ConvTranspose<1>;
using ConvTranspose2dLayerOptions = ConvTranspose2d::Options;
using ConvTranspose1dLayerOptions = ConvTranspose1d::Options;

}  // namespace espalier::nn
