#include "espalier/core/rng.h"

#include <Random123/philox.h>

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using Philox = r123::Philox4x32;
constexpr Index blocks_per_chunk = 4096;  // a fill is cut here, whatever the number of threads

/// The 128 random bits at one position.
std::array<std::uint64_t, 2> block(std::uint64_t key, std::uint64_t stream, std::uint64_t counter) {
  const Philox::ctr_type position = {{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
                                      static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)}};
  const Philox::key_type keys = {{static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)}};
  const Philox::ctr_type bits = Philox()(position, keys);
  return {bits[0] | static_cast<std::uint64_t>(bits[1]) << 32, bits[2] | static_cast<std::uint64_t>(bits[3]) << 32};
}

double unit(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }  // [0, 1)

/// Two independent N(0, 1) draws. Box and Muller 1958.
std::pair<double, double> normal_pair(const std::array<std::uint64_t, 2>& bits) {
  const double radius = std::sqrt(-2 * std::log(1 - unit(bits[0])));  // 1 - u lies in (0, 1]
  const double angle = 2 * std::numbers::pi * unit(bits[1]);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

/// Fills `out` two elements a block with pair(bits); block b serves elements 2b and 2b + 1.
template <class T, class Pair>
void fill_pairs(T* out, Index n, std::uint64_t key, std::uint64_t stream, std::uint64_t counter, Pair pair) {
  const Index blocks = (n + 1) / 2;
  parallel_for(blocks, blocks_per_chunk, [&](Index begin, Index end) {
    for (Index b = begin; b < end; ++b) {
      const auto [first, second] = pair(block(key, stream, counter + static_cast<std::uint64_t>(b)));
      out[2 * b] = static_cast<T>(first);
      if (2 * b + 1 < n) out[2 * b + 1] = static_cast<T>(second);
    }
  });
}

}  // namespace

std::uint64_t Rng::next() { return block(key_, stream_, counter_++)[0]; }
double Rng::uniform() { return unit(next()); }
double Rng::normal() { return normal_pair(block(key_, stream_, counter_++)).first; }

Index Rng::below(Index n) {
  if (n < 1) fail<ConfigError>("[rng] below(n) needs n >= 1, got ", n);
  const auto range = static_cast<std::uint64_t>(n);
  __extension__ using Wide = unsigned __int128;
  Wide product = static_cast<Wide>(next()) * range;
  if (static_cast<std::uint64_t>(product) < range) {
    const std::uint64_t threshold = (0 - range) % range;  // draws that would favour the low results are drawn again
    while (static_cast<std::uint64_t>(product) < threshold) product = static_cast<Wide>(next()) * range;
  }
  return static_cast<Index>(product >> 64);
}

Rng Rng::split() {
  const auto bits = block(key_, stream_, counter_++);
  Rng child(bits[0]);
  child.stream_ = bits[1];
  return child;
}

Tensor Rng::uniform(const Shape& shape, double low, double high, DType type) {
  Tensor result = Tensor::empty(shape, type);
  dispatch_floating("uniform", type, [&]<class T>() {
    const T last = std::nextafter(static_cast<T>(high), static_cast<T>(low));  // rounding must not reach `high`
    fill_pairs(result.write<T>("uniform"), result.size(), key_, stream_, counter_, [=](const auto& bits) {
      auto scaled = [=](std::uint64_t b) {
        const T value = static_cast<T>(low + (high - low) * unit(b));
        return value >= static_cast<T>(high) && high > low ? last : value;
      };
      return std::pair(scaled(bits[0]), scaled(bits[1]));
    });
  });
  counter_ += static_cast<std::uint64_t>((result.size() + 1) / 2);
  return result;
}

Tensor Rng::normal(const Shape& shape, double mean, double deviation, DType type) {
  Tensor result = Tensor::empty(shape, type);
  dispatch_floating("normal", type, [&]<class T>() {
    fill_pairs(result.write<T>("normal"), result.size(), key_, stream_, counter_, [=](const auto& bits) {
      const auto [a, b] = normal_pair(bits);
      return std::pair(mean + deviation * a, mean + deviation * b);
    });
  });
  counter_ += static_cast<std::uint64_t>((result.size() + 1) / 2);
  return result;
}

Tensor Rng::bernoulli(const Shape& shape, double probability) {
  if (!(probability >= 0 && probability <= 1))
    fail<ConfigError>("[bernoulli] probability ", probability, " is outside [0, 1]");
  Tensor result = Tensor::empty(shape, DType::boolean);
  fill_pairs(result.write<bool>("bernoulli"), result.size(), key_, stream_, counter_,
             [=](const auto& bits) { return std::pair(unit(bits[0]) < probability, unit(bits[1]) < probability); });
  counter_ += static_cast<std::uint64_t>((result.size() + 1) / 2);
  return result;
}

std::vector<Index> Rng::permutation(Index n) {
  if (n < 0) fail<ConfigError>("[permutation] needs n >= 0, got ", n);
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  for (Index i = n - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(below(i + 1))]);
  return order;
}

void Rng::set_state(const State& state) {
  key_ = state[0];
  stream_ = state[1];
  counter_ = state[2];
}

}  // namespace espalier
