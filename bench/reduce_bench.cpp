// Reductions, scans, orders and moves of whole tensors beside plain loops, f32.
//
//   reduce_bench --benchmark_filter='sum' --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
//
// The last argument is the number of threads. GB/s counts what must be read and written.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/parallel.h"
#include "espalier/core/rearrange.h"
#include "espalier/core/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/core/scan.h"
#include "espalier/core/sort.h"

namespace {

using namespace espalier;

Tensor numbers(const Shape& shape) { return Rng(1).uniform(shape, -1, 1); }

void per_second(benchmark::State& state, Index bytes) {
  state.counters["GB/s"] = benchmark::Counter(
      static_cast<double>(state.iterations()) * static_cast<double>(bytes) * 1e-9, benchmark::Counter::kIsRate);
}

/// f(x), which reads x once and writes its result once.
template <class F>
void measure(benchmark::State& state, const Shape& shape, F f) {
  const ThreadLimit limit(static_cast<int>(state.range(state.range(1) > 0 ? 3 : 0)));
  const Tensor x = numbers(shape);
  Index written = 0;
  for (auto _ : state) {
    const Tensor y = f(x);
    written = y.size() * size_of(y.dtype());
    benchmark::ClobberMemory();
  }
  per_second(state, x.size() * 4 + written);
}
Shape cube(const benchmark::State& state) { return {state.range(0), state.range(1), state.range(2)}; }

// --- sums over the middle of [outer, n, inner] -------------------------------------------------------------------------

void sum_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return sum(x, {1}); });
}
void plain_sum_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) {
    const Index outer = x.dim(0), n = x.dim(1), inner = x.dim(2);
    Tensor y = Tensor::zeros({outer, inner});
    const float* p = x.data<float>();
    float* out = y.write<float>("plain");
    for (Index o = 0; o < outer; ++o)
      for (Index k = 0; k < n; ++k)
        for (Index i = 0; i < inner; ++i) out[o * inner + i] += *p++;
    return y;
  });
}
void var_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return mean_var(x, {1}).var; });
}
void plain_var_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) {
    const Index outer = x.dim(0), n = x.dim(1), inner = x.dim(2);
    Tensor y = Tensor::empty({outer, inner});
    float* out = y.write<float>("plain");
    for (Index o = 0; o < outer; ++o)
      for (Index i = 0; i < inner; ++i) {
        const float* p = x.data<float>() + o * n * inner + i;
        float mean = 0, squares = 0;
        for (Index k = 0; k < n; ++k) mean += p[k * inner];
        mean /= static_cast<float>(n);
        for (Index k = 0; k < n; ++k) squares += (p[k * inner] - mean) * (p[k * inner] - mean);
        out[o * inner + i] = squares / static_cast<float>(n - 1);
      }
    return y;
  });
}
void amax_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return amax(x, {1}); });
}
void argmax_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return argmax(x, 1); });
}
void logsumexp_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return logsumexp(x, {1}); });
}
void norm_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return norm(x, 2, {1}); });
}
void cumsum_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return cumsum(x, 1); });
}
void plain_cumsum_middle(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) {
    const Index outer = x.dim(0), n = x.dim(1), inner = x.dim(2);
    Tensor y = Tensor::empty(x.shape());
    for (Index o = 0; o < outer; ++o)
      for (Index i = 0; i < inner; ++i) {
        const float* p = x.data<float>() + o * n * inner + i;
        float* out = y.write<float>("plain") + o * n * inner + i;
        float sum = 0;
        for (Index k = 0; k < n; ++k) out[k * inner] = sum += p[k * inner];
      }
    return y;
  });
}
void var_gradient(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) {
    Tape tape;
    const Variable v = tape.watch(x), y = var(v, {1});
    const Variable one(Tensor::ones(y.shape()));
    return tape.gradient({&y, 1}, {&one, 1}, {&v, 1})[0].value();
  });
}

/// All elements; long rows and short ones; the first axis, long and wide; a middle one.
void shapes(benchmark::internal::Benchmark* b) {
  for (int threads : {1, 2}) {
    b->Args({1, 1 << 22, 1, threads});
    b->Args({4096, 1024, 1, threads});
    b->Args({1 << 19, 8, 1, threads});
    b->Args({1, 1 << 20, 4, threads});
    b->Args({1, 4096, 1024, threads});
    b->Args({64, 64, 1024, threads});
  }
}
BENCHMARK(sum_middle)->Apply(shapes);
BENCHMARK(plain_sum_middle)->Apply(shapes);
BENCHMARK(var_middle)->Apply(shapes);
BENCHMARK(plain_var_middle)->Apply(shapes);
BENCHMARK(amax_middle)->Apply(shapes);
BENCHMARK(argmax_middle)->Apply(shapes);
BENCHMARK(logsumexp_middle)->Apply(shapes);
BENCHMARK(norm_middle)->Apply(shapes);
BENCHMARK(cumsum_middle)->Apply(shapes);
BENCHMARK(plain_cumsum_middle)->Apply(shapes);
BENCHMARK(var_gradient)->Apply(shapes);

// --- orders ------------------------------------------------------------------------------------------------------------

void sort_rows(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return sort(x, 1).values; });
}
void plain_sort_rows(benchmark::State& state) {  // values only
  measure(state, cube(state), [](const Tensor& x) {
    Tensor y = x.clone();
    float* p = y.write<float>("plain");
    for (Index r = 0; r < y.dim(0); ++r) std::sort(p + r * y.dim(1), p + (r + 1) * y.dim(1));
    return y;
  });
}
void topk_rows(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return topk(x, 10, 1).values; });
}
void rows(benchmark::internal::Benchmark* b) {
  for (int threads : {1, 2}) {
    b->Args({1, 1 << 20, 1, threads});
    b->Args({4096, 256, 1, threads});
  }
}
BENCHMARK(sort_rows)->Apply(rows);
BENCHMARK(plain_sort_rows)->Apply(rows);
BENCHMARK(topk_rows)->Apply(rows);

// --- moves -------------------------------------------------------------------------------------------------------------

void transposed_copy(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return x.transpose(1, 2).contiguous(); });
}
void plain_transposed_copy(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) {
    const Index outer = x.dim(0), n = x.dim(1), inner = x.dim(2);
    Tensor y = Tensor::empty({outer, inner, n});
    const float* p = x.data<float>();
    float* out = y.write<float>("plain");
    for (Index o = 0; o < outer; ++o)
      for (Index i = 0; i < inner; ++i)
        for (Index k = 0; k < n; ++k) *out++ = p[(o * n + k) * inner + i];
    return y;
  });
}
/// [B, T, heads, d] -> [B, heads, T, d], as attention does.
void heads_copy(benchmark::State& state) {
  measure(state, {32, 128, 8, 64}, [](const Tensor& x) { return x.transpose(1, 2).contiguous(); });
}
void cat_halves(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return cat({x, x}, 1).value(); });
}
void flip_last(benchmark::State& state) {
  measure(state, cube(state), [](const Tensor& x) { return flip(x, {1}).value(); });
}
void pad_images(benchmark::State& state) {
  measure(state, {64, 16, 32, 32}, [](const Tensor& x) { return padded(x, std::array<Index, 4>{1, 1, 1, 1}); });
}
void plain_pad_images(benchmark::State& state) {
  measure(state, {64, 16, 32, 32}, [](const Tensor& x) {
    Tensor y = Tensor::zeros({64, 16, 34, 34});
    const float* p = x.data<float>();
    float* out = y.write<float>("plain");
    for (Index image = 0; image < 64 * 16; ++image)
      for (Index h = 0; h < 32; ++h)
        for (Index w = 0; w < 32; ++w) out[(image * 34 + h + 1) * 34 + w + 1] = *p++;
    return y;
  });
}
void pad_reflect_images(benchmark::State& state) {
  measure(state, {64, 16, 32, 32}, [](const Tensor& x) { return pad(x, {1, 1, 1, 1}, PadMode::reflect).value(); });
}
/// The gradient of 64 pieces of [64, 64, 512] that are all used.
template <bool one_node>
void gradient_of_pieces(benchmark::State& state) {
  measure(state, {64, 64, 512}, [](const Tensor& x) {
    Tape tape;
    const Variable v = tape.watch(x);
    std::vector<Variable> pieces;
    if (one_node)
      pieces = unbind(v, 1);
    else
      for (Index k = 0; k < 64; ++k) pieces.push_back(select(v, 1, k));
    std::vector<Variable> ones(pieces.size(), Variable(Tensor::ones(pieces[0].shape())));
    return tape.gradient(pieces, ones, {&v, 1})[0].value();
  });
}
void threads(benchmark::internal::Benchmark* b) {
  b->Args({1, 0});
  b->Args({2, 0});
}
BENCHMARK(transposed_copy)->Args({1, 2048, 2048, 1})->Args({256, 64, 256, 1})->Args({1, 2048, 2048, 2});
BENCHMARK(plain_transposed_copy)->Args({1, 2048, 2048, 1})->Args({256, 64, 256, 1});
BENCHMARK(heads_copy)->Apply(threads);
BENCHMARK(cat_halves)->Args({1, 1 << 20, 4, 1})->Args({1024, 4, 1024, 1})->Args({1024, 4, 1024, 2});
BENCHMARK(flip_last)->Args({1024, 4096, 1, 1})->Args({64, 64, 1024, 1});
BENCHMARK(pad_images)->Apply(threads);
BENCHMARK(plain_pad_images)->Args({1, 0});
BENCHMARK(pad_reflect_images)->Apply(threads);
BENCHMARK(gradient_of_pieces<true>)->Args({1, 0});
BENCHMARK(gradient_of_pieces<false>)->Args({1, 0});

}  // namespace
