#include "espalier/autograd/ops/compare.h"

#include <cmath>
#include <limits>

#include "espalier/autograd/ops/detail/elementwise_rules.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/compare.h"

namespace espalier {

using kernels::backward;
using kernels::unary;

Variable where(const Tensor& condition, const Variable& a, const Variable& b) {
  Tensor y = where(condition, a.value(), b.value());
  if (!recording(a, b)) return y;
  return record(
      "where", std::move(y), {&a, &b},
      [condition = Saved(Variable(condition)), sa = a.shape(), sb = b.shape()](const Variable& g, Wants wants) {
        const Tensor& c = condition.value();
        const Variable nothing(Tensor::scalar(0, g.dtype()));
        return gradients(wants[0] ? sum_to(where(c, g, nothing), sa) : no_gradient(),
                         wants[1] ? sum_to(where(c, nothing, g), sb) : no_gradient());
      });
}

Variable masked_fill(const Variable& x, const Tensor& mask, double value) {
  if (mask.dtype() != DType::boolean)
    fail<DTypeError>("[masked_fill] the mask must be bool, got ", mask.dtype(), " ", mask.shape(),
                     ". Hint: ne(mask, 0), or .to(DType::boolean)");
  return where(mask, Variable(Tensor::scalar(value, x.dtype())), x);
}

Variable clamp(const Variable& x, double low, double high) {
  if (std::isnan(low) || std::isnan(high)) fail<ConfigError>("[clamp] a bound is NaN: ", low, " and ", high);
  return detail::from_input("clamp", unary().clamp, x, low, high, [low, high](const Variable& g, const Variable& v) {
    return detail::piecewise("clamp_backward", backward().clamp, g, v, low, high);
  });
}

namespace {

/// g where the condition holds, summed to `shape`.
Variable flowing(const Variable& g, const Tensor& condition, const Shape& shape) {
  return sum_to(where(condition, g, Variable(Tensor::scalar(0, g.dtype()))), shape);
}
/// The bound, or one that never binds.
Tensor bound_or(const Variable& bound, double none, DType type) {
  return bound.defined() ? bound.value() : Tensor::scalar(none, type);
}

}  // namespace

Variable clamp(const Variable& x, const Variable& low, const Variable& high) {
  if (!low.defined() && !high.defined()) fail<ConfigError>("[clamp] both bounds are undefined: there is nothing to do");
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const Tensor least = bound_or(low, -infinity, x.dtype()), most = bound_or(high, infinity, x.dtype());
  Tensor y = zip("clamp", kernels::binary().minimum, zip("clamp", kernels::binary().maximum, x.value(), least), most);
  if (!recording(x, low, high)) return y;
  return record("clamp", std::move(y), {&x, &low, &high},
                [x = Saved(x), low = Saved(Variable(least)), high = Saved(Variable(most)), bounded = high.defined()](
                    const Variable& g, Wants wants) {
                  const Tensor &v = x.value(), &l = low.value(), &h = high.value();
                  const auto by_low = [&] {
                    return bounded ? logical_and(lt(v, l), lt(l, h)) : lt(v, l);
                  };  // l may be infinite
                  return gradients(wants[0] ? flowing(g, logical_and(ge(v, l), le(v, h)), x.shape()) : no_gradient(),
                                   wants[1] ? flowing(g, by_low(), l.shape()) : no_gradient(),
                                   wants[2] ? flowing(g, logical_or(gt(v, h), lt(h, l)), h.shape()) : no_gradient());
                });
}

}  // namespace espalier
