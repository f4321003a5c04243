// Kernels beside plain loops, on 16 Ki elements (f32: in the second-level cache) unless the name says otherwise.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/reduce.h"
#include "espalier/core/kernels/step.h"
#include "espalier/core/kernels/transpose.h"

namespace {

using espalier::Index;
namespace kernels = espalier::kernels;

constexpr Index elements = 1 << 14;

std::vector<float> numbers(Index n, float low = -3, float high = 3) {
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = low + (high - low) * static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX);
  return x;
}
void per_element(benchmark::State& state, Index n, double bytes) {
  const auto items = static_cast<double>(state.iterations()) * static_cast<double>(n);
  state.counters["ns/element"] =
      benchmark::Counter(items * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["GB/s"] = benchmark::Counter(items * bytes * 1e-9, benchmark::Counter::kIsRate);
}

void unary(benchmark::State& state, kernels::UnaryKernel kernels::UnaryKernels::*kernel) {
  const auto x = numbers(elements, 0.1f, 3);
  std::vector<float> y(x.size());
  const auto f = (kernels::unary().*kernel).f32;
  for (auto _ : state) {
    f(x.data(), y.data(), elements, 1.0f, 20.0f);
    benchmark::ClobberMemory();
  }
  per_element(state, elements, 8);
}
void unary_f64(benchmark::State& state, kernels::UnaryKernel kernels::UnaryKernels::*kernel) {
  const auto some = numbers(elements, 0.1f, 3);
  const std::vector<double> x(some.begin(), some.end());
  std::vector<double> y(x.size());
  const auto f = (kernels::unary().*kernel).f64;
  for (auto _ : state) {
    f(x.data(), y.data(), elements, 1.0, 20.0);
    benchmark::ClobberMemory();
  }
  per_element(state, elements, 16);
}
void plain_exp(benchmark::State& state) {
  const auto x = numbers(elements);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = std::exp(x[i]);
    benchmark::ClobberMemory();
  }
  per_element(state, elements, 8);
}
using K = kernels::UnaryKernels;
BENCHMARK_CAPTURE(unary, copy, &K::copy);
BENCHMARK_CAPTURE(unary, relu, &K::relu);
BENCHMARK_CAPTURE(unary, exp, &K::exp);
BENCHMARK(plain_exp);
BENCHMARK_CAPTURE(unary, expm1, &K::expm1);
BENCHMARK_CAPTURE(unary, log, &K::log);
BENCHMARK_CAPTURE(unary, log1p, &K::log1p);
BENCHMARK_CAPTURE(unary, sin, &K::sin);
BENCHMARK_CAPTURE(unary, tanh, &K::tanh);
BENCHMARK_CAPTURE(unary, sigmoid, &K::sigmoid);
BENCHMARK_CAPTURE(unary, softplus, &K::softplus);
BENCHMARK_CAPTURE(unary, erf, &K::erf);
BENCHMARK_CAPTURE(unary, gelu, &K::gelu);
BENCHMARK_CAPTURE(unary, gelu_tanh, &K::gelu_tanh);
BENCHMARK_CAPTURE(unary, silu, &K::silu);
BENCHMARK_CAPTURE(unary_f64, exp, &K::exp);
BENCHMARK_CAPTURE(unary_f64, log, &K::log);
BENCHMARK_CAPTURE(unary_f64, tanh, &K::tanh);
BENCHMARK_CAPTURE(unary_f64, erf, &K::erf);

void binary(benchmark::State& state, kernels::BinaryKernel kernels::BinaryKernels::*kernel) {
  const auto a = numbers(elements), b = numbers(elements);
  std::vector<float> y(a.size());
  const auto f = (kernels::binary().*kernel).f32.vv;
  for (auto _ : state) {
    f(a.data(), b.data(), y.data(), elements, 1.0f, 20.0f);
    benchmark::ClobberMemory();
  }
  per_element(state, elements, 12);
}
BENCHMARK_CAPTURE(binary, add, &kernels::BinaryKernels::add);

void sum(benchmark::State& state) {
  const auto x = numbers(elements);
  for (auto _ : state) benchmark::DoNotOptimize(kernels::reduce<float>().sum(x.data(), elements));
  per_element(state, elements, 4);
}
void argmax(benchmark::State& state) {
  const auto x = numbers(elements);
  for (auto _ : state) benchmark::DoNotOptimize(kernels::reduce<float>().argmax(x.data(), elements));
  per_element(state, elements, 4);
}
void add_rows(benchmark::State& state) {
  const auto x = numbers(elements);
  std::vector<float> out(256);
  for (auto _ : state) {
    kernels::reduce<float>().add_rows(x.data(), elements / 256, 256, 256, out.data());
    benchmark::ClobberMemory();
  }
  per_element(state, elements, 4);
}
/// Rows of range(0) logits.
void softmax(benchmark::State& state) {
  const Index cols = state.range(0), rows = elements / cols;
  const auto x = numbers(elements);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    for (Index r = 0; r < rows; ++r)
      kernels::reduce<float>().softmax_row(x.data() + r * cols, y.data() + r * cols, cols);
    benchmark::ClobberMemory();
  }
  per_element(state, rows * cols, 8);
}
BENCHMARK(sum);
BENCHMARK(argmax);
BENCHMARK(add_rows);
BENCHMARK(softmax)->Arg(10)->Arg(100)->Arg(1000);

void transpose(benchmark::State& state) {
  const auto x = numbers(elements);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    kernels::transpose(x.data(), 128, elements / 128, elements / 128, y.data(), 128);
    benchmark::ClobberMemory();
  }
  per_element(state, elements, 8);
}
BENCHMARK(transpose);

// The step: range(0) elements in blocks, range(1) says whether a mask is there. 4 Ki elements stay in cache, 4 Mi do
// not.
struct Parameters {
  explicit Parameters(benchmark::State& state)
      : n(state.range(0)),
        g(numbers(n)),
        m(g.size()),
        v(g.size()),
        w(g.size()),
        mask(g.size() / 64, 0x5a5a5a5aa5a5a5a5u) {
    masked = state.range(1) != 0;
  }
  template <class F>
  void each_block(F&& f) {
    for (Index at = 0; at < n; at += kernels::block_size) f(at, masked ? mask.data() + at / 64 : nullptr);
    benchmark::ClobberMemory();
  }
  Index n;
  bool masked;
  std::vector<float> g, m, v, w;
  std::vector<std::uint64_t> mask;
};
void adam(benchmark::State& state) {
  Parameters p(state);
  const auto& k = kernels::step<float>();
  const kernels::AdamStep s{.scale = 0.5, .keep = 0.999};
  for (auto _ : state)
    p.each_block([&](Index at, kernels::Mask mask) {
      k.adam(s, p.g.data() + at, p.m.data() + at, p.v.data() + at, p.w.data() + at, nullptr, mask, kernels::block_size);
    });
  per_element(state, p.n, 28);
}
void plain_adam(benchmark::State& state) {
  Parameters p(state);
  for (auto _ : state) {
    float* __restrict m = p.m.data(), * __restrict v = p.v.data(), * __restrict w = p.w.data();
    const float* __restrict g = p.g.data();
    for (Index i = 0; i < p.n; ++i) {
      const float x = 0.5f * g[i];
      m[i] = 0.9f * m[i] + 0.1f * x;
      v[i] = 0.999f * v[i] + 0.001f * x * x;
      w[i] = 0.999f * w[i] - 1e-3f * m[i] / (std::sqrt(v[i]) + 1e-8f);
    }
    benchmark::ClobberMemory();
  }
  per_element(state, p.n, 28);
}
void sgd_momentum(benchmark::State& state) {
  Parameters p(state);
  const auto& k = kernels::step<float>();
  const kernels::SgdStep s{.lr = 1e-3, .momentum = 0.9, .scale = 0.5};
  for (auto _ : state)
    p.each_block([&](Index at, kernels::Mask mask) {
      k.sgd(s, p.g.data() + at, p.m.data() + at, p.w.data() + at, nullptr, mask, kernels::block_size);
    });
  per_element(state, p.n, 20);
}
void sum_squares(benchmark::State& state) {
  Parameters p(state);
  const auto& k = kernels::step<float>();
  for (auto _ : state) {
    double total = 0;
    p.each_block(
        [&](Index at, kernels::Mask mask) { total += k.sum_squares(p.g.data() + at, mask, kernels::block_size); });
    benchmark::DoNotOptimize(total);
  }
  per_element(state, p.n, 4);
}
void blocks(benchmark::internal::Benchmark* b) { b->ArgsProduct({{1 << 12, 1 << 22}, {0, 1}}); }
BENCHMARK(adam)->Apply(blocks);
BENCHMARK(plain_adam)->Args({1 << 12, 0})->Args({1 << 22, 0});
BENCHMARK(sgd_momentum)->Apply(blocks);
BENCHMARK(sum_squares)->Apply(blocks);

}  // namespace
