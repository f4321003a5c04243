#include "espalier/nn/init.h"

#include <cmath>

namespace espalier::nn::init {

Fans fans(const Shape& shape) {
  if (shape.rank() < 2) fail<ShapeError>("[init] fans need a weight of at least two axes, got ", shape);
  double field = 1;
  for (int axis = 2; axis < shape.rank(); ++axis) field *= static_cast<double>(shape[axis]);
  return {static_cast<double>(shape[1]) * field, static_cast<double>(shape[0]) * field};
}

namespace gain {
double leaky_relu(double negative_slope) { return std::sqrt(2 / (1 + negative_slope * negative_slope)); }
}  // namespace gain

namespace {
Tensor symmetric_uniform(Rng& rng, const Shape& shape, double bound, DType type) {
  if (!std::isfinite(bound)) return Tensor::empty(shape, type);  // no inputs: no weights to draw
  return rng.uniform(shape, -bound, bound, type);
}
}  // namespace

Tensor fan_in_uniform(Rng& rng, const Shape& shape, double fan_in, DType type) {
  if (fan_in <= 0) return Tensor::zeros(shape, type);
  return symmetric_uniform(rng, shape, 1 / std::sqrt(fan_in), type);
}
Tensor xavier_uniform(Rng& rng, const Shape& shape, double gain, DType type) {
  const Fans f = fans(shape);
  return symmetric_uniform(rng, shape, gain * std::sqrt(6 / (f.in + f.out)), type);
}
Tensor xavier_normal(Rng& rng, const Shape& shape, double gain, DType type) {
  const Fans f = fans(shape);
  return rng.normal(shape, 0, gain * std::sqrt(2 / (f.in + f.out)), type);
}
Tensor kaiming_uniform(Rng& rng, const Shape& shape, double gain, DType type) {
  return symmetric_uniform(rng, shape, gain * std::sqrt(3 / fans(shape).in), type);
}
Tensor kaiming_normal(Rng& rng, const Shape& shape, double gain, DType type) {
  return rng.normal(shape, 0, gain / std::sqrt(fans(shape).in), type);
}

}  // namespace espalier::nn::init
