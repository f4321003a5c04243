// Initialisers: the laws that weights are drawn from.
//
// fan_in and fan_out of a weight [out, in, ...] are in * receptive field and out * receptive field.
#pragma once

#include "espalier/core/rng.h"

namespace espalier::nn::init {

/// Inputs and outputs of one unit. Errors: ShapeError below two axes.
struct Fans {
  double in, out;
};
Fans fans(const Shape& shape);

/// Gain of a nonlinearity: keeps the variance of a layer's output (He et al. 2015, section 2.2).
namespace gain {
inline constexpr double linear = 1;
inline constexpr double sigmoid = 1;
inline constexpr double tanh = 5.0 / 3;
inline constexpr double relu = 1.4142135623730951;  // sqrt(2)
double leaky_relu(double negative_slope);           // sqrt(2 / (1 + slope^2))
}  // namespace gain

/// U(-b, b), b = 1 / sqrt(fan_in): the default of Linear (LeCun et al. 1998, section 4.6, in its uniform form).
Tensor fan_in_uniform(Rng& rng, const Shape& shape, double fan_in, DType type = DType::f32);
/// U(-b, b), b = gain sqrt(6 / (fan_in + fan_out)). Glorot and Bengio 2010, eq. 16.
Tensor xavier_uniform(Rng& rng, const Shape& shape, double gain = gain::linear, DType type = DType::f32);
/// N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)). Glorot and Bengio 2010.
Tensor xavier_normal(Rng& rng, const Shape& shape, double gain = gain::linear, DType type = DType::f32);
/// U(-b, b), b = gain sqrt(3 / fan_in). He et al. 2015, eq. 10.
Tensor kaiming_uniform(Rng& rng, const Shape& shape, double gain = gain::relu, DType type = DType::f32);
/// N(0, s^2), s = gain / sqrt(fan_in). He et al. 2015, eq. 10.
Tensor kaiming_normal(Rng& rng, const Shape& shape, double gain = gain::relu, DType type = DType::f32);

}  // namespace espalier::nn::init
