#include "espalier/autograd/ops/elementwise.h"

#include "espalier/autograd/ops/detail/elementwise_rules.h"
#include "espalier/autograd/ops/reduce.h"

namespace espalier {

using detail::flat;
using detail::from_input;
using detail::piecewise;
using kernels::backward;
using kernels::binary;
using kernels::ternary;
using kernels::unary;

// --- several operands -------------------------------------------------------------------------------------------------

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

namespace {

Variable add_scaled(const char* op, const Variable& a, const Variable& b, double alpha) {
  Tensor y = zip(op, binary().add_scaled, a.value(), b.value(), alpha);
  if (!recording(a, b)) return y;
  return record(op, std::move(y), {&a, &b}, [sa = a.shape(), sb = b.shape(), alpha](const Variable& g, Wants wants) {
    return gradients(wants[0] ? sum_to(g, sa) : no_gradient(),
                     wants[1] ? affine(sum_to(g, sb), alpha, 0) : no_gradient());
  });
}

}  // namespace

Variable add(const Variable& a, const Variable& b, double alpha) { return add_scaled("add", a, b, alpha); }
Variable sub(const Variable& a, const Variable& b, double alpha) { return add_scaled("sub", a, b, -alpha); }

Variable mul(const Variable& a, const Variable& b) {
  Tensor y = zip("mul", binary().mul, a.value(), b.value());
  if (!recording(a, b)) return y;
  return record("mul", std::move(y), {&a, &b}, [a = Saved(a), b = Saved(b)](const Variable& g, Wants wants) {
    return gradients(wants[0] ? sum_to(mul(g, b.get()), a.shape()) : no_gradient(),
                     wants[1] ? sum_to(mul(g, a.get()), b.shape()) : no_gradient());
  });
}

namespace {

/// p a b, in one loop unless it is recorded.
Variable product(const Variable& a, const Variable& b, double p) {
  if (recording(a, b)) return affine(mul(a, b), p, 0);
  return zip("mul", binary().mul_scaled, a.value(), b.value(), p);
}

}  // namespace

Variable div(const Variable& a, const Variable& b) {
  Tensor y = zip("div", binary().div, a.value(), b.value());
  if (!recording(a, b)) return y;
  return record("div", y, {&a, &b},
                [sa = a.shape(), b = Saved(b), y = Saved::output(y)](const Variable& g, Wants wants) {
                  const Variable& v = b.get();  // g (y / b): g / b may be infinite where y is 0
                  return gradients(wants[0] ? sum_to(div(g, v), sa) : no_gradient(),
                                   wants[1] ? sum_to(product(g, div(y.get(), v), -1), b.shape()) : no_gradient());
                });
}

namespace {

/// g where b is not the larger (sign = 1) or the smaller one (sign = -1), half of it where both are equal.
Variable share(const Variable& g, const Tensor& a, const Tensor& b, double sign) {
  Tensor dx = zip3("maximum_backward", ternary().larger, g.value(), a, b, sign);
  if (!recording(g)) return dx;
  return record("maximum_backward", std::move(dx), {&g}, [a = Saved(a), b = Saved(b), sign](const Variable& gg, Wants) {
    return share(gg, a.value(), b.value(), sign);
  });
}

Variable extreme(const char* op, const kernels::BinaryKernel& kernel, const Variable& a, const Variable& b,
                 double sign) {
  Tensor y = zip(op, kernel, a.value(), b.value());
  if (!recording(a, b)) return y;
  return record(op, std::move(y), {&a, &b}, [a = Saved(a), b = Saved(b), sign](const Variable& g, Wants wants) {
    return gradients(wants[0] ? sum_to(share(g, a.value(), b.value(), sign), a.shape()) : no_gradient(),
                     wants[1] ? sum_to(share(g, b.value(), a.value(), sign), b.shape()) : no_gradient());
  });
}

}  // namespace

Variable maximum(const Variable& a, const Variable& b) { return extreme("maximum", binary().maximum, a, b, 1); }
Variable minimum(const Variable& a, const Variable& b) { return extreme("minimum", binary().minimum, a, b, -1); }

Variable addcmul(const Variable& x, const Variable& a, const Variable& b, double value) {
  Tensor y = zip3("addcmul", ternary().addcmul, x.value(), a.value(), b.value(), value);
  if (!recording(x, a, b)) return y;
  return record("addcmul", std::move(y), {&x, &a, &b},
                [sx = x.shape(), a = Saved(a), b = Saved(b), value](const Variable& g, Wants wants) {
                  return gradients(wants[0] ? sum_to(g, sx) : no_gradient(),
                                   wants[1] ? sum_to(product(g, b.get(), value), a.shape()) : no_gradient(),
                                   wants[2] ? sum_to(product(g, a.get(), value), b.shape()) : no_gradient());
                });
}

Variable addcdiv(const Variable& x, const Variable& a, const Variable& b, double value) {
  Tensor y = zip3("addcdiv", ternary().addcdiv, x.value(), a.value(), b.value(), value);
  if (!recording(x, a, b)) return y;
  return record("addcdiv", std::move(y), {&x, &a, &b},
                [sx = x.shape(), a = Saved(a), b = Saved(b), value](const Variable& g, Wants wants) {
                  const Variable da = wants[1] || wants[2] ? div(affine(g, value, 0), b.get()) : no_gradient();
                  return gradients(
                      wants[0] ? sum_to(g, sx) : no_gradient(), wants[1] ? sum_to(da, a.shape()) : no_gradient(),
                      wants[2] ? sum_to(product(da, div(a.get(), b.get()), -1), b.shape()) : no_gradient());
                });
}

Variable lerp(const Variable& a, const Variable& b, const Variable& weight) {
  Tensor y = zip3("lerp", ternary().lerp, a.value(), b.value(), weight.value());
  if (!recording(a, b, weight)) return y;
  return record("lerp", std::move(y), {&a, &b, &weight},
                [a = Saved(a), b = Saved(b), weight = Saved(weight)](const Variable& g, Wants wants) {
                  const Variable& w = weight.get();
                  return gradients(wants[0] ? sum_to(mul(g, affine(w, -1, 1)), a.shape()) : no_gradient(),
                                   wants[1] ? sum_to(mul(g, w), b.shape()) : no_gradient(),
                                   wants[2] ? sum_to(mul(g, sub(b.get(), a.get())), weight.shape()) : no_gradient());
                });
}
Variable lerp(const Variable& a, const Variable& b, double weight) {
  return lerp(a, b, Variable(Tensor::scalar(weight, a.dtype())));
}

// --- one operand ------------------------------------------------------------------------------------------------------

Variable affine(const Variable& x, double factor, double shift) {
  Tensor y = map("affine", unary().affine, x.value(), factor, shift);
  if (!recording(x)) return y;
  return record("affine", std::move(y), {&x},
                [factor](const Variable& g, Wants) { return factor == 1 ? g : affine(g, factor, 0); });
}

Variable div(const Variable& x, double c) {
  Tensor y = map("div", unary().divide, x.value(), c);
  if (!recording(x)) return y;
  return record("div", std::move(y), {&x}, [c](const Variable& g, Wants) { return div(g, c); });
}

Variable neg(const Variable& x) {
  Tensor y = map("neg", unary().neg, x.value());
  if (!recording(x)) return y;
  return record("neg", std::move(y), {&x}, [](const Variable& g, Wants) { return neg(g); });
}

Variable abs(const Variable& x) {
  return from_input("abs", unary().abs, x, [](const Variable& g, const Variable& v) {
    return piecewise("abs_backward", backward().abs, g, v);
  });
}

Variable sign(const Variable& x) {
  Tensor y = map("sign", unary().sign, x.value());
  if (!recording(x)) return y;
  return record("sign", std::move(y), {&x}, [](const Variable& g, Wants) { return flat(g); });
}

}  // namespace espalier
