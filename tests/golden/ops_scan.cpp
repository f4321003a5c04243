#include "espalier/autograd/ops/scan.h"
#include "espalier/autograd/ops/sort.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

/// values, indices
Run indexed(IndexedResult (*f)(const Variable&, int axis, const Args&)) {
  return differentiable([f](const Call& call) {
    const IndexedResult y = f(call[0], static_cast<int>(call.args.integer("dim")), call.args);
    return std::vector<Variable>{y.values, y.indices};
  });
}

}  // namespace

std::vector<Row> scan_rows() {
  using V = const Variable&;
  return {
      {"cumsum", along_axis(cumsum)},
      {"cumprod", along_axis(cumprod)},
      {"sort", indexed([](V x, int axis, const Args& a) { return sort(x, axis, a.flag("descending")); })},
      {"topk",
       indexed([](V x, int axis, const Args& a) { return topk(x, a.integer("k"), axis, a.flag("largest", true)); })},
  };
}

}  // namespace espalier::golden
