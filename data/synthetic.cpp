#include "espalier/data/synthetic.h"

#include <cmath>
#include <numbers>
#include <utility>

namespace espalier::data {
namespace {

void check(const char* op, Index n, double noise) {
  if (n < 0) fail<ConfigError>("[", op, "] needs n >= 0, got ", n);
  if (!(noise >= 0)) fail<ConfigError>("[", op, "] needs noise >= 0, got ", noise);
}

/// Points point(i, class) plus noise, classes in turn.
template <class Point>
Dataset plane_points(Rng& rng, Index n, Index classes, double noise, Point point) {
  Dataset result{Tensor::empty({n, 2}), Tensor::empty({n}, DType::i64)};
  float* x = result.x.write<float>("synthetic");
  Index* y = result.y.write<Index>("synthetic");
  for (Index i = 0; i < n; ++i) {
    y[i] = i % classes;
    const auto [horizontal, vertical] = point(y[i]);
    x[2 * i] = static_cast<float>(horizontal + noise * rng.normal());
    x[2 * i + 1] = static_cast<float>(vertical + noise * rng.normal());
  }
  return result;
}

}  // namespace

Dataset linear_data(Rng& rng, Index n, std::span<const double> weights, double bias, double noise) {
  check("linear_data", n, noise);
  const auto k = static_cast<Index>(weights.size());
  Dataset result{rng.normal({n, k}), Tensor::empty({n, 1})};
  const float* x = result.x.data<float>();
  float* y = result.y.write<float>("synthetic");
  for (Index i = 0; i < n; ++i, x += k) {
    double sum = bias + noise * rng.normal();
    for (std::size_t j = 0; j < weights.size(); ++j) sum += static_cast<double>(x[j]) * weights[j];
    y[i] = static_cast<float>(sum);
  }
  return result;
}

Dataset linear_data(Rng& rng, Index n, std::initializer_list<double> weights, double bias, double noise) {
  return linear_data(rng, n, std::span<const double>(weights.begin(), weights.size()), bias, noise);
}

Dataset two_moons(Rng& rng, Index n, double noise) {
  check("two_moons", n, noise);
  return plane_points(rng, n, 2, noise, [&](Index label) {
    const double angle = std::numbers::pi * rng.uniform();
    const double c = std::cos(angle), s = std::sin(angle);
    return label == 0 ? std::pair(c, s) : std::pair(1 - c, 0.5 - s);
  });
}

Dataset spirals(Rng& rng, Index n, Index classes, double noise) {
  check("spirals", n, noise);
  if (classes < 1) fail<ConfigError>("[spirals] needs at least one class, got ", classes);
  return plane_points(rng, n, classes, noise, [&](Index label) {
    const double radius = rng.uniform();
    const double start = 2 * std::numbers::pi * static_cast<double>(label) / static_cast<double>(classes);
    const double angle = start + 4 * radius;
    return std::pair(radius * std::cos(angle), radius * std::sin(angle));
  });
}

}  // namespace espalier::data
