// Lists of positions, cross-entropy, dropout and fused layers, each beside a plain loop or the separate ops.
//
//   index_bench --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "espalier/autograd/ops/dropout.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/embedding.h"
#include "espalier/autograd/ops/index.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/loss.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/row_sparse.h"

namespace {

using namespace espalier;

Tensor words(Index count, Index rows) {
  Rng rng(1);
  std::vector<Index> list(static_cast<std::size_t>(count));
  for (Index& word : list) word = rng.below(rows);
  return Tensor::from(list, {count});
}

void rate(benchmark::State& state, Index elements) { state.SetItemsProcessed(state.iterations() * elements); }

// --- embedding: arguments are rows of the table, rows read, numbers in a row ------------------------------------------

void embedding_forward(benchmark::State& state) {
  const Tensor table = Rng(2).normal({state.range(0), state.range(2)}), index = words(state.range(1), state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(embedding(index, table).value().bytes());
  rate(state, state.range(1) * state.range(2));
}

void embedding_forward_loop(benchmark::State& state) {
  const Index n = state.range(2), count = state.range(1);
  const Tensor table = Rng(2).normal({state.range(0), n}), index = words(count, state.range(0));
  std::vector<float> y(static_cast<std::size_t>(count * n));
  for (auto _ : state) {
    for (Index j = 0; j < count; ++j)
      for (Index i = 0; i < n; ++i)
        y[static_cast<std::size_t>(j * n + i)] = table.data<float>()[index.data<std::int64_t>()[j] * n + i];
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  rate(state, count * n);
}

void embedding_training(benchmark::State& state, bool sparse) {
  Parameter table(Rng(2).normal({state.range(0), state.range(2)}), "table");
  const Tensor index = words(state.range(1), state.range(0));
  for (auto _ : state) {
    Tape tape;
    tape.backward(sum(embedding(index, table, {.sparse = sparse})));
    table.ref()->clear_grad();
  }
  rate(state, state.range(1) * state.range(2));
}

// --- gather and scatter along the last axis: rows, length ---------------------------------------------------------------

struct Lines {
  explicit Lines(const benchmark::State& state)
      : x(Rng(3).normal({state.range(0), state.range(1)})), index(words(x.size(), state.range(1)).reshape(x.shape())) {}
  Tensor x, index;
};

void gather_lines(benchmark::State& state) {
  const Lines lines(state);
  for (auto _ : state) benchmark::DoNotOptimize(gather(lines.x, 1, lines.index).bytes());
  rate(state, lines.x.size());
}
void gather_loop(benchmark::State& state) {
  const Lines lines(state);
  std::vector<float> y(static_cast<std::size_t>(lines.x.size()));
  const Index n = state.range(1);
  for (auto _ : state) {
    for (Index i = 0; i < lines.x.size(); ++i)
      y[static_cast<std::size_t>(i)] = lines.x.data<float>()[i / n * n + lines.index.data<std::int64_t>()[i]];
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  rate(state, lines.x.size());
}
void scatter_add_lines(benchmark::State& state) {
  const Lines lines(state);
  for (auto _ : state) benchmark::DoNotOptimize(scatter_add(lines.x, 1, lines.index, lines.x).bytes());
  rate(state, lines.x.size());
}

// --- cross-entropy with its gradient: rows, classes ---------------------------------------------------------------------

void cross_entropy_training(benchmark::State& state, double smoothing) {
  const Tensor x = Rng(4).normal({state.range(0), state.range(1)}), labels = words(state.range(0), state.range(1));
  for (auto _ : state) {
    Tape tape;
    const Variable logits = tape.watch(x);
    const Variable loss = mean(softmax_cross_entropy(logits, labels, {.label_smoothing = smoothing}));
    benchmark::DoNotOptimize(tape.gradient(loss, {logits})[0].value().bytes());
  }
  rate(state, x.size());
}
void cross_entropy_loop(benchmark::State& state) {
  const Tensor x = Rng(4).normal({state.range(0), state.range(1)}), labels = words(state.range(0), state.range(1));
  std::vector<float> dx(static_cast<std::size_t>(x.size()));
  const Index classes = state.range(1);
  for (auto _ : state) {
    float loss = 0;
    for (Index r = 0; r < state.range(0); ++r) {
      const float* row = x.data<float>() + r * classes;
      float* out = dx.data() + r * classes;
      const float most = *std::max_element(row, row + classes);
      float total = 0;
      for (Index c = 0; c < classes; ++c) total += out[c] = std::exp(row[c] - most);
      for (Index c = 0; c < classes; ++c) out[c] /= total;
      const Index label = labels.data<std::int64_t>()[r];
      loss -= std::log(out[label]);
      out[label] -= 1;
    }
    benchmark::DoNotOptimize(loss);
    benchmark::ClobberMemory();
  }
  rate(state, x.size());
}

// --- dropout with its gradient: elements ---------------------------------------------------------------------------------

void dropout_training(benchmark::State& state) {
  const Tensor x = Rng(5).normal({state.range(0)});
  Rng rng(6);
  for (auto _ : state) {
    Tape tape;
    const Variable v = tape.watch(x), y = dropout(v, 0.1, rng), seed(x);
    benchmark::DoNotOptimize(tape.gradient({&y, 1}, {&seed, 1}, {&v, 1})[0].value().bytes());
  }
  rate(state, x.size());
}
void dropout_loop(benchmark::State& state) {  // a mask of floats from the scalar generator
  const Tensor x = Rng(5).normal({state.range(0)});
  Rng rng(6);
  const auto n = static_cast<std::size_t>(state.range(0));
  std::vector<float> mask(n), y(n), dx(n);
  for (auto _ : state) {
    for (float& m : mask) m = rng.uniform() < 0.1 ? 0.f : 1 / 0.9f;
    for (std::size_t i = 0; i < n; ++i) y[i] = x.data<float>()[i] * mask[i];
    for (std::size_t i = 0; i < n; ++i) dx[i] = x.data<float>()[i] * mask[i];
    benchmark::DoNotOptimize(y.data());
    benchmark::DoNotOptimize(dx.data());
    benchmark::ClobberMemory();
  }
  rate(state, x.size());
}

// --- a hidden layer with its activation, forward and backward: batch, in, out --------------------------------------------

void layer(benchmark::State& state, bool fused, Activation activation, Variable (*separate)(const Variable&)) {
  Rng rng(7);
  Parameter w(rng.normal({state.range(2), state.range(1)}), "w"), b(rng.normal({state.range(2)}), "b");
  const Tensor input = rng.normal({state.range(0), state.range(1)});
  for (auto _ : state) {
    Tape tape;
    const Variable x = tape.watch(input);
    tape.backward(sum(fused ? linear(x, w, b, activation) : separate(linear(x, w, b))));
    w.ref()->clear_grad();
    b.ref()->clear_grad();
  }
  rate(state, state.range(0) * state.range(2));
}

}  // namespace

BENCHMARK(embedding_forward)->Args({100000, 4096, 64})->Args({65, 16384, 128});
BENCHMARK(embedding_forward_loop)->Args({100000, 4096, 64})->Args({65, 16384, 128});
BENCHMARK_CAPTURE(embedding_training, dense, false)->Args({100000, 64, 64})->Args({65, 16384, 128});
BENCHMARK_CAPTURE(embedding_training, sparse, true)->Args({100000, 64, 64})->Args({65, 16384, 128});
BENCHMARK(gather_lines)->Args({1000, 300});
BENCHMARK(gather_loop)->Args({1000, 300});
BENCHMARK(scatter_add_lines)->Args({1000, 300});
BENCHMARK_CAPTURE(cross_entropy_training, plain, 0)->Args({64, 10})->Args({2048, 65})->Args({256, 10000});
BENCHMARK_CAPTURE(cross_entropy_training, smoothed, 0.1)->Args({2048, 65});
BENCHMARK(cross_entropy_loop)->Args({64, 10})->Args({2048, 65})->Args({256, 10000});
BENCHMARK(dropout_training)->Arg(1 << 20);
BENCHMARK(dropout_loop)->Arg(1 << 20);
BENCHMARK_CAPTURE(layer, relu_fused, true, Activation::relu, relu)->Args({64, 784, 300})->Args({64, 300, 100});
BENCHMARK_CAPTURE(layer, relu_apart, false, Activation::relu, relu)->Args({64, 784, 300})->Args({64, 300, 100});
BENCHMARK_CAPTURE(layer, tanh_fused, true, Activation::tanh, tanh)->Args({64, 300, 100});
BENCHMARK_CAPTURE(layer, tanh_apart, false, Activation::tanh, tanh)->Args({64, 300, 100});
