#include "espalier/core/compare.h"

#include <limits>

#include "espalier/autograd/ops/compare.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// f(input, other), which has no gradient.
Run comparison(Tensor (*f)(const Tensor&, const Tensor&)) {
  return of_call([f](const Call& call) { return Variable(f(call[0].value(), call[1].value())); });
}
/// f(input)
Run kind(Tensor (*f)(const Tensor&)) {
  return of_call([f](const Call& call) { return Variable(f(call[0].value())); });
}
/// f(input, axis), or of everything.
Run logic(Tensor (*f)(const Tensor&, const Dims&, bool)) {
  return with_args([f](const Variable& x, const Args& args) {
    return Variable(f(x.value(), args.has("dim") ? args.dims("dim") : Dims{}, false));
  });
}

}  // namespace

std::vector<Row> compare_rows() {
  using V = const Variable&;
  return {
      {"eq", comparison(eq)},
      {"ne", comparison(ne)},
      {"lt", comparison(lt)},
      {"le", comparison(le)},
      {"gt", comparison(gt)},
      {"ge", comparison(ge)},
      {"isnan", kind(isnan)},
      {"isinf", kind(isinf)},
      {"isfinite", kind(isfinite)},
      {"any", logic(any)},
      {"all", logic(all)},
      {"where", of_call([](const Call& c) { return where(c[0].value(), c[1], c[2]); })},
      {"masked_fill", of_call([](const Call& c) { return masked_fill(c[0], c[1].value(), c.args.number("value")); })},
      {"clamp",
       with_args([](V x, const Args& a) { return clamp(x, a.number("min", -infinity), a.number("max", infinity)); })},
      {"clamp_tensor", of_call([](const Call& c) { return clamp(c[0], c.named("min"), c.named("max")); })},
  };
}

}  // namespace espalier::golden
