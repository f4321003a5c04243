// Dense products at training and inference shapes, with plain OpenBLAS on as many threads beside ours.
//
//   gemm_bench --benchmark_filter='NT/.*/64/300' --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
//
// Arguments: m, n, k, threads. NT is a layer's forward, NN its input gradient, TN its weight gradient.
#include <benchmark/benchmark.h>
#include <cblas.h>

#include <string>
#include <vector>

#include "espalier/core/kernels/gemm.h"
#include "espalier/core/parallel.h"

namespace {

using espalier::Index;

struct Problem {
  Problem(const benchmark::State& state, bool transpose_a, bool transpose_b)
      : m(state.range(0)),
        n(state.range(1)),
        k(state.range(2)),
        threads(static_cast<int>(state.range(3))),
        ta(transpose_a),
        tb(transpose_b) {
    a.assign(static_cast<std::size_t>(m * k), 0.5f);
    b.assign(static_cast<std::size_t>(n * k), 0.25f);
    c.resize(static_cast<std::size_t>(m * n));
  }
  void report(benchmark::State& state) const {
    state.counters["GFLOP/s"] =
        benchmark::Counter(2e-9 * static_cast<double>(m * n * k), benchmark::Counter::kIsIterationInvariantRate);
  }
  Index lda() const { return ta ? m : k; }
  Index ldb() const { return tb ? k : n; }

  Index m, n, k;
  int threads;
  bool ta, tb;
  std::vector<float> a, b, c;
};

void ours(benchmark::State& state, bool ta, bool tb) {
  Problem p(state, ta, tb);
  const espalier::ThreadLimit limit(p.threads);
  for (auto _ : state) {
    espalier::kernels::gemm<float>(p.m, p.n, p.k, 1, {p.a.data(), p.lda(), ta}, {p.b.data(), p.ldb(), tb}, 0,
                                   p.c.data(), p.n);
    benchmark::ClobberMemory();
  }
  p.report(state);
}

void openblas(benchmark::State& state, bool ta, bool tb) {
  Problem p(state, ta, tb);
  openblas_set_num_threads(p.threads);
  for (auto _ : state) {
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, static_cast<int>(p.m),
                static_cast<int>(p.n), static_cast<int>(p.k), 1, p.a.data(), static_cast<int>(p.lda()), p.b.data(),
                static_cast<int>(p.ldb()), 0, p.c.data(), static_cast<int>(p.n));
    benchmark::ClobberMemory();
  }
  openblas_set_num_threads(1);
  p.report(state);
}

const int registered = [] {
  struct Shape {
    const char* op;
    std::vector<std::int64_t> sizes;
  };
  const std::vector<Shape> shapes = {
      {"NT", {64, 300, 784}},    {"TN", {300, 784, 64}},   {"NT", {64, 100, 300}},    {"NN", {64, 300, 100}},
      {"TN", {100, 300, 64}},    {"NT", {64, 10, 100}},    {"NN", {64, 100, 10}},     {"TN", {10, 100, 64}},
      {"NT", {128, 1024, 784}},  {"TN", {1024, 784, 128}}, {"NT", {128, 1024, 1024}}, {"NN", {128, 1024, 1024}},
      {"TN", {1024, 1024, 128}}, {"NT", {128, 10, 1024}},  {"NT", {1, 300, 784}},     {"NT", {1, 1024, 1024}},
      {"NN", {1, 4096, 4096}},   {"NT", {16, 1024, 1024}}, {"NT", {256, 10, 512}},    {"NN", {64, 64, 64}},
      {"NT", {10, 1, 2}},        {"NT", {512, 512, 512}},  {"NN", {1024, 1024, 1024}}};
  for (const Shape& shape : shapes) {
    const std::string op = shape.op;
    const bool ta = op[0] == 'T', tb = op[1] == 'T';
    for (const int threads : {1, 2}) {
      auto arguments = shape.sizes;
      arguments.push_back(threads);
      for (const bool mine : {true, false}) {
        benchmark::RegisterBenchmark(
            (op + (mine ? "/espalier" : "/openblas")).c_str(),
            [=](benchmark::State& state) { mine ? ours(state, ta, tb) : openblas(state, ta, tb); })
            ->Args(arguments)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
      }
    }
  }
  return 0;
}();

}  // namespace
