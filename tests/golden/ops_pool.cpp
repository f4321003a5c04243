#include "espalier/autograd/ops/interpolate.h"
#include "espalier/autograd/ops/patches.h"
#include "espalier/autograd/ops/pool.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

IndexPair pair(const Args& args, const char* name) {
  const std::vector<Index> n = args.integers(name);
  return n.size() == 2 ? IndexPair(n[0], n[1]) : IndexPair(n[0]);
}
Index number(const Args& args, const char* name) { return args.integers(name)[0]; }

std::vector<Variable> max_pool_images(const Call& c) {
  const Args& a = c.args;
  MaxPoolResult r = max_pool2d_with_indices(
      c[0], pair(a, "kernel_size"), {pair(a, "stride"), pair(a, "padding"), pair(a, "dilation"), a.flag("ceil_mode")});
  return {r.values, r.indices};
}

Variable average_images(const Variable& x, const Args& a) {
  return avg_pool2d(x, pair(a, "kernel_size"),
                    {pair(a, "stride"), pair(a, "padding"), a.flag("ceil_mode"), a.flag("count_include_pad", true),
                     a.integer("divisor_override", 0)});
}

}  // namespace

std::vector<Row> pool_rows() {
  using V = const Variable&;
  return {
      {"max_pool1d", with_args([](V x, const Args& a) {
         return max_pool1d(x, number(a, "kernel_size"),
                           {number(a, "stride"), number(a, "padding"), number(a, "dilation"), a.flag("ceil_mode")});
       })},
      {"max_pool2d", differentiable(max_pool_images)},
      {"avg_pool1d", with_args([](V x, const Args& a) {
         return avg_pool1d(
             x, number(a, "kernel_size"),
             {number(a, "stride"), number(a, "padding"), a.flag("ceil_mode"), a.flag("count_include_pad", true)});
       })},
      {"avg_pool2d", with_args(average_images)},
      {"adaptive_avg_pool2d",
       with_args([](V x, const Args& a) { return adaptive_avg_pool2d(x, pair(a, "output_size")); })},
      {"adaptive_max_pool2d",
       with_args([](V x, const Args& a) { return adaptive_max_pool2d(x, pair(a, "output_size")); })},
      {"unfold", with_args([](V x, const Args& a) {
         return unfold(x, pair(a, "kernel_size"), {pair(a, "stride"), pair(a, "padding"), pair(a, "dilation")});
       })},
      {"interpolate", with_args([](V x, const Args& a) {
         const Interpolation mode = a.text("mode") == "nearest" ? Interpolation::nearest : Interpolation::linear;
         return interpolate(x, a.dims("size"), mode);
       })},
  };
}

}  // namespace espalier::golden
