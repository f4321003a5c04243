#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/reduce.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

using V = const Variable&;

Dims axes(const Args& a) { return a.has("dim") ? a.dims("dim") : Dims{}; }
int axis(const Args& a) { return static_cast<int>(a.integer("dim")); }

Run spread(Variable (*f)(const Variable&, const Dims&, bool, bool)) {
  return with_args([f](V x, const Args& a) { return f(x, axes(a), a.flag("unbiased", true), a.flag("keepdim")); });
}

/// values, indices
Run indexed(IndexedResult (*f)(const Variable&, int, bool)) {
  return differentiable([f](const Call& call) {
    const IndexedResult y = f(call[0], axis(call.args), call.args.flag("keepdim"));
    return std::vector<Variable>{y.values, y.indices};
  });
}

Run place(Tensor (*along)(const Tensor&, int, bool), Tensor (*of_all)(const Tensor&)) {
  return with_args([=](V x, const Args& a) -> Variable {
    return a.has("dim") ? along(x.value(), axis(a), a.flag("keepdim")) : of_all(x.value());
  });
}

}  // namespace

std::vector<Row> reduction_rows() {
  return {
      {"sum", reduction(sum)},
      {"mean", reduction(mean)},
      {"prod", reduction(prod)},
      {"var", spread(var)},
      {"std", spread(stddev)},
      {"amax", reduction(amax)},
      {"amin", reduction(amin)},
      {"max_all", unary(max)},
      {"min_all", unary(min)},
      {"max_dim", indexed(max_along)},
      {"min_dim", indexed(min_along)},
      {"argmax", place(argmax, argmax)},
      {"argmin", place(argmin, argmin)},
      {"logsumexp", reduction(logsumexp)},
      {"norm", with_args([](V x, const Args& a) { return norm(x, a.number("p"), axes(a), a.flag("keepdim")); })},
      {"normalize",
       with_args([](V x, const Args& a) { return normalize(x, a.number("p"), axis(a), a.number("eps")); })},
      {"cosine_similarity",
       of_call([](const Call& c) { return cosine_similarity(c[0], c[1], axis(c.args), c.args.number("eps")); })},
      {"softmax", along_axis(softmax)},
      {"log_softmax", along_axis(log_softmax)},
  };
}

}  // namespace espalier::golden
