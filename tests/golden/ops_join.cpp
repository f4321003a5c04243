#include "espalier/autograd/ops/join.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

int axis(const Args& args) { return static_cast<int>(args.integer("dim")); }

Run joined(Variable (*f)(std::span<const Variable>, int)) {
  return of_call([f](const Call& call) {
    std::vector<Variable> pieces;
    for (std::size_t k = 0; k < call.size(); ++k) pieces.push_back(call[k]);
    return f(pieces, axis(call.args));
  });
}

}  // namespace

std::vector<Row> join_rows() {
  return {
      {"cat", joined(cat)},
      {"stack", joined(stack)},
      {"split", differentiable([](const Call& call) {
         const Args& args = call.args;
         return args.is_list("split_size") ? split(call[0], args.integers("split_size"), axis(args))
                                           : split(call[0], args.integer("split_size"), axis(args));
       })},
      {"chunk",
       differentiable([](const Call& call) { return chunk(call[0], call.args.integer("chunks"), axis(call.args)); })},
      {"unbind", differentiable([](const Call& call) { return unbind(call[0], axis(call.args)); })},
  };
}

}  // namespace espalier::golden
