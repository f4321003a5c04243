#include "espalier/autograd/ops/elementwise.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

/// f(input, other, alpha)
Run scaled(BinaryFunction f, Variable (*with_alpha)(const Variable&, const Variable&, double)) {
  return of_call([f, with_alpha](const Call& call) {
    return call.args.has("alpha") ? with_alpha(call[0], call[1], call.args.number("alpha")) : f(call[0], call[1]);
  });
}

/// f(input, scalar)
Run scalar(Variable (*f)(const Variable&, double), const char* name = "scalar") {
  return with_args([f, name](const Variable& x, const Args& args) { return f(x, args.number(name)); });
}

}  // namespace

std::vector<Row> elementwise_rows() {
  using V = const Variable&;
  return {
      {"add", scaled(add, add)},
      {"sub", scaled(sub, sub)},
      {"mul", binary(mul)},
      {"div", binary(div)},
      {"maximum", binary(maximum)},
      {"minimum", binary(minimum)},
      {"add_scalar", scalar([](V x, double c) { return x + c; })},
      {"sub_scalar", scalar([](V x, double c) { return x - c; })},
      {"rsub_scalar", scalar([](V x, double c) { return c - x; })},
      {"mul_scalar", scalar([](V x, double c) { return x * c; })},
      {"div_scalar", scalar([](V x, double c) { return x / c; })},
      {"rdiv_scalar", scalar([](V x, double c) { return c / x; })},
      {"neg", unary(neg)},
      {"abs", unary(abs)},
      {"sign", unary(sign)},
      {"addcmul", of_call([](const Call& c) { return addcmul(c[0], c[1], c[2], c.args.number("value")); })},
      {"addcdiv", of_call([](const Call& c) { return addcdiv(c[0], c[1], c[2], c.args.number("value")); })},
      {"lerp", of_call([](const Call& c) { return lerp(c[0], c[1], c[2]); })},
  };
}

}  // namespace espalier::golden
