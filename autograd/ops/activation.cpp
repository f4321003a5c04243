#include "espalier/autograd/ops/activation.h"

#include <limits>
#include <numbers>

#include "espalier/autograd/ops/detail/elementwise_rules.h"
#include "espalier/autograd/ops/detail/slopes.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/compare.h"

namespace espalier {

using detail::from_input;
using detail::from_output;
using detail::fused;
using detail::gelu_slope;
using detail::piecewise;
using detail::sigmoid_slope;
using detail::silu_slope;
using detail::tanh_slope;
using kernels::backward;
using kernels::binary;
using kernels::ternary;
using kernels::unary;

// --- smooth -----------------------------------------------------------------------------------------------------------

Variable tanh(const Variable& x) {
  return from_output("tanh", unary().tanh, x, [](const Variable& g, const Variable& y) {
    return fused("tanh_backward", backward().tanh, g, y, [&] { return mul(g, tanh_slope(y)); });
  });
}

Variable sigmoid(const Variable& x) {
  return from_output("sigmoid", unary().sigmoid, x, [](const Variable& g, const Variable& y) {
    return fused("sigmoid_backward", backward().sigmoid, g, y, [&] { return mul(g, sigmoid_slope(y)); });
  });
}

Variable logsigmoid(const Variable& x) {
  return from_input("logsigmoid", unary().logsigmoid, x, [](const Variable& g, const Variable& v) {
    return fused("logsigmoid_backward", backward().logsigmoid, g, v, [&] { return mul(g, sigmoid(neg(v))); });
  });
}

Variable softplus(const Variable& x, double beta, double threshold) {
  if (!(beta > 0)) fail<ConfigError>("[softplus] beta must be above 0, got ", beta);
  return from_input("softplus", unary().softplus, x, beta, threshold,
                    [beta, threshold](const Variable& g, const Variable& v) {
                      return fused("softplus_backward", backward().softplus, g, v, beta, threshold, [&] {
                        // Beyond the threshold the function is x itself: a slope of exactly 1.
                        const Tensor is_x = gt(map("softplus", unary().affine, v.value(), beta, 0), threshold);
                        return mul(g, where(is_x, Tensor::scalar(1, v.dtype()), sigmoid(affine(v, beta, 0))));
                      });
                    });
}

Variable softsign(const Variable& x) {
  return from_input("softsign", unary().softsign, x, [](const Variable& g, const Variable& v) {
    return fused("softsign_backward", backward().softsign, g, v,
                 [&] { return mul(g, square(reciprocal(affine(abs(v), 1, 1)))); });
  });
}

Variable tanhshrink(const Variable& x) {
  return from_input("tanhshrink", unary().tanhshrink, x, [](const Variable& g, const Variable& v) {
    return fused("tanhshrink_backward", backward().tanhshrink, g, v, [&] { return mul(g, square(tanh(v))); });
  });
}

namespace {

/// With s = sigmoid(u), u = k (x + 0.044715 x^3), k = 2 sqrt(2/pi): s + x s (1 - s) du/dx.
Variable gelu_tanh_slope(const Variable& x) {
  const double k = 2 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
  const Variable x2 = square(x), s = sigmoid(mul(x, affine(x2, k * 0.044715, k)));
  const Variable du = affine(x2, 3 * k * 0.044715, k);
  return add(s, mul(mul(x, du), sigmoid_slope(s)));
}

}  // namespace

Variable GeluFunction::operator()(const Variable& x, GeluForm form) const {
  if (form == GeluForm::tanh)
    return from_input("gelu", unary().gelu_tanh, x, [](const Variable& g, const Variable& v) {
      return fused("gelu_backward", backward().gelu_tanh, g, v, [&] { return mul(g, gelu_tanh_slope(v)); });
    });
  return from_input("gelu", unary().gelu, x, [](const Variable& g, const Variable& v) {
    return fused("gelu_backward", backward().gelu, g, v, [&] { return mul(g, gelu_slope(v)); });
  });
}

Variable silu(const Variable& x) {
  return from_input("silu", unary().silu, x, [](const Variable& g, const Variable& v) {
    return fused("silu_backward", backward().silu, g, v, [&] { return mul(g, silu_slope(v)); });
  });
}

Variable mish(const Variable& x) {
  return from_input("mish", unary().mish, x, [](const Variable& g, const Variable& v) {
    return fused("mish_backward", backward().mish, g, v, [&] {
      const Variable t = tanh(softplus(v));
      return mul(g, add(t, mul(mul(v, sigmoid(v)), tanh_slope(t))));
    });
  });
}

// --- linear above zero ------------------------------------------------------------------------------------------------

Variable relu(const Variable& x) {
  return from_output("relu", unary().relu, x, [](const Variable& g, const Variable& y) {
    return piecewise("relu_backward", backward().relu, g, y);
  });
}

Variable leaky_relu(const Variable& x, double negative_slope) {
  return from_input("leaky_relu", unary().leaky_relu, x, negative_slope, 0,
                    [negative_slope](const Variable& g, const Variable& v) {
                      return piecewise("leaky_relu_backward", backward().leaky_relu, g, v, negative_slope);
                    });
}

namespace {

/// x where x > 0, else w x; w broadcasts.
Variable prelu_broadcast(const Variable& x, const Variable& w) {
  Tensor y = zip("prelu", binary().prelu, x.value(), w.value());
  if (!recording(x, w)) return y;
  return record("prelu", std::move(y), {&x, &w}, [x = Saved(x), w = Saved(w)](const Variable& g, Wants wants) {
    const Variable &v = x.get(), &slope = w.get();
    const auto by_x = [&]() -> Variable {
      if (!recording(g, v, slope)) return zip3("prelu_backward", ternary().prelu, g.value(), v.value(), slope.value());
      return where(gt(v.value(), 0), g, mul(g, slope));
    };
    const auto by_w = [&] { return mul(g, clamp(v, -std::numeric_limits<double>::infinity(), 0)); };
    return gradients(wants[0] ? by_x() : no_gradient(), wants[1] ? sum_to(by_w(), w.shape()) : no_gradient());
  });
}

}  // namespace

Variable prelu(const Variable& x, const Variable& weight) {
  const Index channels = x.rank() == 0 ? 1 : x.shape()[x.rank() > 1 ? 1 : 0];
  if (weight.rank() != 1 || (weight.size() != 1 && weight.size() != channels))
    fail<ShapeError>("[prelu] the slopes ", weight.shape(), " do not fit x ", x.shape(), ", which has ", channels,
                     " channels. Hint: one slope [1], or one for each channel (axis 1)");
  Shape shape;
  if (weight.size() != 1) shape.push_back(weight.size());
  for (int axis = 2; axis < x.rank(); ++axis)
    if (weight.size() != 1) shape.push_back(1);
  return prelu_broadcast(x, reshape(weight, shape));
}

namespace {

/// y: x where x > 0, else alpha (exp(rate x) - 1). Its slope there is taken as alpha slope_rate exp(slope_rate x).
Variable elu_like(const char* op, const Variable& x, double alpha, double rate, double slope_rate) {
  return from_input(op, unary().elu, x, alpha, rate, [alpha, slope_rate](const Variable& g, const Variable& v) {
    return fused("elu_backward", backward().elu, g, v, alpha, slope_rate, [&] {
      // Limited first: the exponential that is not chosen must not overflow into the second derivative.
      const Variable below = clamp(v, -std::numeric_limits<double>::infinity(), 0);
      const Variable slope = affine(exp(affine(below, slope_rate, 0)), alpha * slope_rate, 0);
      return mul(g, where(gt(v.value(), 0), Tensor::scalar(1, v.dtype()), slope));
    });
  });
}

}  // namespace

Variable elu(const Variable& x, double alpha) { return elu_like("elu", x, alpha, 1, 1); }

Variable celu(const Variable& x, double alpha) {
  if (!(alpha > 0 || alpha < 0)) fail<ConfigError>("[celu] alpha must not be 0, got ", alpha);
  // PyTorch takes the slope with alpha rounded to single precision, which is off by up to 6e-8; so do we, to agree.
  return elu_like("celu", x, alpha, 1 / alpha, 1 / static_cast<double>(static_cast<float>(alpha)));
}

Variable selu(const Variable& x) {
  return from_input("selu", unary().selu, x, [](const Variable& g, const Variable& v) {
    return fused("selu_backward", backward().selu, g, v, [&] {
      constexpr double alpha = 1.6732632423543772848, lambda = 1.0507009873554804934;
      const Variable below = clamp(v, -std::numeric_limits<double>::infinity(), 0);
      return mul(g, where(gt(v.value(), 0), Tensor::scalar(lambda, v.dtype()), affine(exp(below), alpha * lambda, 0)));
    });
  });
}

// --- of straight pieces -----------------------------------------------------------------------------------------------

Variable hardtanh(const Variable& x, double low, double high) {
  if (!(low <= high)) fail<ConfigError>("[hardtanh] the bounds must be in order, got ", low, " and ", high);
  return from_input("hardtanh", unary().clamp, x, low, high, [low, high](const Variable& g, const Variable& v) {
    return piecewise("hardtanh_backward", backward().hardtanh, g, v, low, high);
  });
}

Variable relu6(const Variable& x) { return hardtanh(x, 0, 6); }

Variable hardsigmoid(const Variable& x) {
  return from_input("hardsigmoid", unary().hardsigmoid, x, [](const Variable& g, const Variable& v) {
    return piecewise("hardsigmoid_backward", backward().hardsigmoid, g, v);
  });
}

Variable hardswish(const Variable& x) {
  return from_input("hardswish", unary().hardswish, x, [](const Variable& g, const Variable& v) {
    return fused("hardswish_backward", backward().hardswish, g, v, [&] {
      const Tensor above = gt(v.value(), 3), within = logical_and(ge(v.value(), -3), le(v.value(), 3));
      return mul(g, where(within, affine(v, 1. / 3, 0.5), above.to(v.dtype())));
    });
  });
}

namespace {

void check_lambda(const char* op, double lambda) {
  if (!(lambda >= 0)) fail<ConfigError>("[", op, "] lambda must not be negative, got ", lambda);
}
/// Both shrink functions have slope 1 outside [-lambda, lambda].
Variable shrink(const char* op, const kernels::UnaryKernel& kernel, const Variable& x, double lambda) {
  check_lambda(op, lambda);
  return from_input(op, kernel, x, lambda, 0, [lambda](const Variable& g, const Variable& v) {
    return piecewise("shrink_backward", backward().hardshrink, g, v, lambda);
  });
}

}  // namespace

Variable hardshrink(const Variable& x, double lambda) { return shrink("hardshrink", unary().hardshrink, x, lambda); }
Variable softshrink(const Variable& x, double lambda) { return shrink("softshrink", unary().softshrink, x, lambda); }

Variable threshold(const Variable& x, double bound, double value) {
  return from_input("threshold", unary().threshold, x, bound, value, [bound](const Variable& g, const Variable& v) {
    return piecewise("threshold_backward", backward().threshold, g, v, bound);
  });
}

// --- gates ------------------------------------------------------------------------------------------------------------

namespace {

/// Half number `which`, 0 or 1, of x along an axis.
Tensor half(const Tensor& x, int axis, Index which) {
  const Index n = x.dim(axis) / 2;
  return x.narrow(axis, which * n, n);
}
Variable half(const Variable& x, int axis, Index which);

/// The adjoint: g there, and 0 in the other half.
Variable as_half(const Variable& g, int axis, Index which) {
  Shape shape = g.shape();
  shape[axis] *= 2;
  Tensor y = Tensor::zeros(shape, g.dtype());
  half(y, axis, which).copy_from(g.value(), "glu");
  if (!recording(g)) return y;
  return record("as_half", std::move(y), {&g},
                [axis, which](const Variable& gg, Wants) { return half(gg, axis, which); });
}
Variable half(const Variable& x, int axis, Index which) {
  Tensor y = half(x.value(), axis, which);
  if (!recording(x)) return y;
  return record("half", std::move(y), {&x},
                [axis, which](const Variable& g, Wants) { return as_half(g, axis, which); });
}

Variable glu_backward(const Variable& g, const Variable& x, int axis) {
  if (recording(g, x)) {
    const Variable a = half(x, axis, 0), s = sigmoid(half(x, axis, 1));
    return add(as_half(mul(g, s), axis, 0), as_half(mul(mul(g, a), sigmoid_slope(s)), axis, 1));
  }
  const Tensor a = half(x.value(), axis, 0), b = half(x.value(), axis, 1);
  Tensor dx = Tensor::empty(x.shape(), x.dtype());
  Tensor da = half(dx, axis, 0), db = half(dx, axis, 1);
  zip_into("glu_backward", binary().glu, g.value(), b, da);
  zip3_into("glu_backward", ternary().glu, g.value(), a, b, db);
  return dx;
}

}  // namespace

Variable glu(const Variable& x, int axis) {
  const int at = checked_axis("glu", axis, x.rank());
  if (x.shape()[at] % 2 != 0)
    fail<ShapeError>("[glu] axis ", axis, " of ", x.shape(), " is of odd length: it cannot be halved");
  Tensor y = zip("glu", binary().glu, half(x.value(), at, 0), half(x.value(), at, 1));
  if (!recording(x)) return y;
  return record(
      "glu", std::move(y), {&x}, [x = Saved(x), at](const Variable& g, Wants) { return glu_backward(g, x.get(), at); },
      settings(at));
}

}  // namespace espalier
