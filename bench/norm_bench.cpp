// Normalisation forward and backward, as layers do it, beside the same made of plain ops; and the kernels alone.
#include <benchmark/benchmark.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/kernels/norm.h"
#include "espalier/core/rng.h"

namespace {

using namespace espalier;

void report(benchmark::State& state, Index elements, double bytes) {
  const auto items = static_cast<double>(state.iterations()) * static_cast<double>(elements);
  state.counters["GB/s"] = benchmark::Counter(items * bytes * 1e-9, benchmark::Counter::kIsRate);
}

/// One forward pass and one backward of y = f(x, weight, bias), with a given gradient of y.
template <class F>
void forward_backward(benchmark::State& state, const Shape& shape, Index width, F f) {
  Rng rng(1);
  const Tensor x = rng.normal(shape), g = rng.normal(shape), w = rng.normal({width}), b = rng.normal({width});
  for (auto _ : state) {
    Tape tape;
    const Variable in[] = {tape.watch(x), tape.watch(w), tape.watch(b)};
    const Variable y = f(in[0], in[1], in[2]), weights(g);
    benchmark::DoNotOptimize(tape.gradient({&y, 1}, {&weights, 1}, in));
  }
  report(state, x.size(), 5 * sizeof(float));  // x, y; g, x, dx
}

void layer_norm_rows(benchmark::State& state) {
  const Index n = state.range(1);
  forward_backward(state, {state.range(0), n}, n,
                   [n](const Variable& x, const Variable& w, const Variable& b) { return layer_norm(x, {n}, w, b); });
}
void layer_norm_of_ops(benchmark::State& state) {
  forward_backward(state, {state.range(0), state.range(1)}, state.range(1),
                   [](const Variable& x, const Variable& w, const Variable& b) {
                     const Variable c = x - mean(x, {1}, true);
                     return c * pow(mean(square(c), {1}, true) + 1e-5, -0.5) * w + b;
                   });
}
BENCHMARK(layer_norm_rows)->Args({768, 128})->Args({1024, 384});
BENCHMARK(layer_norm_of_ops)->Args({768, 128})->Args({1024, 384});

template <bool with_relu>
void batch_norm_images(benchmark::State& state) {
  const Shape shape{state.range(0), state.range(1), state.range(2), state.range(2)};
  forward_backward(state, shape, shape[1], [](const Variable& x, const Variable& w, const Variable& b) {
    return batch_norm(x, w, b, {.relu = with_relu});
  });
}
void batch_norm_then_relu(benchmark::State& state) {
  const Shape shape{state.range(0), state.range(1), state.range(2), state.range(2)};
  forward_backward(state, shape, shape[1],
                   [](const Variable& x, const Variable& w, const Variable& b) { return relu(batch_norm(x, w, b)); });
}
void batch_norm_rows(benchmark::State& state) {
  forward_backward(state, {state.range(0), state.range(1)}, state.range(1),
                   [](const Variable& x, const Variable& w, const Variable& b) { return batch_norm(x, w, b); });
}
#define IMAGES Args({64, 32, 32})->Args({64, 128, 8})->Args({32, 16, 32})
BENCHMARK(batch_norm_images<false>)->IMAGES;
BENCHMARK(batch_norm_images<true>)->IMAGES;
BENCHMARK(batch_norm_then_relu)->IMAGES;
BENCHMARK(batch_norm_rows)->Args({128, 300});

/// Rows of range(0), 1e5 elements in all, one thread.
void layer_norm_kernel(benchmark::State& state) {
  const Index n = state.range(0), rows = 100000 / n;
  Rng rng(1);
  const Tensor x = rng.normal({rows, n}), w = rng.normal({n}), b = rng.normal({n});
  Tensor y = Tensor::empty({rows, n});
  std::vector<kernels::RowStatistics> statistics(static_cast<std::size_t>(rows));
  float* out = y.write<float>("bench");
  for (auto _ : state) {
    kernels::norm<float>().rows(x.data<float>(), w.data<float>(), b.data<float>(), out, rows, n, 1e-5, true,
                                statistics.data());
    benchmark::ClobberMemory();
  }
  report(state, x.size(), 2 * sizeof(float));
}
BENCHMARK(layer_norm_kernel)->Arg(128)->Arg(384)->Arg(768);

/// The plain loop beside it.
void layer_norm_plain_loop(benchmark::State& state) {
  const Index n = state.range(0), rows = 100000 / n;
  Rng rng(1);
  const Tensor x = rng.normal({rows, n}), w = rng.normal({n}), b = rng.normal({n});
  Tensor y = Tensor::empty({rows, n});
  const float *in = x.data<float>(), *weight = w.data<float>(), *bias = b.data<float>();
  float* out = y.write<float>("bench");
  for (auto _ : state) {
    for (Index r = 0; r < rows; ++r) {
      const float* row = in + r * n;
      double mean = 0, squares = 0;
      for (Index i = 0; i < n; ++i) mean += static_cast<double>(row[i]);
      mean /= static_cast<double>(n);
      for (Index i = 0; i < n; ++i)
        squares += (static_cast<double>(row[i]) - mean) * (static_cast<double>(row[i]) - mean);
      const auto m = static_cast<float>(mean), rstd = static_cast<float>(1 / std::sqrt(squares / double(n) + 1e-5));
      for (Index i = 0; i < n; ++i) out[r * n + i] = (row[i] - m) * rstd * weight[i] + bias[i];
    }
    benchmark::ClobberMemory();
  }
  report(state, x.size(), 2 * sizeof(float));
}
BENCHMARK(layer_norm_plain_loop)->Arg(768);

}  // namespace
