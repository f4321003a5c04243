#include "espalier/autograd/ops/conv.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

IndexPair pair(const Args& args, const char* name) {
  const std::vector<Index> n = args.integers(name);
  return n.size() == 2 ? IndexPair(n[0], n[1]) : IndexPair(n[0]);
}
Index number(const Args& args, const char* name) { return args.integers(name)[0]; }

Variable conv(const Call& c, bool transposed) {
  const Variable x = c[0], w = c[1], bias = c.named("bias");
  const Args& a = c.args;
  const Index groups = a.integer("groups");
  if (w.rank() == 4 && !transposed)
    return conv2d(x, w, bias, {pair(a, "stride"), pair(a, "padding"), pair(a, "dilation"), groups});
  if (w.rank() == 4)
    return conv_transpose2d(
        x, w, bias, {pair(a, "stride"), pair(a, "padding"), pair(a, "output_padding"), pair(a, "dilation"), groups});
  if (!transposed)
    return conv1d(x, w, bias, {number(a, "stride"), number(a, "padding"), number(a, "dilation"), groups});
  return conv_transpose1d(
      x, w, bias,
      {number(a, "stride"), number(a, "padding"), number(a, "output_padding"), number(a, "dilation"), groups});
}

}  // namespace

std::vector<Row> conv_rows() {
  const Run forward = of_call([](const Call& c) { return conv(c, false); });
  const Run transposed = of_call([](const Call& c) { return conv(c, true); });
  return {
      {"conv1d", forward},
      {"conv2d", forward},
      {"conv_transpose1d", transposed},
      {"conv_transpose2d", transposed},
  };
}

}  // namespace espalier::golden
