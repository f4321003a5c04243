// y = x W^T with a pruned W: the sparse kernel, our dense product, and OpenBLAS on one and two threads.
//
//   sparse_bench --benchmark_filter='1024' --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
//
// Arguments: out, in, batch, zeros in percent, threads.
//
// And the products of a training step of a convolution with a mask, in rounds that alternate between dense and sparse,
// one thread: how many times as fast as dense forward, input gradient, weight gradient and all three are.
//
//   sparse_bench --benchmark_filter='conv_training'
//
// Arguments: channels, pixels of a side, kernel, stride, batch, zeros in percent.
#include <benchmark/benchmark.h>
#include <cblas.h>

#include <array>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "espalier/core/conv.h"
#include "espalier/core/detail/race.h"
#include "espalier/core/kernels/gemm.h"
#include "espalier/core/kernels/sparse.h"
#include "espalier/core/masked_conv.h"
#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"

namespace {

using espalier::Index;

struct Layer {
  explicit Layer(const benchmark::State& state)
      : out(state.range(0)), in(state.range(1)), batch(state.range(2)), threads(static_cast<int>(state.range(4))) {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::bernoulli_distribution zero(static_cast<double>(state.range(3)) / 100);
    w.resize(static_cast<std::size_t>(out * in));
    for (float& v : w) v = zero(random) ? 0 : uniform(random);
    x.resize(static_cast<std::size_t>(batch * in));
    for (float& v : x) v = uniform(random);
    y.resize(static_cast<std::size_t>(batch * out));
  }
  Index out, in, batch;
  int threads;
  std::vector<float> w, x, y;
};

void sparse(benchmark::State& state) {
  Layer layer(state);
  const auto packed = espalier::kernels::to_sparse(layer.w.data(), layer.out, layer.in);
  const espalier::ThreadLimit limit(layer.threads);
  for (auto _ : state) {
    espalier::kernels::sparse_linear<float>(packed, layer.x.data(), layer.batch, nullptr, layer.y.data());
    benchmark::ClobberMemory();
  }
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(packed.live * layer.batch),
                                                 benchmark::Counter::kIsIterationInvariantRate);
}

void dense(benchmark::State& state) {
  Layer layer(state);
  const espalier::ThreadLimit limit(layer.threads);
  for (auto _ : state) {
    espalier::kernels::gemm<float>(layer.batch, layer.out, layer.in, 1, {layer.x.data(), layer.in},
                                   {layer.w.data(), layer.in, true}, 0, layer.y.data(), layer.out);
    benchmark::ClobberMemory();
  }
}

void openblas(benchmark::State& state) {
  Layer layer(state);
  openblas_set_num_threads(layer.threads);
  const int out = static_cast<int>(layer.out), in = static_cast<int>(layer.in), batch = static_cast<int>(layer.batch);
  for (auto _ : state) {
    if (batch == 1) {
      cblas_sgemv(CblasRowMajor, CblasNoTrans, out, in, 1, layer.w.data(), in, layer.x.data(), 1, 0, layer.y.data(), 1);
    } else {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, batch, out, in, 1, layer.x.data(), in, layer.w.data(), in, 0,
                  layer.y.data(), out);
    }
    benchmark::ClobberMemory();
  }
  openblas_set_num_threads(1);
}

void conv_training(benchmark::State& state) {
  using espalier::Tensor;
  const Index channels = state.range(0), side = state.range(1), kernel = state.range(2), stride = state.range(3);
  const espalier::ThreadLimit limit(1);
  espalier::ConvGeometry g{state.range(4),   1,  channels,         channels, {side, side},
                           {kernel, kernel}, {}, {stride, stride}, {1, 1},   {kernel / 2, kernel / 2}};
  for (std::size_t a = 0; a < 2; ++a) g.result[a] = (side + 2 * g.before[a] - kernel) / stride + 1;
  espalier::Rng rng(1);
  const Tensor w = rng.normal(g.weight_shape(), 0, 1), x = rng.normal(g.x_shape(), 0, 1),
               y = rng.normal(g.y_shape(), 0, 1);
  std::mt19937 random(1);
  std::bernoulli_distribution live(1 - static_cast<double>(state.range(5)) / 100);
  std::vector<std::uint64_t> words(static_cast<std::size_t>((w.size() + 63) / 64));
  for (Index i = 0; i < w.size(); ++i) words[static_cast<std::size_t>(i / 64)] |= std::uint64_t{live(random)} << i % 64;
  espalier::MaskedConv sparse(w.shape(), g, w.dtype(), words);
  sparse.refresh(w);
  const std::vector<std::function<void()>> runs = {[&] { espalier::conv2d(x, w, nullptr, g); },
                                                   [&] { espalier::conv2d_data(y, w, nullptr, g); },
                                                   [&] { espalier::conv2d_weight(x, y, g); },
                                                   [&] {
                                                     sparse.refresh(w);
                                                     sparse.conv2d(x, nullptr, g);
                                                   },
                                                   [&] { sparse.input_gradient(y, g); },
                                                   [&] { sparse.weight_gradient(y, x, g); }};
  for (auto _ : state) {
    const std::vector<double> t = espalier::detail::race(runs);
    state.counters["forward"] = t[0] / t[3];
    state.counters["dx"] = t[1] / t[4];
    state.counters["dw"] = t[2] / t[5];
    state.counters["all"] = (t[0] + t[1] + t[2]) / (t[3] + t[4] + t[5]);
    state.counters["dense_us"] = 1e6 * (t[0] + t[1] + t[2]);
    state.counters["sparse_us"] = 1e6 * (t[3] + t[4] + t[5]);
  }
}

const int registered = [] {
  for (const auto& [channels, side, kernel, stride] :
       {std::array<int, 4>{64, 16, 3, 1}, {64, 16, 3, 2}, {128, 8, 3, 1}, {256, 14, 1, 1}, {16, 32, 3, 1}})
    for (const int zeros : {80, 90, 95, 98})
      benchmark::RegisterBenchmark("conv_training", conv_training)
          ->Args({channels, side, kernel, stride, 16, zeros})
          ->Iterations(3);
  for (const auto& [out, in] : std::vector<std::pair<int, int>>{{300, 784}, {1024, 1024}, {4096, 4096}}) {
    for (const int batch : {1, 16, 64}) {
      for (const int threads : {1, 2}) {
        const auto add = [&](const char* name, void (*run)(benchmark::State&), int zeros) {
          benchmark::RegisterBenchmark(name, run)
              ->Args({out, in, batch, zeros, threads})
              ->UseRealTime()
              ->Unit(benchmark::kMicrosecond);
        };
        add("openblas", openblas, 0);
        add("dense", dense, 0);
        for (const int zeros : {50, 80, 90, 95, 98}) add("sparse", sparse, zeros);
      }
    }
  }
  return 0;
}();

}  // namespace
