#include "espalier/autograd/ops/math.h"

#include <numbers>

#include "espalier/autograd/ops/detail/elementwise_rules.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/compare.h"

namespace espalier {

using detail::flat;
using detail::from_input;
using detail::from_output;
using detail::fused;
using kernels::backward;
using kernels::binary;
using kernels::ternary;
using kernels::unary;

// --- powers -----------------------------------------------------------------------------------------------------------

Variable square(const Variable& x) {
  return from_input("square", unary().square, x, [](const Variable& g, const Variable& v) {
    return fused("square_backward", binary().mul_scaled, g, v, 2, 0, [&] { return mul(g, affine(v, 2, 0)); });
  });
}

Variable sqrt(const Variable& x) {
  return from_output("sqrt", unary().sqrt, x, [](const Variable& g, const Variable& y) {
    return fused("sqrt_backward", binary().div_scaled, g, y, 0.5, 0, [&] { return div(g, affine(y, 2, 0)); });
  });
}

Variable rsqrt(const Variable& x) {
  return from_output("rsqrt", unary().rsqrt, x, [](const Variable& g, const Variable& y) {
    return fused("rsqrt_backward", backward().rsqrt, g, y, [&] { return mul(g, affine(mul(square(y), y), -0.5, 0)); });
  });
}

Variable reciprocal(const Variable& x) {
  return from_output("reciprocal", unary().reciprocal, x, [](const Variable& g, const Variable& y) {
    return fused("reciprocal_backward", backward().reciprocal, g, y, [&] { return neg(mul(g, square(y))); });
  });
}

Variable pow(const Variable& x, double exponent) {
  return from_input("pow", unary().pow_scalar, x, exponent, 0, [exponent](const Variable& g, const Variable& v) {
    if (exponent == 0) return flat(g);
    const Variable power = pow(v, exponent - 1);
    return fused("pow_backward", binary().mul_scaled, g, power, exponent, 0,
                 [&] { return mul(g, affine(power, exponent, 0)); });
  });
}

namespace {

/// b x^(b-1); 0 where b is 0 and x^-1 is no finite number.
Variable slope_by_base(const Variable& x, const Variable& b) {
  const Tensor inverse = map("pow", unary().reciprocal, x.value());
  const Tensor constant = logical_and(eq(b.value(), 0), logical_not(isfinite(inverse)));
  return mul(b, pow(x, masked_fill(affine(b, 1, -1), constant, 0)));
}
/// x^b log(x); 0 where x is 0 and b is not negative: 0^b does not change with b.
Variable slope_by_exponent(const Variable& x, const Variable& b, const Variable& y) {
  const Tensor constant = logical_and(eq(x.value(), 0), ge(b.value(), 0));
  return mul(y, log(masked_fill(x, constant, 1)));
}

}  // namespace

Variable pow(const Variable& x, const Variable& exponent) {
  Tensor y = zip("pow", binary().pow, x.value(), exponent.value());
  if (!recording(x, exponent)) return y;
  return record(
      "pow", y, {&x, &exponent},
      [x = Saved(x), b = Saved(exponent), y = Saved::output(y)](const Variable& g, Wants wants) {
        return gradients(
            wants[0] ? sum_to(mul(g, slope_by_base(x.get(), b.get())), x.shape()) : no_gradient(),
            wants[1] ? sum_to(mul(g, slope_by_exponent(x.get(), b.get(), y.get())), b.shape()) : no_gradient());
      });
}

// --- exponentials and logarithms --------------------------------------------------------------------------------------

Variable exp(const Variable& x) {
  return from_output("exp", unary().exp, x, [](const Variable& g, const Variable& y) { return mul(g, y); });
}

Variable expm1(const Variable& x) {
  return from_output("expm1", unary().expm1, x, [](const Variable& g, const Variable& y) {
    return fused("expm1_backward", backward().expm1, g, y, [&] { return mul(g, affine(y, 1, 1)); });
  });
}

Variable log(const Variable& x) {
  return from_input("log", unary().log, x, [](const Variable& g, const Variable& v) { return div(g, v); });
}

Variable log1p(const Variable& x) {
  return from_input("log1p", unary().log1p, x, [](const Variable& g, const Variable& v) {
    return fused("log1p_backward", backward().log1p, g, v, [&] { return div(g, affine(v, 1, 1)); });
  });
}

namespace {

/// log(x) / ln(base)
Variable log_to(const char* op, const kernels::UnaryKernel& kernel, const Variable& x, double ln_base) {
  return from_input(op, kernel, x, [ln_base](const Variable& g, const Variable& v) {
    return fused("log_backward", binary().div_scaled, g, v, 1 / ln_base, 0,
                 [&] { return div(affine(g, 1 / ln_base, 0), v); });
  });
}

/// d erf: p 2/sqrt(pi) exp(-x^2) g.
Variable erf_slope(const Variable& g, const Variable& x, double p) {
  return fused("erf_backward", backward().erf, g, x, p, 0,
               [&] { return mul(g, affine(exp(neg(square(x))), 2 * p * std::numbers::inv_sqrtpi, 0)); });
}

}  // namespace

Variable xlogy(const Variable& x, const Variable& y) {
  const Tensor unused = logical_and(eq(x.value(), 0), logical_not(isnan(y.value())));
  Tensor product = where(unused, Tensor::scalar(0, x.dtype()),
                         zip("xlogy", binary().mul, x.value(), map("xlogy", unary().log, y.value())));
  if (!recording(x, y)) return product;
  return record("xlogy", std::move(product), {&x, &y}, [x = Saved(x), y = Saved(y)](const Variable& g, Wants wants) {
    const Variable &a = x.get(), &b = y.get();
    // At x = 0 the slope is log(y) as anywhere else, if there is one.
    const auto by_x = [&] { return mul(g, log(masked_fill(b, logical_and(eq(a.value(), 0), le(b.value(), 0)), 1))); };
    return gradients(wants[0] ? sum_to(by_x(), a.shape()) : no_gradient(),
                     wants[1] ? sum_to(mul(g, div(a, b)), b.shape()) : no_gradient());
  });
}

Variable log2(const Variable& x) { return log_to("log2", unary().log2, x, std::numbers::ln2); }
Variable log10(const Variable& x) { return log_to("log10", unary().log10, x, std::numbers::ln10); }

Variable erf(const Variable& x) {
  return from_input("erf", unary().erf, x, [](const Variable& g, const Variable& v) { return erf_slope(g, v, 1); });
}

Variable erfc(const Variable& x) {
  return from_input("erfc", unary().erfc, x, [](const Variable& g, const Variable& v) { return erf_slope(g, v, -1); });
}

// --- circular and hyperbolic ------------------------------------------------------------------------------------------

Variable sin(const Variable& x) {
  return from_input("sin", unary().sin, x, [](const Variable& g, const Variable& v) {
    return fused("sin_backward", backward().sin, g, v, [&] { return mul(g, cos(v)); });
  });
}

Variable cos(const Variable& x) {
  return from_input("cos", unary().cos, x, [](const Variable& g, const Variable& v) {
    return fused("cos_backward", backward().cos, g, v, [&] { return neg(mul(g, sin(v))); });
  });
}

Variable tan(const Variable& x) {
  return from_output("tan", unary().tan, x, [](const Variable& g, const Variable& y) {
    return fused("tan_backward", backward().tan, g, y, [&] { return mul(g, affine(square(y), 1, 1)); });
  });
}

namespace {

/// p g / sqrt(1 - x^2)
Variable asin_slope(const Variable& g, const Variable& x, double p) {
  return fused("asin_backward", backward().asin, g, x, p, 0,
               [&] { return mul(affine(g, p, 0), rsqrt(affine(square(x), -1, 1))); });
}

}  // namespace

Variable asin(const Variable& x) {
  return from_input("asin", unary().asin, x, [](const Variable& g, const Variable& v) { return asin_slope(g, v, 1); });
}

Variable acos(const Variable& x) {
  return from_input("acos", unary().acos, x, [](const Variable& g, const Variable& v) { return asin_slope(g, v, -1); });
}

Variable atan(const Variable& x) {
  return from_input("atan", unary().atan, x, [](const Variable& g, const Variable& v) {
    return fused("atan_backward", backward().atan, g, v, 1, 0, [&] { return div(g, affine(square(v), 1, 1)); });
  });
}

namespace {

/// p g b / (a^2 + b^2)
Variable atan2_slope(const Variable& g, const Variable& a, const Variable& b, double p) {
  if (!recording(g, a, b)) return zip3("atan2_backward", ternary().atan2, g.value(), a.value(), b.value(), p);
  return div(mul(affine(g, p, 0), b), add(square(a), square(b)));
}

}  // namespace

Variable atan2(const Variable& y, const Variable& x) {
  Tensor angle = zip("atan2", binary().atan2, y.value(), x.value());
  if (!recording(y, x)) return angle;
  return record("atan2", std::move(angle), {&y, &x}, [y = Saved(y), x = Saved(x)](const Variable& g, Wants wants) {
    return gradients(wants[0] ? sum_to(atan2_slope(g, y.get(), x.get(), 1), y.shape()) : no_gradient(),
                     wants[1] ? sum_to(atan2_slope(g, x.get(), y.get(), -1), x.shape()) : no_gradient());
  });
}

Variable sinh(const Variable& x) {
  return from_input("sinh", unary().sinh, x, [](const Variable& g, const Variable& v) { return mul(g, cosh(v)); });
}

Variable cosh(const Variable& x) {
  return from_input("cosh", unary().cosh, x, [](const Variable& g, const Variable& v) { return mul(g, sinh(v)); });
}

Variable asinh(const Variable& x) {
  return from_input("asinh", unary().asinh, x, [](const Variable& g, const Variable& v) {
    return fused("asinh_backward", backward().asinh, g, v, [&] { return mul(g, rsqrt(affine(square(v), 1, 1))); });
  });
}

Variable acosh(const Variable& x) {
  return from_input("acosh", unary().acosh, x, [](const Variable& g, const Variable& v) {
    return fused("acosh_backward", backward().acosh, g, v, [&] { return mul(g, rsqrt(affine(square(v), 1, -1))); });
  });
}

Variable atanh(const Variable& x) {
  return from_input("atanh", unary().atanh, x, [](const Variable& g, const Variable& v) {
    return fused("atanh_backward", backward().atanh, g, v, [&] { return div(g, affine(square(v), -1, 1)); });
  });
}

// --- steps ------------------------------------------------------------------------------------------------------------

namespace {

Variable step(const char* op, const kernels::UnaryKernel& kernel, const Variable& x) {
  Tensor y = map(op, kernel, x.value());
  if (!recording(x)) return y;
  return record(op, std::move(y), {&x}, [](const Variable& g, Wants) { return flat(g); });
}

}  // namespace

Variable floor(const Variable& x) { return step("floor", unary().floor, x); }
Variable ceil(const Variable& x) { return step("ceil", unary().ceil, x); }
Variable round(const Variable& x) { return step("round", unary().round, x); }
Variable trunc(const Variable& x) { return step("trunc", unary().trunc, x); }

}  // namespace espalier
