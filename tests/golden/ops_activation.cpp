#include "espalier/autograd/ops/activation.h"

#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

/// f(input, number)
Run with_number(Variable (*f)(const Variable&, double), const char* name) {
  return with_args([f, name](const Variable& x, const Args& args) { return f(x, args.number(name)); });
}

Variable gelu_of(const Variable& x, const Args& args) {
  const std::string form = args.text("approximate", "none");
  if (form != "none" && form != "tanh") throw Unsupported{"approximate " + form};
  return gelu(x, form == "tanh" ? GeluForm::tanh : GeluForm::exact);
}

}  // namespace

std::vector<Row> activation_rows() {
  using V = const Variable&;
  return {
      {"tanh", unary(tanh)},
      {"sigmoid", unary(sigmoid)},
      {"logsigmoid", unary(logsigmoid)},
      {"softsign", unary(softsign)},
      {"tanhshrink", unary(tanhshrink)},
      {"silu", unary(silu)},
      {"mish", unary(mish)},
      {"relu", unary(relu)},
      {"selu", unary(selu)},
      {"relu6", unary(relu6)},
      {"hardsigmoid", unary(hardsigmoid)},
      {"hardswish", unary(hardswish)},
      {"gelu", with_args(gelu_of)},
      {"softplus", with_args([](V x, const Args& a) { return softplus(x, a.number("beta"), a.number("threshold")); })},
      {"leaky_relu", with_number(leaky_relu, "negative_slope")},
      {"elu", with_number(elu, "alpha")},
      {"celu", with_number(celu, "alpha")},
      {"hardshrink", with_number(hardshrink, "lambd")},
      {"softshrink", with_number(softshrink, "lambd")},
      {"hardtanh", with_args([](V x, const Args& a) { return hardtanh(x, a.number("min_val"), a.number("max_val")); })},
      {"threshold",
       with_args([](V x, const Args& a) { return threshold(x, a.number("threshold"), a.number("value")); })},
      {"prelu", binary(prelu)},
      {"glu", along_axis(glu)},
  };
}

}  // namespace espalier::golden
