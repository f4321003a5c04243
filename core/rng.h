// Rng: a counter-based random number generator. A value: copyable, splittable, saved in 24 bytes; there is no global
// seed.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "espalier/core/tensor.h"

namespace espalier {

/// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011). The n-th draw depends on (seed, stream, n) alone, so tensors are
/// filled in parallel with the same values at any thread count.
class Rng {
 public:
  explicit Rng(std::uint64_t seed = 0) : key_(seed) {}

  std::uint64_t next();  ///< 64 random bits
  double uniform();      ///< in [0, 1), 53 bits
  double normal();       ///< mean 0, standard deviation 1 (Box and Muller 1958)
  /// Uniform in [0, n), without bias (Lemire 2019). Errors: ConfigError for n < 1.
  Index below(Index n);
  /// An independent generator; this one moves on by one draw.
  Rng split();

  /// U(low, high). f32, f64.
  Tensor uniform(const Shape& shape, double low = 0, double high = 1, DType type = DType::f32);
  /// N(mean, deviation^2). f32, f64.
  Tensor normal(const Shape& shape, double mean = 0, double deviation = 1, DType type = DType::f32);
  /// Each element true with the given probability. Errors: ConfigError outside [0, 1].
  Tensor bernoulli(const Shape& shape, double probability);
  /// 0 ... n-1 in random order (Fisher and Yates; Durstenfeld 1964).
  std::vector<Index> permutation(Index n);

  /// All there is: seed, stream, position. An Rng set to it continues exactly where the saved one stood.
  using State = std::array<std::uint64_t, 3>;
  State state() const { return {key_, stream_, counter_}; }
  void set_state(const State& state);

 private:
  std::uint64_t key_;
  std::uint64_t stream_ = 0;
  std::uint64_t counter_ = 0;  // blocks of 128 bits used
};

inline Tensor rand(Rng& rng, const Shape& shape, DType type = DType::f32) { return rng.uniform(shape, 0, 1, type); }
inline Tensor randn(Rng& rng, const Shape& shape, DType type = DType::f32) { return rng.normal(shape, 0, 1, type); }

}  // namespace espalier
