#include "espalier/autograd/ops/elementwise.h"

#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"

namespace espalier {
namespace {

using kernels::binary;
using kernels::unary;

/// kernel(g, v; p, q): one fused loop. Where the backward pass is recorded itself, `composed` says the same in ops.
template <class Composed>
Variable fused(const char* op, const kernels::BinaryKernel& kernel, const Variable& g, const Variable& v, double p,
               double q, Composed composed) {
  if (recording(g, v)) return composed();
  return zip(op, kernel, g.value(), v.value(), p, q);
}

/// g times a slope that is constant almost everywhere: its derivative is the same slope on the incoming gradient.
Variable piecewise(const char* op, const kernels::BinaryKernel& kernel, const Variable& g, const Variable& v,
                   double p = 0, double q = 0) {
  Tensor dx = zip(op, kernel, g.value(), v.value(), p, q);
  if (!recording(g)) return dx;
  return record(op, std::move(dx), {&g},
                [=, &kernel, v = v.detach()](const Variable& gg, Wants) { return piecewise(op, kernel, gg, v, p, q); });
}

}  // namespace

// --- two operands ---------------------------------------------------------------------------------------------------

Variable add(const Variable& a, const Variable& b) {
  Tensor y = zip("add", binary().add, a.value(), b.value());
  if (!recording(a, b)) return y;
  return record("add", std::move(y), {&a, &b}, [sa = a.shape(), sb = b.shape()](const Variable& g, Wants wants) {
    return gradients(wants[0] ? sum_to(g, sa) : no_gradient(), wants[1] ? sum_to(g, sb) : no_gradient());
  });
}

Variable sub(const Variable& a, const Variable& b) {
  Tensor y = zip("sub", binary().sub, a.value(), b.value());
  if (!recording(a, b)) return y;
  return record("sub", std::move(y), {&a, &b}, [sa = a.shape(), sb = b.shape()](const Variable& g, Wants wants) {
    return gradients(wants[0] ? sum_to(g, sa) : no_gradient(), wants[1] ? sum_to(neg(g), sb) : no_gradient());
  });
}

Variable mul(const Variable& a, const Variable& b) {
  Tensor y = zip("mul", binary().mul, a.value(), b.value());
  if (!recording(a, b)) return y;
  return record("mul", std::move(y), {&a, &b}, [a = Saved(a), b = Saved(b)](const Variable& g, Wants wants) {
    return gradients(wants[0] ? sum_to(mul(g, b.get()), a.shape()) : no_gradient(),
                     wants[1] ? sum_to(mul(g, a.get()), b.shape()) : no_gradient());
  });
}

Variable div(const Variable& a, const Variable& b) {
  Tensor y = zip("div", binary().div, a.value(), b.value());
  if (!recording(a, b)) return y;
  return record("div", y, {&a, &b},
                [sa = a.shape(), b = Saved(b), y = Saved::output(y)](const Variable& g, Wants wants) {
                  const Variable da = div(g, b.get());
                  return gradients(wants[0] ? sum_to(da, sa) : no_gradient(),
                                   wants[1] ? sum_to(neg(mul(da, y.get())), b.shape()) : no_gradient());
                });
}

namespace {

/// d maximum / da: 1 where a > b, a half where they are equal, else 0 (NaN where either is).
Tensor share_of_larger(const Tensor& a, const Tensor& b) {
  return zip_with("maximum", a, b, [](auto x, auto y) -> decltype(x) {
    return x > y ? decltype(x)(1) : x == y ? decltype(x)(0.5) : x < y ? decltype(x)(0) : x + y;
  });
}

Variable extreme(const char* op, const kernels::BinaryKernel& kernel, const Variable& a, const Variable& b,
                 bool larger) {
  Tensor y = zip(op, kernel, a.value(), b.value());
  if (!recording(a, b)) return y;
  return record(op, std::move(y), {&a, &b}, [a = Saved(a), b = Saved(b), larger](const Variable& g, Wants wants) {
    const Tensor of_a = larger ? share_of_larger(a.value(), b.value()) : share_of_larger(b.value(), a.value());
    return gradients(wants[0] ? sum_to(mul(g, of_a), a.shape()) : no_gradient(),
                     wants[1] ? sum_to(mul(g, affine(of_a, -1, 1)), b.shape()) : no_gradient());
  });
}

}  // namespace

Variable maximum(const Variable& a, const Variable& b) { return extreme("maximum", binary().maximum, a, b, true); }
Variable minimum(const Variable& a, const Variable& b) { return extreme("minimum", binary().minimum, a, b, false); }

// --- one operand ----------------------------------------------------------------------------------------------------

Variable affine(const Variable& x, double factor, double shift) {
  Tensor y = map("affine", unary().affine, x.value(), factor, shift);
  if (!recording(x)) return y;
  return record("affine", std::move(y), {&x},
                [factor](const Variable& g, Wants) { return factor == 1 ? g : affine(g, factor, 0); });
}

Variable neg(const Variable& x) {
  Tensor y = map("neg", unary().neg, x.value());
  if (!recording(x)) return y;
  return record("neg", std::move(y), {&x}, [](const Variable& g, Wants) { return neg(g); });
}

Variable abs(const Variable& x) {
  Tensor y = map("abs", unary().abs, x.value());
  if (!recording(x)) return y;
  return record("abs", std::move(y), {&x}, [x = Saved(x)](const Variable& g, Wants) {
    return piecewise("abs_backward", binary().abs_backward, g, x.get());
  });
}

Variable square(const Variable& x) {
  Tensor y = map("square", unary().square, x.value());
  if (!recording(x)) return y;
  return record("square", std::move(y), {&x},
                [x = Saved(x)](const Variable& g, Wants) { return mul(g, affine(x.get(), 2, 0)); });
}

Variable sqrt(const Variable& x) {
  Tensor y = map("sqrt", unary().sqrt, x.value());
  if (!recording(x)) return y;
  return record("sqrt", y, {&x},
                [y = Saved::output(y)](const Variable& g, Wants) { return div(g, affine(y.get(), 2, 0)); });
}

Variable reciprocal(const Variable& x) {
  Tensor y = map("reciprocal", unary().reciprocal, x.value());
  if (!recording(x)) return y;
  return record("reciprocal", y, {&x},
                [y = Saved::output(y)](const Variable& g, Wants) { return neg(mul(g, square(y.get()))); });
}

Variable pow(const Variable& x, double exponent) {
  Tensor y = map("pow", unary().pow_scalar, x.value(), exponent);
  if (!recording(x)) return y;
  return record("pow", std::move(y), {&x}, [x = Saved(x), exponent](const Variable& g, Wants) {
    if (exponent == 0) return affine(g, 0, 0);
    return mul(g, affine(pow(x.get(), exponent - 1), exponent, 0));
  });
}

Variable exp(const Variable& x) {
  Tensor y = map("exp", unary().exp, x.value());
  if (!recording(x)) return y;
  return record("exp", y, {&x}, [y = Saved::output(y)](const Variable& g, Wants) { return mul(g, y.get()); });
}

Variable log(const Variable& x) {
  Tensor y = map("log", unary().log, x.value());
  if (!recording(x)) return y;
  return record("log", std::move(y), {&x}, [x = Saved(x)](const Variable& g, Wants) { return div(g, x.get()); });
}

Variable tanh(const Variable& x) {
  Tensor y = map("tanh", unary().tanh, x.value());
  if (!recording(x)) return y;
  return record("tanh", y, {&x}, [y = Saved::output(y)](const Variable& g, Wants) {
    const Variable& v = y.get();
    return fused("tanh_backward", binary().tanh_backward, g, v, 0, 0, [&] { return mul(g, affine(square(v), -1, 1)); });
  });
}

Variable sigmoid(const Variable& x) {
  Tensor y = map("sigmoid", unary().sigmoid, x.value());
  if (!recording(x)) return y;
  return record("sigmoid", y, {&x}, [y = Saved::output(y)](const Variable& g, Wants) {
    const Variable& v = y.get();
    return fused("sigmoid_backward", binary().sigmoid_backward, g, v, 0, 0,
                 [&] { return mul(g, mul(v, affine(v, -1, 1))); });
  });
}

Variable relu(const Variable& x) {
  Tensor y = map("relu", unary().relu, x.value());
  if (!recording(x)) return y;
  return record("relu", y, {&x}, [y = Saved::output(y)](const Variable& g, Wants) {
    return piecewise("relu_backward", binary().relu_backward, g, y.get());
  });
}

Variable leaky_relu(const Variable& x, double negative_slope) {
  Tensor y = map("leaky_relu", unary().leaky_relu, x.value(), negative_slope);
  if (!recording(x)) return y;
  return record("leaky_relu", std::move(y), {&x}, [x = Saved(x), negative_slope](const Variable& g, Wants) {
    return piecewise("leaky_relu_backward", binary().leaky_relu_backward, g, x.get(), negative_slope);
  });
}

Variable softplus(const Variable& x, double beta, double threshold) {
  if (!(beta > 0)) fail<ConfigError>("[softplus] beta must be above 0, got ", beta);
  Tensor y = map("softplus", unary().softplus, x.value(), beta, threshold);
  if (!recording(x)) return y;
  return record("softplus", std::move(y), {&x}, [x = Saved(x), beta, threshold](const Variable& g, Wants) {
    const Variable& v = x.get();
    return fused("softplus_backward", binary().softplus_backward, g, v, beta, threshold, [&] {
      // Beyond the threshold the function is x itself: a slope of exactly 1.
      const Tensor linear_part = map_with("softplus", v.value(), [=](auto e) {
        return static_cast<decltype(e)>(static_cast<double>(e) * beta > threshold ? 1 : 0);
      });
      return mul(g, linear_part + affine(linear_part, -1, 1) * sigmoid(affine(v, beta, 0)));
    });
  });
}

Variable clamp(const Variable& x, double low, double high) {
  if (!(low <= high)) fail<ConfigError>("[clamp] the bounds must be in order, got ", low, " and ", high);
  Tensor y = map("clamp", unary().clamp, x.value(), low, high);
  if (!recording(x)) return y;
  return record("clamp", std::move(y), {&x}, [x = Saved(x), low, high](const Variable& g, Wants) {
    return piecewise("clamp_backward", binary().clamp_backward, g, x.get(), low, high);
  });
}

}  // namespace espalier
