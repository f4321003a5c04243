// The whole step, clip and all, against loops written by hand for exactly this chain.
//
// Both run in turns within one iteration, on gradients that were just written, as behind a backward. `ratio` is the
// library's time over that of the hand-written loop.
#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "espalier/core/parallel.h"
#include "espalier/optim/adagrad.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/adam_variants.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/constraint.h"
#include "espalier/optim/lion.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;

/// Between the fastest tenth and the rest: what other programs on the machine disturb least.
double typical(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 10];
}

/// One tensor of the hand-written loop.
struct ByHand {
  std::vector<float> w, g, m, v;
  explicit ByHand(std::size_t n) : w(n, 0.5f), g(n), m(n), v(n) {}
};

[[gnu::target("avx2,fma")]] double sum_squares(const std::vector<float>& g) {
  __m256 sum[4] = {};
  std::size_t i = 0;
  for (; i + 32 <= g.size(); i += 32)
    for (std::size_t k = 0; k < 4; ++k) {
      const __m256 x = _mm256_loadu_ps(&g[i + 8 * k]);
      sum[k] = _mm256_fmadd_ps(x, x, sum[k]);
    }
  alignas(32) float lane[8];
  _mm256_store_ps(lane, _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
  double total = 0;
  for (float x : lane) total += static_cast<double>(x);
  for (; i < g.size(); ++i) total += static_cast<double>(g[i]) * static_cast<double>(g[i]);
  return total;
}

[[gnu::target("avx2,fma")]] void adam(ByHand& p, float c, float step, float root) {
  const __m256 b1 = _mm256_set1_ps(0.9f), c1 = _mm256_set1_ps(0.1f), b2 = _mm256_set1_ps(0.999f),
               c2 = _mm256_set1_ps(0.001f), scale = _mm256_set1_ps(c), s = _mm256_set1_ps(-step),
               r = _mm256_set1_ps(root), eps = _mm256_set1_ps(1e-8f);
  for (std::size_t i = 0; i + 8 <= p.w.size(); i += 8) {
    const __m256 g = _mm256_mul_ps(scale, _mm256_loadu_ps(&p.g[i]));
    const __m256 m = _mm256_fmadd_ps(b1, _mm256_loadu_ps(&p.m[i]), _mm256_mul_ps(c1, g));
    const __m256 v = _mm256_fmadd_ps(b2, _mm256_loadu_ps(&p.v[i]), _mm256_mul_ps(_mm256_mul_ps(c2, g), g));
    _mm256_storeu_ps(&p.m[i], m);
    _mm256_storeu_ps(&p.v[i], v);
    const __m256 d = _mm256_div_ps(_mm256_mul_ps(s, m), _mm256_fmadd_ps(_mm256_sqrt_ps(v), r, eps));
    _mm256_storeu_ps(&p.w[i], _mm256_add_ps(_mm256_loadu_ps(&p.w[i]), d));
  }
}

[[gnu::target("avx2,fma")]] void momentum(ByHand& p, float c, float lr) {
  const __m256 mu = _mm256_set1_ps(0.9f), scale = _mm256_set1_ps(c), l = _mm256_set1_ps(-lr);
  for (std::size_t i = 0; i + 8 <= p.w.size(); i += 8) {
    const __m256 m = _mm256_fmadd_ps(mu, _mm256_loadu_ps(&p.m[i]), _mm256_mul_ps(scale, _mm256_loadu_ps(&p.g[i])));
    _mm256_storeu_ps(&p.m[i], m);
    _mm256_storeu_ps(&p.w[i], _mm256_fmadd_ps(l, m, _mm256_loadu_ps(&p.w[i])));
  }
}

enum class Kind { adam, sgd };

void step_by_hand(std::vector<ByHand>& model, Kind kind, int t) {
  double total = 0;
  for (const ByHand& p : model) total += sum_squares(p.g);
  const double norm = std::sqrt(total), c = norm > 1 ? 1 / norm : 1;
  for (ByHand& p : model) {
    if (kind == Kind::sgd)
      momentum(p, static_cast<float>(c), 0.01f);
    else
      adam(p, static_cast<float>(c), static_cast<float>(1e-3 / (1 - std::pow(0.9, t))),
           static_cast<float>(1 / std::sqrt(1 - std::pow(0.999, t))));
  }
}

/// Arguments: tensors, elements of each, threads of the library, masked.
void run(benchmark::State& state, const optim::Chain& chain, Kind kind) {
  const auto tensors = static_cast<std::size_t>(state.range(0));
  const Index n = state.range(1);
  const ThreadLimit limit(static_cast<int>(state.range(2)));
  std::vector<Parameter> parameters;
  ParameterList list;
  std::vector<ByHand> hand(tensors, ByHand(static_cast<std::size_t>(n)));
  for (std::size_t k = 0; k < tensors; ++k) {
    parameters.emplace_back(Tensor::full({n}, 0.5), "p" + std::to_string(k));
    list.push_back({"p" + std::to_string(k), parameters.back().ref()});
    if (state.range(3) == 0) continue;
    Mask mask(n);
    for (Index i = 0; i < n; ++i) mask.set(i, (i * 2654435761u >> 7) % 10 == 0);
    parameters.back().set_mask(mask);
  }
  const Tensor gradient = Tensor::linspace(-1, 1, n);
  optim::Optimizer optimizer(list, chain);
  std::vector<double> library, by_hand;
  int t = 0;
  for (auto _ : state) {
    for (const Parameter& p : parameters) p.ref()->accumulate(gradient);
    auto begin = Clock::now();
    optimizer.step();
    library.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    for (ByHand& p : hand) std::copy_n(gradient.data<float>(), n, p.g.data());
    begin = Clock::now();
    step_by_hand(hand, kind, ++t);
    by_hand.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    state.SetIterationTime(library.back());
  }
  state.counters["ratio"] = typical(library) / typical(by_hand);
  state.counters["library_us"] = typical(library) * 1e6;
  state.counters["hand_us"] = typical(by_hand) * 1e6;
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tensors", "size", "threads", "masked"})->UseManualTime()->Unit(benchmark::kMillisecond);
  for (int masked : {0, 1}) {
    b->Args({100, 100000, 1, masked});
    b->Args({1000, 1000, 1, masked});
  }
  b->Args({100, 100000, 2, 0});
}

BENCHMARK_CAPTURE(run, clip_adam, chain(optim::clip_by_global_norm(1.0), optim::adam()), Kind::adam)->Apply(sizes);
BENCHMARK_CAPTURE(run, clip_sgd_momentum,
                  chain(optim::clip_by_global_norm(1.0), optim::sgd({.lr = 0.01, .momentum = 0.9})), Kind::sgd)
    ->Apply(sizes);
BENCHMARK_CAPTURE(run, clip_value_adam_clamp,
                  chain(optim::clip_by_global_norm(1.0), optim::clip_by_value(0.5), optim::adam(),
                        optim::clamp_parameters(-2, 2)),
                  Kind::adam)
    ->Apply(sizes);

// Other directions against the hand-written loop that moves as much memory: `ratio` is over that floor.
BENCHMARK_CAPTURE(run, clip_lion, chain(optim::clip_by_global_norm(1.0), optim::lion()), Kind::sgd)->Apply(sizes);
BENCHMARK_CAPTURE(run, clip_rmsprop, chain(optim::clip_by_global_norm(1.0), optim::rmsprop()), Kind::sgd)->Apply(sizes);
BENCHMARK_CAPTURE(run, clip_adagrad, chain(optim::clip_by_global_norm(1.0), optim::adagrad()), Kind::sgd)->Apply(sizes);
BENCHMARK_CAPTURE(run, clip_nadam, chain(optim::clip_by_global_norm(1.0), optim::nadam()), Kind::adam)->Apply(sizes);

/// What a step costs apart from arithmetic: three parameters with three elements.
void tiny(benchmark::State& state, const optim::Chain& chain) {
  std::vector<Parameter> parameters;
  ParameterList list;
  for (int k = 0; k < 3; ++k) {
    parameters.emplace_back(Tensor::full({1}, 0.5), "p" + std::to_string(k));
    list.push_back({"p" + std::to_string(k), parameters.back().ref()});
  }
  optim::Optimizer optimizer(list, chain);
  for (auto _ : state) {
    for (const Parameter& p : parameters) p.ref()->accumulate(Tensor::empty({1}));
    for (const Parameter& p : parameters) *p.ref()->mutable_grad().write<float>("bench") = 1;
    benchmark::DoNotOptimize(optimizer.step());
  }
}
BENCHMARK_CAPTURE(tiny, clip_sgd, chain(optim::clip_by_global_norm(1.0), optim::sgd({.lr = 0.01})));
BENCHMARK_CAPTURE(tiny, clip_adam, chain(optim::clip_by_global_norm(1.0), optim::adam()));
BENCHMARK_CAPTURE(tiny, sgd, optim::sgd({.lr = 0.01}));

}  // namespace
}  // namespace espalier
