#include "bench/step_by_hand.h"

#include <immintrin.h>

#include <cmath>

#include "espalier/core/parallel.h"

namespace espalier::bench {
namespace {

/// Lanes i ... i + 7 of a mask.
[[gnu::target("avx2,fma"), gnu::always_inline]] inline __m256 lanes(const std::uint64_t* mask, std::size_t i) {
  const __m256i pick = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i bits = _mm256_set1_epi32(static_cast<int>(mask[i >> 6] >> (i & 63)));
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(bits, pick), pick));
}

template <bool masked>
[[gnu::target("avx2,fma"), gnu::always_inline]] inline __m256 keep(__m256 x, const std::uint64_t* mask, std::size_t i) {
  if constexpr (masked) return _mm256_and_ps(x, lanes(mask, i));
  return x;
}

template <bool masked>
[[gnu::target("avx2,fma")]] double sum_squares(const ByHand& p) {
  const float* g = p.g.data();
  const std::uint64_t* mask = p.mask.data();
  const std::size_t n = p.g.size();
  __m256 sum[4] = {};
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32)
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256 x = keep<masked>(_mm256_loadu_ps(g + i + 8 * k), mask, i + 8 * k);
      sum[k] = _mm256_fmadd_ps(x, x, sum[k]);
    }
  for (; i + 8 <= n; i += 8) {
    const __m256 x = keep<masked>(_mm256_loadu_ps(g + i), mask, i);
    sum[0] = _mm256_fmadd_ps(x, x, sum[0]);
  }
  alignas(32) float lane[8];
  _mm256_store_ps(lane, _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
  double total = 0;
  for (float x : lane) total += static_cast<double>(x);
  return total;
}

struct Adam {
  float scale, step, root, keep_weight;
};
template <bool masked>
[[gnu::target("avx2,fma")]] void adam(ByHand& p, const Adam& a) {
  float *w = p.w.data(), *m = p.m.data(), *v = p.v.data();
  const float* g = p.g.data();
  const std::uint64_t* mask = p.mask.data();
  const __m256 b1 = _mm256_set1_ps(0.9f), c1 = _mm256_set1_ps(0.1f), b2 = _mm256_set1_ps(0.999f),
               c2 = _mm256_set1_ps(0.001f), scale = _mm256_set1_ps(a.scale), step = _mm256_set1_ps(-a.step),
               root = _mm256_set1_ps(a.root), eps = _mm256_set1_ps(1e-8f), decay = _mm256_set1_ps(a.keep_weight);
  for (std::size_t i = 0; i + 8 <= p.w.size(); i += 8) {
    const __m256 x = keep<masked>(_mm256_mul_ps(scale, _mm256_loadu_ps(g + i)), mask, i);
    const __m256 mean = _mm256_fmadd_ps(b1, _mm256_loadu_ps(m + i), _mm256_mul_ps(c1, x));
    const __m256 square = _mm256_fmadd_ps(b2, _mm256_loadu_ps(v + i), _mm256_mul_ps(_mm256_mul_ps(c2, x), x));
    _mm256_storeu_ps(m + i, mean);
    _mm256_storeu_ps(v + i, square);
    const __m256 d = _mm256_div_ps(_mm256_mul_ps(step, mean), _mm256_fmadd_ps(_mm256_sqrt_ps(square), root, eps));
    _mm256_storeu_ps(w + i, keep<masked>(_mm256_fmadd_ps(decay, _mm256_loadu_ps(w + i), d), mask, i));
  }
}

template <bool masked>
[[gnu::target("avx2,fma")]] void momentum(ByHand& p, float c, float lr) {
  float *w = p.w.data(), *m = p.m.data();
  const float* g = p.g.data();
  const std::uint64_t* mask = p.mask.data();
  const __m256 mu = _mm256_set1_ps(0.9f), scale = _mm256_set1_ps(c), rate = _mm256_set1_ps(-lr);
  for (std::size_t i = 0; i + 8 <= p.w.size(); i += 8) {
    const __m256 x = keep<masked>(_mm256_mul_ps(scale, _mm256_loadu_ps(g + i)), mask, i);
    const __m256 mean = _mm256_fmadd_ps(mu, _mm256_loadu_ps(m + i), x);
    _mm256_storeu_ps(m + i, mean);
    _mm256_storeu_ps(w + i, keep<masked>(_mm256_fmadd_ps(rate, mean, _mm256_loadu_ps(w + i)), mask, i));
  }
}

template <class F>
void each(std::vector<ByHand>& model, F f) {
  const auto n = static_cast<Index>(model.size());
  const Index size = n > 0 ? static_cast<Index>(model[0].w.size()) : 1;
  parallel_for(n, std::max<Index>(1, 100'000 / size), [&](Index begin, Index end) {
    for (Index k = begin; k < end; ++k) f(static_cast<std::size_t>(k));
  });
}

float clip_coefficient(std::vector<ByHand>& model) {
  std::vector<double> squares(model.size());
  each(model, [&](std::size_t k) {
    squares[k] = model[k].mask.empty() ? sum_squares<false>(model[k]) : sum_squares<true>(model[k]);
  });
  double total = 0;
  for (double s : squares) total += s;
  const double norm = std::sqrt(total);
  return static_cast<float>(norm > 1 ? 1 / norm : 1);
}

}  // namespace

void adam_step_by_hand(std::vector<ByHand>& model, std::int64_t t, float lr, float decay) {
  const auto n = static_cast<double>(t);
  const Adam a{clip_coefficient(model), static_cast<float>(static_cast<double>(lr) / (1 - std::pow(0.9, n))),
               static_cast<float>(1 / std::sqrt(1 - std::pow(0.999, n))), 1 - lr * decay};
  each(model, [&](std::size_t k) { model[k].mask.empty() ? adam<false>(model[k], a) : adam<true>(model[k], a); });
}

void momentum_step_by_hand(std::vector<ByHand>& model, float lr) {
  const float c = clip_coefficient(model);
  each(model, [&](std::size_t k) {
    model[k].mask.empty() ? momentum<false>(model[k], c, lr) : momentum<true>(model[k], c, lr);
  });
}

}  // namespace espalier::bench
