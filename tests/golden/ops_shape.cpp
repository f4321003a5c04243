#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

int axis(const Args& args, const char* name) { return static_cast<int>(args.integer(name)); }

/// PyTorch's expand: -1 keeps the length of that axis, counted from the last.
Shape expanded(const Shape& from, Shape to) {
  for (int k = 1; k <= from.rank(); ++k)
    if (to[-k] == -1) to[-k] = from[-k];
  return to;
}

}  // namespace

std::vector<Row> shape_rows() {
  using V = const Variable&;
  return {
      {"reshape", with_args([](V x, const Args& a) { return reshape(x, a.dims("shape")); })},
      {"flatten", with_args([](V x, const Args& a) { return flatten(x, axis(a, "start_dim"), axis(a, "end_dim")); })},
      {"transpose", with_args([](V x, const Args& a) { return transpose(x, axis(a, "dim0"), axis(a, "dim1")); })},
      {"permute", with_args([](V x, const Args& a) { return permute(x, a.dims("dims")); })},
      {"expand", with_args([](V x, const Args& a) { return broadcast_to(x, expanded(x.shape(), a.dims("shape"))); })},
  };
}

}  // namespace espalier::golden
