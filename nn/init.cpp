#include "espalier/nn/init.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "espalier/core/elementwise.h"
#include "espalier/core/matmul.h"

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

void check_deviation(const char* op, double mean, double deviation) {
  if (!std::isfinite(mean) || !(deviation >= 0) || !std::isfinite(deviation))
    fail<ConfigError>("[", op, "] needs a finite mean and a deviation that is not negative, got mean ", mean,
                      ", deviation ", deviation);
}

double fan(const Shape& shape, Fan mode) {
  const Fans f = fans(shape);
  return mode == Fan::in ? f.in : f.out;
}

/// Share of N(0, 1) below x.
double normal_below(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }

double ratio(double r, const double (&p)[8], const double (&q)[8]) {
  double above = 0, below = 0;
  for (int k = 7; k >= 0; --k) {
    above = above * r + p[k];
    below = below * r + q[k];
  }
  return above / below;
}

/// The x with normal_below(x) = p, to about 1e-16: Wichura 1988, algorithm AS 241, PPND16.
double normal_quantile(double p) {
  static constexpr double centre_p[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                                         1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                                         3.3430575583588128105e+4, 2.5090809287301226727e+3};
  static constexpr double centre_q[8] = {1.0,
                                         4.2313330701600911252e+1,
                                         6.8718700749205790830e+2,
                                         5.3941960214247511077e+3,
                                         2.1213794301586595867e+4,
                                         3.9307895800092710610e+4,
                                         2.8729085735721942674e+4,
                                         5.2264952788528545610e+3};
  static constexpr double middle_p[8] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                                         3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                                         2.27238449892691845833e-2, 7.74545014278341407640e-4};
  static constexpr double middle_q[8] = {1.0,
                                         2.05319162663775882187e0,
                                         1.67638483018380384940e0,
                                         6.89767334985100004550e-1,
                                         1.48103976427480074590e-1,
                                         1.51986665636164571966e-2,
                                         5.47593808499534494600e-4,
                                         1.05075007164441684324e-9};
  static constexpr double tail_p[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                                       2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                       2.71155556874348757815e-5, 2.01033439929228813265e-7};
  static constexpr double tail_q[8] = {1.0,
                                       5.99832206555887937690e-1,
                                       1.36929880922735805310e-1,
                                       1.48753612908506148525e-2,
                                       7.86869131145613259100e-4,
                                       1.84631831751005468180e-5,
                                       1.42151175831644588870e-7,
                                       2.04426310338993978564e-15};
  const double q = p - 0.5;
  if (std::abs(q) <= 0.425) return q * ratio(0.180625 - q * q, centre_p, centre_q);
  const double r = std::sqrt(-std::log(q < 0 ? p : 1 - p));
  const double x = r <= 5 ? ratio(r - 1.6, middle_p, middle_q) : ratio(r - 5, tail_p, tail_q);
  return q < 0 ? -x : x;
}

/// Orthonormal rows out of rows [k, n], k <= n, in place. A block of rows loses what lies along the finished ones by a
/// product of matrices, then its own rows are taken one by one; both twice, for what one round leaves of rounding.
void orthonormalise(Tensor& rows) {
  constexpr Index block = 32;
  const Index k = rows.dim(0), n = rows.dim(1);
  double* const q = rows.write<double>("orthogonal");
  std::vector<double> along(static_cast<std::size_t>(block));
  for (Index begin = 0; begin < k; begin += block) {
    const Index end = std::min(begin + block, k);
    for (int round = 0; round < 2; ++round) {
      if (begin > 0) {
        const Tensor done = rows.slice(0, 0, begin), mine = rows.slice(0, begin, end);
        const Tensor shares = matmul(mine, done.transpose(0, 1));
        const Tensor taken = matmul(shares, done);
        const double* t = taken.data<double>();
        for (Index i = 0; i < (end - begin) * n; ++i) q[begin * n + i] -= t[i];
      }
      for (Index r = begin; r < end; ++r) {
        double* const row = q + r * n;
        for (Index other = begin; other < r; ++other) {
          const double* const unit = q + other * n;
          double dot = 0;
          for (Index i = 0; i < n; ++i) dot += unit[i] * row[i];
          for (Index i = 0; i < n; ++i) row[i] -= dot * unit[i];
        }
        double squares = 0;
        for (Index i = 0; i < n; ++i) squares += row[i] * row[i];
        const double scale = 1 / std::sqrt(squares);
        for (Index i = 0; i < n; ++i) row[i] *= scale;
      }
    }
  }
}

void check_matrix(const char* op, const Shape& shape) {
  if (shape.rank() != 2) fail<ShapeError>("[", op, "] needs the shape of a matrix, got ", shape);
}

}  // namespace

Tensor constant(const Shape& shape, double value, DType type) { return Tensor::full(shape, value, type); }

Tensor uniform(Rng& rng, const Shape& shape, double low, double high, DType type) {
  if (!(low <= high) || !std::isfinite(low) || !std::isfinite(high))
    fail<ConfigError>("[uniform] needs finite bounds, the lower one first, got ", low, " and ", high);
  return rng.uniform(shape, low, high, type);
}

Tensor normal(Rng& rng, const Shape& shape, double mean, double deviation, DType type) {
  check_deviation("normal", mean, deviation);
  return rng.normal(shape, mean, deviation, type);
}

Tensor truncated_normal(Rng& rng, const Shape& shape, TruncatedNormalOptions o, DType type) {
  check_deviation("truncated_normal", o.mean, o.deviation);
  if (!(o.low < o.high) || o.deviation == 0)
    fail<ConfigError>("[truncated_normal] needs low < high and a positive deviation, got ", o.low, ", ", o.high,
                      " and ", o.deviation);
  // On the side of the smaller tail, where shares keep their digits.
  double from = (o.low - o.mean) / o.deviation, to = (o.high - o.mean) / o.deviation;
  const bool mirrored = from > 0;
  if (mirrored) {
    std::swap(from, to);
    from = -from;
    to = -to;
  }
  const double below = normal_below(from), above = normal_below(to);
  if (!(above - below > 1e-300))
    fail<ConfigError>("[truncated_normal] next to nothing of N(", o.mean, ", ", o.deviation, "^2) lies between ", o.low,
                      " and ", o.high);
  const Tensor shares = rng.uniform(shape, 0, 1, DType::f64);
  Tensor x = map_with("truncated_normal", shares, [&](auto u) -> decltype(u) {
    const double z = normal_quantile(below + static_cast<double>(u) * (above - below));
    const double value = o.mean + o.deviation * (mirrored ? -z : z);
    return static_cast<decltype(u)>(std::clamp(value, o.low, o.high));
  });
  return type == DType::f64 ? x : x.to(type);
}

Tensor orthogonal(Rng& rng, const Shape& shape, double gain, DType type) {
  fans(shape);
  const Index out = shape[0], in = out > 0 ? espalier::count(shape) / out : 0;
  if (espalier::count(shape) == 0) return Tensor::empty(shape, type);
  Tensor rows = rng.normal({std::min(out, in), std::max(out, in)}, 0, 1, DType::f64);
  orthonormalise(rows);
  const Tensor matrix = (out <= in ? rows : rows.transpose(0, 1)).contiguous();
  Tensor scaled = map_with("orthogonal", matrix, [gain](auto v) { return static_cast<decltype(v)>(v * gain); });
  return scaled.reshape(shape).to(type);
}

Tensor sparse(Rng& rng, const Shape& shape, SparseOptions options, DType type) {
  check_matrix("sparse", shape);
  if (!(options.sparsity >= 0 && options.sparsity <= 1))
    fail<ConfigError>("[sparse] the share of zeros must lie in [0, 1], got ", options.sparsity);
  check_deviation("sparse", 0, options.deviation);
  const Index units = shape[0], in = shape[1];
  Tensor weight = rng.normal(shape, 0, options.deviation, DType::f64);
  const auto zeros = static_cast<Index>(std::ceil(options.sparsity * static_cast<double>(in)));
  double* w = weight.write<double>("sparse");
  for (Index unit = 0; unit < units; ++unit) {
    const std::vector<Index> order = rng.permutation(in);
    for (Index k = 0; k < zeros; ++k) w[unit * in + order[static_cast<std::size_t>(k)]] = 0;
  }
  return weight.to(type);
}

Tensor eye(const Shape& shape, DType type) {
  check_matrix("eye", shape);
  Tensor weight = Tensor::zeros(shape, type);
  for (Index i = 0; i < std::min(shape[0], shape[1]); ++i) weight.select(0, i).select(0, i).fill(1);
  return weight;
}

Tensor dirac(const Shape& shape, Index groups, DType type) {
  if (shape.rank() < 3) fail<ShapeError>("[dirac] needs the weight of a convolution, [out, in, ...], got ", shape);
  if (groups < 1 || shape[0] % groups != 0)
    fail<ConfigError>("[dirac] ", groups, " groups do not divide ", shape[0], " output channels");
  Tensor weight = Tensor::zeros(shape, type);
  if (espalier::count(shape) == 0) return weight;
  const Index out = shape[0] / groups;
  for (Index g = 0; g < groups; ++g)
    for (Index c = 0; c < std::min(out, shape[1]); ++c) {
      Tensor at = weight.select(0, g * out + c).select(0, c);
      while (at.rank() > 0) at = at.select(0, at.dim(0) / 2);
      at.fill(1);
    }
  return weight;
}

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
Tensor kaiming_uniform(Rng& rng, const Shape& shape, double gain, DType type, Fan mode) {
  return symmetric_uniform(rng, shape, gain * std::sqrt(3 / fan(shape, mode)), type);
}
Tensor kaiming_normal(Rng& rng, const Shape& shape, double gain, DType type, Fan mode) {
  return rng.normal(shape, 0, gain / std::sqrt(fan(shape, mode)), type);
}

}  // namespace espalier::nn::init
