// Convolution and pooling kernels beside plain loops; one image a call.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

#include "espalier/core/conv.h"
#include "espalier/core/kernels/pool.h"
#include "espalier/core/parallel.h"
#include "espalier/core/pool.h"
#include "espalier/core/rng.h"

namespace {

using namespace espalier;

/// Arguments: channels in, channels out, side of the image, side of the kernel.
ConvGeometry geometry(const benchmark::State& state, Index groups = 1) {
  const Index in = state.range(0), out = state.range(1), side = state.range(2), kernel = state.range(3);
  return {1, groups, in, out, {side, side}, {kernel, kernel}, {side, side}, {1, 1}, {1, 1}, {kernel / 2, kernel / 2}};
}
void rate(benchmark::State& state, const ConvGeometry& g) {
  const auto products = static_cast<double>(count(g.y_shape()) * count(g.weight_shape()) / g.out);
  state.counters["FLOP/s"] =
      benchmark::Counter(2 * products * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
struct Data {
  explicit Data(const ConvGeometry& geometry_) : g(geometry_) {
    Rng rng(0);
    x = randn(rng, g.x_shape());
    w = randn(rng, g.weight_shape());
    y = randn(rng, g.y_shape());
    set_threads(1);
  }
  ConvGeometry g;
  Tensor x, w, y;
};

void forward(benchmark::State& state) {
  const Data d(geometry(state));
  for (auto _ : state) benchmark::DoNotOptimize(conv2d(d.x, d.w, nullptr, d.g).data<float>());
  rate(state, d.g);
}
void data_gradient(benchmark::State& state) {
  const Data d(geometry(state));
  for (auto _ : state) benchmark::DoNotOptimize(conv2d_data(d.y, d.w, nullptr, d.g).data<float>());
  rate(state, d.g);
}
void weight_gradient(benchmark::State& state) {
  const Data d(geometry(state));
  for (auto _ : state) benchmark::DoNotOptimize(conv2d_weight(d.x, d.y, d.g).data<float>());
  rate(state, d.g);
}
void depthwise(benchmark::State& state) {
  const Data d(geometry(state, state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(conv2d(d.x, d.w, nullptr, d.g).data<float>());
  rate(state, d.g);
}
void depthwise_weight(benchmark::State& state) {
  const Data d(geometry(state, state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(conv2d_weight(d.x, d.y, d.g).data<float>());
  rate(state, d.g);
}
/// Rows of the image times one weight at a time: what a compiler can make a vector loop of.
void plain_forward(benchmark::State& state) {
  const Data d(geometry(state));
  const ConvGeometry& g = d.g;
  Tensor result = Tensor::empty(g.y_shape());
  const float *x = d.x.data<float>(), *w = d.w.data<float>();
  float* y = result.write<float>("plain");
  const Index side = g.size[0];
  for (auto _ : state) {
    std::fill_n(y, result.size(), 0.0f);
    for (Index o = 0; o < g.out; ++o)
      for (Index c = 0; c < g.in; ++c)
        for (Index a = 0; a < g.kernel[0]; ++a)
          for (Index b = 0; b < g.kernel[1]; ++b) {
            const float factor = w[((o * g.in + c) * g.kernel[0] + a) * g.kernel[1] + b];
            const Index down = a - g.before[0], across = b - g.before[1];
            for (Index i = std::max<Index>(0, -down); i < std::min(side, side - down); ++i) {
              const float* from = x + (c * side + i + down) * side + across;
              float* to = y + (o * side + i) * side;
              for (Index j = std::max<Index>(0, -across); j < std::min(side, side - across); ++j)
                to[j] += factor * from[j];
            }
          }
    benchmark::ClobberMemory();
  }
  rate(state, g);
}
void layers(benchmark::internal::Benchmark* b) {
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{3, 32, 32, 3},
                                                 {32, 32, 32, 3},
                                                 {64, 64, 16, 3},
                                                 {128, 128, 8, 3},
                                                 {256, 256, 4, 3},
                                                 {64, 64, 14, 3},
                                                 {64, 64, 7, 3},
                                                 {64, 256, 14, 1},
                                                 {20, 50, 12, 5}})
    b->Args(shape);
}
BENCHMARK(plain_forward)->Apply(layers);
BENCHMARK(forward)->Apply(layers);
BENCHMARK(data_gradient)->Apply(layers);
BENCHMARK(weight_gradient)->Apply(layers);
BENCHMARK(depthwise)->Args({32, 32, 32, 3})->Args({128, 128, 14, 3});
BENCHMARK(depthwise_weight)->Args({32, 32, 32, 3})->Args({128, 128, 14, 3});

/// 64 planes of range(0) squared, windows of 2 x 2.
PoolGeometry pairs(Index side) {
  return {64, {side, side}, {side / 2, side / 2}, {2, 2}, {2, 2}, {1, 1}, {0, 0}, false};
}
void per_element(benchmark::State& state) {
  state.counters["elements/s"] = benchmark::Counter(
      static_cast<double>(64 * state.range(0) * state.range(0) * static_cast<Index>(state.iterations())),
      benchmark::Counter::kIsRate);
}
void max_pairs(benchmark::State& state) {
  const Index side = state.range(0);
  Rng rng(0);
  const Tensor x = randn(rng, {64, side, side});
  set_threads(1);
  for (auto _ : state)
    benchmark::DoNotOptimize(max_pool(x, {64, side / 2, side / 2}, pairs(side)).values.data<float>());
  per_element(state);
}
void plain_max_pairs(benchmark::State& state) {
  const Index side = state.range(0), half = side / 2;
  Rng rng(0);
  const Tensor x = randn(rng, {64, side, side});
  std::vector<float> y(static_cast<std::size_t>(64 * half * half));
  std::vector<std::uint8_t> place(y.size());
  const float* from = x.data<float>();
  for (auto _ : state) {
    std::size_t at = 0;
    for (Index row = 0; row < 64 * half; ++row)
      for (Index j = 0; j < half; ++j, ++at) {
        const float* p = from + 2 * row * side + 2 * j;
        const float four[4] = {p[0], p[1], p[side], p[side + 1]};
        int best = 0;
        for (int k = 1; k < 4; ++k)
          if (four[k] > four[best]) best = k;
        y[at] = four[best];
        place[at] = static_cast<std::uint8_t>(best);
      }
    benchmark::ClobberMemory();
  }
  per_element(state);
}
void spread_pairs(benchmark::State& state) {
  const Index side = state.range(0);
  Rng rng(0);
  const Tensor x = randn(rng, {64, side, side});
  set_threads(1);
  const MaxPool pool = max_pool(x, {64, side / 2, side / 2}, pairs(side));
  for (auto _ : state)
    benchmark::DoNotOptimize(max_pool_spread(pool.values, pool.places, x.shape(), pairs(side)).data<float>());
  per_element(state);
}
BENCHMARK(plain_max_pairs)->Arg(24)->Arg(32);
BENCHMARK(max_pairs)->Arg(24)->Arg(32);
BENCHMARK(spread_pairs)->Arg(24)->Arg(32);

}  // namespace
