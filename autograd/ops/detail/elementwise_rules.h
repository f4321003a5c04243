// How elementwise ops are recorded: what their sources share.
#pragma once

#include <utility>

#include "espalier/autograd/tape.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"

namespace espalier::detail {

/// y = kernel(x; p, q), and dx = rule(g, x).
template <class Rule>
Variable from_input(const char* op, const kernels::UnaryKernel& kernel, const Variable& x, double p, double q,
                    Rule rule) {
  Tensor y = map(op, kernel, x.value(), p, q);
  if (!recording(x)) return y;
  return record(op, std::move(y), {&x}, [x = Saved(x), rule](const Variable& g, Wants) { return rule(g, x.get()); });
}
template <class Rule>
Variable from_input(const char* op, const kernels::UnaryKernel& kernel, const Variable& x, Rule rule) {
  return from_input(op, kernel, x, 0, 0, rule);
}

/// y = kernel(x; p, q), and dx = rule(g, y).
template <class Rule>
Variable from_output(const char* op, const kernels::UnaryKernel& kernel, const Variable& x, double p, double q,
                     Rule rule) {
  Tensor y = map(op, kernel, x.value(), p, q);
  if (!recording(x)) return y;
  return record(op, y, {&x}, [y = Saved::output(y), rule](const Variable& g, Wants) { return rule(g, y.get()); });
}
template <class Rule>
Variable from_output(const char* op, const kernels::UnaryKernel& kernel, const Variable& x, Rule rule) {
  return from_output(op, kernel, x, 0, 0, rule);
}

/// kernel(g, v; p, q): one fused loop. Where the backward pass is recorded itself, `composed` says the same in ops.
template <class Composed>
Variable fused(const char* op, const kernels::BinaryKernel& kernel, const Variable& g, const Variable& v, double p,
               double q, Composed composed) {
  if (recording(g, v)) return composed();
  return zip(op, kernel, g.value(), v.value(), p, q);
}
template <class Composed>
Variable fused(const char* op, const kernels::BinaryKernel& kernel, const Variable& g, const Variable& v,
               Composed composed) {
  return fused(op, kernel, g, v, 0, 0, composed);
}

/// g times a slope that is constant almost everywhere: its derivative is the same slope on the incoming gradient.
inline Variable piecewise(const char* op, const kernels::BinaryKernel& kernel, const Variable& g, const Variable& v,
                          double p = 0, double q = 0) {
  Tensor dx = zip(op, kernel, g.value(), v.value(), p, q);
  if (!recording(g)) return dx;
  return record(op, std::move(dx), {&g}, [=, &kernel, v = Saved(v.detach())](const Variable& gg, Wants) {
    return piecewise(op, kernel, gg, v.get(), p, q);
  });
}

/// The gradient of a function that is constant almost everywhere: 0, even of an infinite g.
inline Variable flat(const Variable& g) {
  Tensor dx = Tensor::zeros(g.shape(), g.dtype());
  if (!recording(g)) return dx;
  return record("flat", std::move(dx), {&g}, [](const Variable& gg, Wants) { return flat(gg); });
}

}  // namespace espalier::detail
