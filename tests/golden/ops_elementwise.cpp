#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// f(input, alpha other)
Run scaled(BinaryFunction f) {
  return of_call([f](const Call& call) {
    const double alpha = call.args.number("alpha", 1);
    return f(call[0], alpha == 1 ? call[1] : call[1] * alpha);
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
      {"add", scaled(add)},
      {"sub", scaled(sub)},
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
      {"pow_scalar", scalar(pow, "exponent")},
      {"neg", unary(neg)},
      {"abs", unary(abs)},
      {"square", unary(square)},
      {"sqrt", unary(sqrt)},
      {"reciprocal", unary(reciprocal)},
      {"exp", unary(exp)},
      {"log", unary(log)},
      {"tanh", unary(tanh)},
      {"sigmoid", unary(sigmoid)},
      {"relu", unary(relu)},
      {"leaky_relu", scalar(leaky_relu, "negative_slope")},
      {"softplus", with_args([](V x, const Args& a) { return softplus(x, a.number("beta"), a.number("threshold")); })},
      {"clamp", with_args([](V x, const Args& a) {
         // PyTorch gives the upper bound everywhere where the bounds are not in order; here that is an error.
         if (a.number("min", -infinity) > a.number("max", infinity)) throw Unsupported{"bounds out of order"};
         return clamp(x, a.number("min", -infinity), a.number("max", infinity));
       })},
  };
}

}  // namespace espalier::golden
