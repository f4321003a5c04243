// Attention forward and backward, in tiles, beside the same made of plain ops, which store the scores.
#include <benchmark/benchmark.h>

#include "espalier/autograd/ops/attention.h"
#include "espalier/core/rng.h"

namespace {

using namespace espalier;

constexpr AttentionOptions causal{.causal = true};

/// Arguments: batch, heads, length, width of a head.
Shape shape_of(const benchmark::State& state) {
  return {state.range(0), state.range(1), state.range(2), state.range(3)};
}
void report(benchmark::State& state, double products) {  // of [T, d] x [d, T], counted in full
  const Shape s = shape_of(state);
  const auto flops = 2 * products * static_cast<double>(count(s)) * static_cast<double>(s[2]);
  state.counters["GFLOP/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * flops * 1e-9, benchmark::Counter::kIsRate);
}

template <class F>
void forward_backward(benchmark::State& state, F f) {
  Rng rng(1);
  const Shape s = shape_of(state);
  const Tensor q = rng.normal(s), k = rng.normal(s), v = rng.normal(s), g = rng.normal(s);
  for (auto _ : state) {
    Tape tape;
    const Variable in[] = {tape.watch(q), tape.watch(k), tape.watch(v)};
    const Variable y = f(in[0], in[1], in[2]), weights(g);
    benchmark::DoNotOptimize(tape.gradient({&y, 1}, {&weights, 1}, in));
  }
  report(state, 6);
}

void tiled(benchmark::State& state) {
  forward_backward(state, [](const Variable& q, const Variable& k, const Variable& v) {
    return scaled_dot_product_attention(q, k, v, {}, causal);
  });
}
void of_ops(benchmark::State& state) {
  forward_backward(state, [](const Variable& q, const Variable& k, const Variable& v) {
    return attention_with_weights(q, k, v, {}, causal).output;
  });
}
/// As a language model calls it: one projection in, one tensor out.
void projected(benchmark::State& state) {
  Rng rng(1);
  const Shape s = shape_of(state);
  const Tensor x = rng.normal({s[0], s[2], 3 * s[1] * s[3]}), g = rng.normal({s[0], s[2], s[1] * s[3]});
  for (auto _ : state) {
    Tape tape;
    const Variable in = tape.watch(x), y = self_attention(in, s[1], {}, causal), weights(g);
    benchmark::DoNotOptimize(tape.gradient({&y, 1}, {&weights, 1}, {&in, 1}));
  }
  report(state, 6);
}
void projected_forward(benchmark::State& state) {
  Rng rng(1);
  const Shape s = shape_of(state);
  const Tensor x = rng.normal({s[0], s[2], 3 * s[1] * s[3]});
  for (auto _ : state) benchmark::DoNotOptimize(self_attention(x, s[1], {}, causal));
  report(state, 2);
}
#define SHAPES Args({12, 4, 64, 32})->Args({4, 6, 256, 64})->Args({1, 2, 2048, 64})
BENCHMARK(tiled)->SHAPES;
BENCHMARK(of_ops)->SHAPES;
BENCHMARK(projected)->SHAPES;
BENCHMARK(projected_forward)->SHAPES;

}  // namespace
