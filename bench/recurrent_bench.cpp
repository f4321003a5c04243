// Recurrent layers: the fused sequence beside the same recurrence stepped cell by cell, and the product of one step
// with a weight laid out once beside the general product.
//
//   recurrent_bench --benchmark_filter='lstm/' --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
//
// Arguments: sequences, steps, hidden (= inputs), threads, and for sparse_training zeros of weights in percent (0: dense
// products); for the products: rows, columns, inner, threads.
#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/recurrent.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/sparse_training.h"
#include "espalier/core/kernels/own_gemm.h"
#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"

namespace espalier {
namespace {

void report(benchmark::State& state, double flop) {
  state.counters["GFLOP/s"] = benchmark::Counter(1e-9 * flop, benchmark::Counter::kIsIterationInvariantRate);
}

/// A layer, its inputs, and what arrives backward.
struct Layer {
  Layer(const benchmark::State& state, Index layer_gates)
      : batch(state.range(0)), steps(state.range(1)), hidden(state.range(2)), gates(layer_gates) {
    Rng rng(1);
    const double k = 1 / std::sqrt(static_cast<double>(hidden));
    x = rng.normal({steps, batch, hidden}, 0, 1);
    g = rng.normal({steps, batch, hidden}, 0, 1);
    for (const Shape& shape :
         {Shape{gates * hidden, hidden}, Shape{gates * hidden, hidden}, Shape{gates * hidden}, Shape{gates * hidden}})
      weights.push_back(rng.uniform(shape, -k, k));
  }
  double flop(bool backward) const {
    return (backward ? 3 : 1) * 4.0 * static_cast<double>(batch * steps * gates * hidden * hidden);
  }
  Index batch, steps, hidden, gates;
  Tensor x, g;
  std::vector<Tensor> weights;
};

using Call = Variable (*)(const Layer& layer, const Variable& x, const std::vector<Variable>& w);

Variable fused_lstm(const Layer&, const Variable& x, const std::vector<Variable>& w) {
  return lstm(x, {}, {}, w[0], w[1], w[2], w[3]).output;
}
Variable fused_gru(const Layer&, const Variable& x, const std::vector<Variable>& w) {
  return gru(x, {}, w[0], w[1], w[2], w[3]).output;
}
// Stepped: no output is put together, the loss is summed step by step, which is all in favour of the steps.
Variable weigh(const Layer& layer, Index t, const Variable& h, const Variable& loss) {
  const Variable part = sum(mul(h, layer.g.select(0, t)));
  return loss.defined() ? add(loss, part) : part;
}
Variable stepped_lstm(const Layer& layer, const Variable& x, const std::vector<Variable>& w) {
  LstmCellResult s;
  Variable loss;
  for (Index t = 0; t < layer.steps; ++t) {
    s = lstm_cell(x.value().select(0, t), s.h, s.c, w[0], w[1], w[2], w[3]);
    loss = weigh(layer, t, s.h, loss);
  }
  return loss;
}
Variable stepped_gru(const Layer& layer, const Variable& x, const std::vector<Variable>& w) {
  Variable h, loss;
  for (Index t = 0; t < layer.steps; ++t) {
    h = gru_cell(x.value().select(0, t), h, w[0], w[1], w[2], w[3]);
    loss = weigh(layer, t, h, loss);
  }
  return loss;
}

void forward(benchmark::State& state, Index gates, Call call) {
  const Layer layer(state, gates);
  const ThreadLimit limit(static_cast<int>(state.range(3)));
  const std::vector<Variable> w(layer.weights.begin(), layer.weights.end());
  for (auto _ : state) benchmark::DoNotOptimize(call(layer, layer.x, w));
  report(state, layer.flop(false));
}

void training(benchmark::State& state, Index gates, Call call) {
  const Layer layer(state, gates);
  const ThreadLimit limit(static_cast<int>(state.range(3)));
  for (auto _ : state) {
    Tape tape;
    const Variable x = tape.watch(layer.x);
    std::vector<Variable> w{x};
    for (const Tensor& weight : layer.weights) w.push_back(tape.watch(weight));
    const std::vector<Variable> inputs = w;
    w.erase(w.begin());
    const Variable y = call(layer, x, w);
    const Variable seed = y.rank() == 0 ? Variable(Tensor::ones({})) : Variable(layer.g);
    benchmark::DoNotOptimize(tape.gradient({&y, 1}, {&seed, 1}, inputs));
  }
  report(state, layer.flop(true));
}

/// Steps of an LSTM whose weights are pruned, and changed by each step.
void sparse_training(benchmark::State& state) {
  const Layer layer(state, 4);
  const ThreadLimit limit(static_cast<int>(state.range(3)));
  const double live = 1 - static_cast<double>(state.range(4)) / 100;
  Rng rng(2);
  ParameterList list;
  std::vector<Parameter> w;
  for (const Tensor& weight : layer.weights) {
    w.emplace_back(weight.clone());
    if (live < 1 && weight.rank() == 2) w.back().set_mask(Mask(rng.bernoulli({weight.size()}, live)));
    list.push_back({"weight", w.back().ref()});
  }
  const SparseTraining sparse(list, {.measure = false});
  for (auto _ : state) {
    for (Parameter& each : w) each.ref()->mutable_value().write<float>("bench");
    Tape tape;
    const Variable x = tape.watch(layer.x), y = lstm(x, {}, {}, w[0], w[1], w[2], w[3]).output, seed = layer.g;
    const std::vector<Variable> inputs{x, w[0], w[1], w[2], w[3]};
    benchmark::DoNotOptimize(tape.gradient({&y, 1}, {&seed, 1}, inputs));
  }
}

void prepacked(benchmark::State& state, bool transposed) {
  const Index m = state.range(0), n = state.range(1), k = state.range(2), stride = k + 16;
  const ThreadLimit limit(static_cast<int>(state.range(3)));
  const std::vector<float> a(static_cast<std::size_t>(m * stride), 0.5f), b(static_cast<std::size_t>(n * k), 0.25f);
  std::vector<float> c(static_cast<std::size_t>(m * n));
  const kernels::Prepacked<float> weight({b.data(), transposed ? k : n, transposed}, k, n);
  for (auto _ : state) {
    weight.multiply(m, a.data(), stride, c.data(), n, false);
    benchmark::ClobberMemory();
  }
  report(state, 2.0 * static_cast<double>(m * n * k));
}
void general(benchmark::State& state, bool transposed) {
  const Index m = state.range(0), n = state.range(1), k = state.range(2), stride = k + 16;
  const ThreadLimit limit(static_cast<int>(state.range(3)));
  const std::vector<float> a(static_cast<std::size_t>(m * stride), 0.5f), b(static_cast<std::size_t>(n * k), 0.25f);
  std::vector<float> c(static_cast<std::size_t>(m * n));
  for (auto _ : state) {
    kernels::gemm<float>(m, n, k, 1, {a.data(), stride, false}, {b.data(), transposed ? k : n, transposed}, 0, c.data(),
                         n);
    benchmark::ClobberMemory();
  }
  report(state, 2.0 * static_cast<double>(m * n * k));
}

void layer_sizes(benchmark::internal::Benchmark* b) {
  for (int threads : {1, 2})
    for (auto [n, t, h] : {std::array<int, 3>{32, 64, 256}, {64, 32, 128}, {1, 64, 256}, {8, 32, 1024}})
      b->Args({n, t, h, threads});
  b->Unit(benchmark::kMillisecond)->UseRealTime();
}
void sparse_sizes(benchmark::internal::Benchmark* b) {
  for (int threads : {1, 2})
    for (auto [n, t, h] : {std::array<int, 3>{32, 32, 256}, {32, 32, 128}, {4, 32, 256}})
      for (int zeros : {0, 80, 90, 95, 98}) b->Args({n, t, h, threads, zeros});
  b->Unit(benchmark::kMillisecond)->UseRealTime();
}
void forward_products(benchmark::internal::Benchmark* b) {
  for (int m : {1, 8, 16, 32}) b->Args({m, 1024, 256, 1});
  b->UseRealTime();
}
void backward_products(benchmark::internal::Benchmark* b) {
  for (int m : {1, 8, 16, 32}) b->Args({m, 256, 1024, 1});
  b->UseRealTime();
}

BENCHMARK_CAPTURE(prepacked, forward, true)->Apply(forward_products);
BENCHMARK_CAPTURE(general, forward, true)->Apply(forward_products);
BENCHMARK_CAPTURE(prepacked, backward, false)->Apply(backward_products);
BENCHMARK_CAPTURE(general, backward, false)->Apply(backward_products);
BENCHMARK_CAPTURE(forward, lstm, 4, fused_lstm)->Apply(layer_sizes);
BENCHMARK_CAPTURE(forward, lstm_stepped, 4, stepped_lstm)->Apply(layer_sizes);
BENCHMARK_CAPTURE(forward, gru, 3, fused_gru)->Apply(layer_sizes);
BENCHMARK_CAPTURE(forward, gru_stepped, 3, stepped_gru)->Apply(layer_sizes);
BENCHMARK_CAPTURE(training, lstm, 4, fused_lstm)->Apply(layer_sizes);
BENCHMARK_CAPTURE(training, lstm_stepped, 4, stepped_lstm)->Apply(layer_sizes);
BENCHMARK_CAPTURE(training, gru, 3, fused_gru)->Apply(layer_sizes);
BENCHMARK_CAPTURE(training, gru_stepped, 3, stepped_gru)->Apply(layer_sizes);
BENCHMARK(sparse_training)->Apply(sparse_sizes);

}  // namespace
}  // namespace espalier
