// Expressions of several ops: a value used twice, a branch cut off, two outputs.
#include <map>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

using Outputs = std::vector<Variable>;

Outputs powers(const Call& call) {
  const Variable x = call.named("x");
  Variable total = x, power = x;
  for (Index k = 1; k < call.args.integer("n"); ++k) {
    power = power * x;
    total = total + power;
  }
  return {total};
}

Outputs diamond(const Call& call) {
  const Variable y = tanh(call.named("x"));
  return {y * y + y};
}

Outputs two_outputs(const Call& call) {
  const Variable y = exp(call.named("x"));
  return {y, sum(y, {0})};
}

Outputs long_chain(const Call& call) {
  Variable x = call.named("x");
  for (Index k = 0; k < call.args.integer("n"); ++k) x = x + 0.01 * sin(x);
  return {x};
}

Outputs softmax_by_hand(const Call& call) {
  const Variable x = call.named("x"), e = exp(x - amax(x, {1}, true));
  return {e / sum(e, {1}, true)};
}

Outputs view_chain(const Call& call) {
  const Variable x = call.named("x"), rows = slice(reshape(permute(x, {2, 0, 1}), {4, 6}), 0, 1, 4);
  return {sum(transpose(slice(rows, 1, 0, 6, 2), 0, 1), {0}) * mean(x)};
}

const std::map<std::string, Op>& expressions() {
  static const std::map<std::string, Op> table = {
      {"bcast-reuse", [](const Call& c) { return Outputs{(c[0] + c[1]) * c[1] + sum(c[1])}; }},
      {"detach", [](const Call& c) { return Outputs{exp(c[0]) * exp(c[0]).detach()}; }},
      {"diamond", diamond},
      {"fan-out", powers},
      {"long-chain", long_chain},
      {"mlp", [](const Call& c) { return Outputs{linear(relu(linear(c[0], c[1], c[2])), c[3], c[4])}; }},
      {"self-matmul", [](const Call& c) { return Outputs{matmul(matmul(c[0], transpose(c[0], 0, 1)), c[0])}; }},
      {"self-mul", [](const Call& c) { return Outputs{c[0] * c[0] * c[0]}; }},
      {"self-sub", [](const Call& c) { return Outputs{c[0] - c[0]}; }},
      {"softmax-by-hand", softmax_by_hand},
      {"two-outputs", two_outputs},
      {"view-chain", view_chain},
      {"unused-branch", [](const Call& c) { return Outputs{(c[1] * c[0]).detach() * c[0]}; }},
  };
  return table;
}

}  // namespace

std::vector<Row> expression_rows() {
  const auto run = [](const Call& call) {
    const std::string name = call.args.text("name");
    const auto found = expressions().find(name);
    if (found == expressions().end()) throw Unsupported{"expression " + name};
    return found->second(call);
  };
  return {{"expr", differentiable(run)}};
}

}  // namespace espalier::golden
