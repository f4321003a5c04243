#include "espalier/optim/backward_clip.h"

#include <cmath>
#include <limits>

#include "espalier/autograd/ops/compare.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"

namespace espalier::optim {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

void check_bound(const char* name, const char* setting, double bound) {
  if (!(bound >= 0)) fail<ConfigError>("[", name, "] ", setting, " must not be negative or NaN, got ", bound);
}

/// The smallest normal number of a type: below it a bound is 0.
double smallest(DType type) {
  return type == DType::f32 ? static_cast<double>(std::numeric_limits<float>::min())
                            : std::numeric_limits<double>::min();
}

Variable clipped(const Variable& g, double bound, double p, bool per_row) {
  if (g.size() == 0 || bound == infinity) return g;
  if (bound < smallest(g.dtype())) return g * 0;
  if (!per_row || g.rank() == 0) return g * (bound / clamp(norm(g, p), bound, infinity));
  const Variable rows = reshape(g, {g.dim(0), g.size() / g.dim(0)});
  return reshape(rows * (bound / clamp(norm(rows, p, {1}, true), bound, infinity)), g.shape());
}

}  // namespace

Hook clip_backward_norm(const Variable& v, double max_norm, BackwardClipOptions options) {
  check_bound("clip_backward_norm", "max_norm", max_norm);
  if (!(options.p > 0)) fail<ConfigError>("[clip_backward_norm] p must be positive, got ", options.p);
  return on_gradient(v, [=](const Variable& g) { return clipped(g, max_norm, options.p, options.per_row); });
}

Hook clip_backward_value(const Variable& v, double bound) {
  check_bound("clip_backward_value", "bound", bound);
  return on_gradient(v, [=](const Variable& g) { return clamp(g, -bound, bound); });
}

}  // namespace espalier::optim
