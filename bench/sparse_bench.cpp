// y = x W^T with a pruned W: the sparse kernel, our dense product, and OpenBLAS on one and two threads.
//
//   sparse_bench --benchmark_filter='1024' --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
//
// Arguments: out, in, batch, zeros in percent, threads.
#include <benchmark/benchmark.h>
#include <cblas.h>

#include <random>
#include <string>
#include <vector>

#include "espalier/core/kernels/gemm.h"
#include "espalier/core/kernels/sparse.h"
#include "espalier/core/parallel.h"

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

const int registered = [] {
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
