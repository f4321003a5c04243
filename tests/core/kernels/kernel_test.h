// What the kernel tests share: every SIMD target in turn, awkward sizes, distances in ulp, data.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "espalier/core/error.h"
#include "espalier/core/kernels/target.h"

namespace espalier::kernels {

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Runs body() once with each SIMD target of this machine, its name in the failure messages.
template <class F>
void on_each_target(F&& body) {
  for (const std::string& name : simd_targets()) {
    SCOPED_TRACE(name);
    set_simd_target(name);
    body();
  }
  set_simd_target("");
}

/// 0 ... 70, 1000 and 4097: around every lane count, and more than one block.
inline std::vector<Index> awkward_sizes() {
  std::vector<Index> sizes;
  for (Index n = 0; n <= 70; ++n) sizes.push_back(n);
  sizes.push_back(1000);
  sizes.push_back(4097);
  return sizes;
}

template <class T>
std::vector<T> uniform(Index n, double low, double high, unsigned seed = 1) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> distribution(low, high);
  std::vector<T> x(static_cast<std::size_t>(n));
  for (T& v : x) v = static_cast<T>(distribution(engine));
  return x;
}

/// |y - exact| in units of the last place of T at exact (not below those of the smallest normal number). Equal
/// infinities and two NaN are at distance 0; a number and a NaN, or different infinities, infinitely apart.
template <class T>
double ulps(T y, long double exact) {
  if (std::isnan(y) || std::isnan(exact)) return std::isnan(y) && std::isnan(exact) ? 0 : infinity;
  if (static_cast<T>(exact) == y)
    return static_cast<double>(
        std::isinf(y) ? 0
                      : std::abs(y - exact) / std::scalbn(1.0L, std::max(std::ilogb(static_cast<T>(exact)),
                                                                         std::numeric_limits<T>::min_exponent - 1) -
                                                                    std::numeric_limits<T>::digits + 1));
  if (std::isinf(static_cast<T>(exact)) || std::isinf(y)) return infinity;
  const int exponent =
      std::max(exact == 0 ? -100000 : std::ilogb(static_cast<T>(exact)), std::numeric_limits<T>::min_exponent - 1);
  return static_cast<double>(std::abs(y - exact) / std::scalbn(1.0L, exponent - std::numeric_limits<T>::digits + 1));
}

/// The same bits, NaN included.
template <class T>
bool same_bits(T a, T b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

}  // namespace espalier::kernels
