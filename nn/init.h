// Initialisers: the laws that weights are drawn from.
//
// fan_in and fan_out of a weight [out, in, ...] are in * receptive field and out * receptive field. All return f32
// unless told otherwise, and all take shapes with lengths of 0. Errors of all: DTypeError for a type that is not
// floating, and what each names.
#pragma once

#include "espalier/core/rng.h"

namespace espalier::nn::init {

/// Inputs and outputs of one unit. Errors: ShapeError below two axes.
struct Fans {
  double in, out;
};
Fans fans(const Shape& shape);

/// Which of the two a Kaiming law keeps: `in` the variance of values on their way forward, `out` that of gradients on
/// their way back.
enum class Fan : std::uint8_t { in, out };

/// Gain of a nonlinearity: the factor on the weights' deviation that keeps the variance of a layer's output (He et al.
/// 2015, section 2.2). Layers without one, linear and convolutional, have that of `linear`.
namespace gain {
inline constexpr double linear = 1;
inline constexpr double conv = 1;
inline constexpr double sigmoid = 1;                // as PyTorch; it does not keep the variance
inline constexpr double tanh = 5.0 / 3;             // near the fixed point of tanh's variance
inline constexpr double relu = 1.4142135623730951;  // sqrt(2): He et al. 2015, eq. 10
double leaky_relu(double negative_slope);           // sqrt(2 / (1 + slope^2)): He et al. 2015, eq. 15
inline constexpr double selu = 0.75;  // as PyTorch; 1 is what makes it self-normalising (Klambauer et al. 2017)
}  // namespace gain

/// All `value`.
Tensor constant(const Shape& shape, double value, DType type = DType::f32);
/// U(low, high). Errors: ConfigError unless low <= high, both finite.
Tensor uniform(Rng& rng, const Shape& shape, double low = 0, double high = 1, DType type = DType::f32);
/// N(mean, deviation^2). Errors: ConfigError for a negative or non-finite deviation.
Tensor normal(Rng& rng, const Shape& shape, double mean = 0, double deviation = 1, DType type = DType::f32);

struct TruncatedNormalOptions {
  double mean = 0, deviation = 1;
  double low = -2, high = 2;  ///< of the value itself, not in deviations
};
/// N(mean, deviation^2) on the condition that low <= x <= high, by the inverse of the distribution, so each weight is
/// one draw (Wichura 1988, algorithm AS 241). Errors: ConfigError unless low < high and deviation > 0, or if next to
/// nothing of the law lies between the two.
Tensor truncated_normal(Rng& rng, const Shape& shape, TruncatedNormalOptions options = {}, DType type = DType::f32);

/// A random orthogonal matrix, times `gain`: the weight as [out, in * receptive field] has orthonormal rows, or columns
/// if it has fewer of these. Uniform over all such matrices. Saxe, McClelland, Ganguli 2014. By Gram-Schmidt, in
/// blocks, each direction taken out twice (Giraud et al. 2005). Errors: ShapeError below two axes.
/// Cost: about 4 n k^2 operations, k the shorter side.
Tensor orthogonal(Rng& rng, const Shape& shape, double gain = gain::linear, DType type = DType::f32);

struct SparseOptions {
  double sparsity = 0.9;  ///< of each unit's incoming weights, this share is 0, rounded up
  double deviation = 0.01;
};
/// Each unit, a row of [out, in], reads only some of its inputs; these weights are N(0, deviation^2). Martens 2010,
/// section 5. (PyTorch's counts zeros by column.) Errors: ShapeError unless the shape has two axes, ConfigError for a
/// share outside [0, 1].
Tensor sparse(Rng& rng, const Shape& shape, SparseOptions options = {}, DType type = DType::f32);

/// The unit matrix, 1 where row and column are equal. Errors: ShapeError unless the shape has two axes.
Tensor eye(const Shape& shape, DType type = DType::f32);
/// A convolution [out, in, ...] that hands the first channels of each group of outputs on as they are: 1 at the centre of
/// the field. Errors: ShapeError below three axes, ConfigError if the groups do not divide `out`.
Tensor dirac(const Shape& shape, Index groups = 1, DType type = DType::f32);

/// U(-b, b), b = 1 / sqrt(fan_in): the default of Linear (LeCun et al. 1998, section 4.6, in its uniform form).
Tensor fan_in_uniform(Rng& rng, const Shape& shape, double fan_in, DType type = DType::f32);
/// U(-b, b), b = gain sqrt(6 / (fan_in + fan_out)). Glorot and Bengio 2010, eq. 16.
Tensor xavier_uniform(Rng& rng, const Shape& shape, double gain = gain::linear, DType type = DType::f32);
/// N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out)). Glorot and Bengio 2010, eq. 12.
Tensor xavier_normal(Rng& rng, const Shape& shape, double gain = gain::linear, DType type = DType::f32);
/// U(-b, b), b = gain sqrt(3 / fan). He et al. 2015, eq. 10 (in), eq. 14 (out).
Tensor kaiming_uniform(Rng& rng, const Shape& shape, double gain = gain::relu, DType type = DType::f32,
                       Fan mode = Fan::in);
/// N(0, s^2), s = gain / sqrt(fan). He et al. 2015, eq. 10 (in), eq. 14 (out).
Tensor kaiming_normal(Rng& rng, const Shape& shape, double gain = gain::relu, DType type = DType::f32,
                      Fan mode = Fan::in);

}  // namespace espalier::nn::init
