#include "espalier/autograd/ops/dropout.h"

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/core/dropout.h"

namespace espalier {
namespace {

void check_probability(const char* op, double p) {
  if (!(p >= 0 && p <= 1)) fail<ConfigError>("[", op, "] p must be in [0, 1], got ", p);
}

double scale_of(double p) { return p < 1 ? 1 / (1 - p) : 0; }

/// keep_where: linear, so that its rule is the function itself.
Variable kept(const char* op, const Variable& x, const Tensor& bits, double factor) {
  Tensor y = keep_where(x.value(), bits, factor);
  if (!recording(x)) return y;
  return record(op, std::move(y), {&x},
                [op, bits, factor](const Variable& g, Wants) { return kept(op, g, bits, factor); });
}

/// One decision for all that shares its first `axes` positions.
Variable drop_leading(const char* op, const Variable& x, int axes, double p, Rng& rng) {
  check_probability(op, p);
  if (x.rank() < axes)
    fail<ShapeError>("[", op, "] x must have ", axes, axes == 1 ? " axis" : " axes", " or more, got ", x.shape());
  if (p == 0) return x;
  Shape shape = x.shape();
  for (int axis = axes; axis < shape.rank(); ++axis) shape[axis] = 1;
  const Tensor bits = random_bits(rng, count(shape), 1 - p);
  return mul(x, keep_where(Tensor::ones(shape, x.dtype()), bits, scale_of(p)));
}

}  // namespace

Variable dropout(const Variable& x, double p, Rng& rng) {
  check_probability("dropout", p);
  if (p == 0) return x;
  return kept("dropout", x, random_bits(rng, x.size(), 1 - p), scale_of(p));
}

Variable channel_dropout(const Variable& x, double p, Rng& rng) {
  return drop_leading("channel_dropout", x, 2, p, rng);
}
Variable drop_path(const Variable& x, double p, Rng& rng) { return drop_leading("drop_path", x, 1, p, rng); }

}  // namespace espalier
