#include "espalier/autograd/ops/math.h"

#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {

std::vector<Row> math_rows() {
  return {
      {"square", unary(square)},
      {"sqrt", unary(sqrt)},
      {"rsqrt", unary(rsqrt)},
      {"reciprocal", unary(reciprocal)},
      {"exp", unary(exp)},
      {"expm1", unary(expm1)},
      {"log", unary(log)},
      {"log1p", unary(log1p)},
      {"log2", unary(log2)},
      {"log10", unary(log10)},
      {"erf", unary(erf)},
      {"erfc", unary(erfc)},
      {"sin", unary(sin)},
      {"cos", unary(cos)},
      {"tan", unary(tan)},
      {"asin", unary(asin)},
      {"acos", unary(acos)},
      {"atan", unary(atan)},
      {"sinh", unary(sinh)},
      {"cosh", unary(cosh)},
      {"asinh", unary(asinh)},
      {"acosh", unary(acosh)},
      {"atanh", unary(atanh)},
      {"floor", unary(floor)},
      {"ceil", unary(ceil)},
      {"round", unary(round)},
      {"trunc", unary(trunc)},
      {"pow", binary(pow)},
      {"atan2", binary(atan2)},
      {"pow_scalar", with_args([](const Variable& x, const Args& a) { return pow(x, a.number("exponent")); })},
  };
}

}  // namespace espalier::golden
