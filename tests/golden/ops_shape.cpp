#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

using V = const Variable&;

int axis(const Args& args, const char* name) { return static_cast<int>(args.integer(name)); }

/// input[start:stop:step] of each listed axis
Variable sliced(V x, const Args& args) {
  const std::vector<Index> n = args.integers("slices");
  Variable y = x;
  for (std::size_t k = 0; k + 3 < n.size(); k += 4) y = slice(y, static_cast<int>(n[k]), n[k + 1], n[k + 2], n[k + 3]);
  return y;
}

PadMode pad_mode(const std::string& name) {
  if (name == "constant") return PadMode::constant;
  if (name == "reflect") return PadMode::reflect;
  if (name == "replicate") return PadMode::replicate;
  if (name == "circular") return PadMode::circular;
  throw Unsupported{"pad mode " + name};
}

}  // namespace

std::vector<Row> shape_rows() {
  return {
      {"reshape", with_args([](V x, const Args& a) { return reshape(x, a.dims("shape")); })},
      {"flatten", with_args([](V x, const Args& a) { return flatten(x, axis(a, "start_dim"), axis(a, "end_dim")); })},
      {"transpose", with_args([](V x, const Args& a) { return transpose(x, axis(a, "dim0"), axis(a, "dim1")); })},
      {"permute", with_args([](V x, const Args& a) { return permute(x, a.dims("dims")); })},
      {"expand", with_args([](V x, const Args& a) { return expand(x, a.dims("shape")); })},
      {"squeeze", with_args([](V x, const Args& a) { return a.has("dim") ? squeeze(x, axis(a, "dim")) : squeeze(x); })},
      {"unsqueeze", with_args([](V x, const Args& a) { return unsqueeze(x, axis(a, "dim")); })},
      {"slice", with_args(sliced)},
      {"narrow", with_args([](V x, const Args& a) {
         return narrow(x, axis(a, "dim"), a.integer("start"), a.integer("length"));
       })},
      {"select", with_args([](V x, const Args& a) { return select(x, axis(a, "dim"), a.integer("index")); })},
      {"diagonal", with_args([](V x, const Args& a) { return diagonal(x, a.integer("offset")); })},
      {"tril", with_args([](V x, const Args& a) { return tril(x, a.integer("diagonal")); })},
      {"triu", with_args([](V x, const Args& a) { return triu(x, a.integer("diagonal")); })},
      {"flip", with_args([](V x, const Args& a) { return flip(x, a.dims("dims")); })},
      {"roll", with_args([](V x, const Args& a) {
         return roll(x, a.dims("shifts"), a.has("dims") ? a.dims("dims") : Dims{});
       })},
      {"repeat", with_args([](V x, const Args& a) { return repeat(x, a.dims("repeats")); })},
      {"repeat_interleave",
       with_args([](V x, const Args& a) { return repeat_interleave(x, a.integer("repeats"), axis(a, "dim")); })},
      {"pad", with_args([](V x, const Args& a) {
         return pad(x, a.integers("pad"), pad_mode(a.text("mode")), a.number("value", 0));
       })},
  };
}

}  // namespace espalier::golden
