// Backward with per-example clipping, against a plain backward, and against one backward for each example.
//
// All run in turns within one iteration. `plain` is the ratio to a plain forward and backward, `singly` how many times
// longer forwards and backwards of single examples take. Arguments: examples, noise multiplier.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>
#include <vector>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/attention.h"
#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/embedding.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/autograd/ops/pool.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"
#include "espalier/optim/per_example.h"

namespace espalier {
namespace {

struct Model {
  std::vector<Parameter> parameters;
  /// Losses of examples [first, first + n).
  std::function<Variable(const std::vector<Parameter>&, Index first, Index n)> losses;

  ParameterList list() const {
    ParameterList all;
    for (const Parameter& p : parameters) all.push_back({p.ref()->name(), p.ref()});
    return all;
  }
  void clear() const {
    for (const Parameter& p : parameters) p.ref()->clear_grad();
  }
};

std::vector<Parameter> normal(Rng& rng, std::initializer_list<Shape> shapes) {
  std::vector<Parameter> all;
  for (const Shape& shape : shapes)
    all.emplace_back(rng.normal(shape, 0, 0.05), std::string("p") + std::to_string(all.size()));
  return all;
}
Variable losses_of(const Variable& y) {
  const Index n = y.shape()[0];
  return sum(square(reshape(y, {n, y.size() / n})), {1});
}

Model digits(Rng& rng, Index n) {
  const Tensor x = randn(rng, {n, 784});
  return {normal(rng, {{300, 784}, {300}, {100, 300}, {100}, {10, 100}, {10}}),
          [x](const std::vector<Parameter>& p, Index first, Index m) {
            const Variable h = linear(x.narrow(0, first, m), p[0], p[1], Activation::relu);
            return losses_of(linear(linear(h, p[2], p[3], Activation::relu), p[4], p[5]));
          }};
}
Model images(Rng& rng, Index n) {
  const Tensor x = randn(rng, {n, 3, 32, 32});
  return {normal(rng, {{32, 3, 3, 3}, {32}, {64, 32, 3, 3}, {64}, {128, 64, 3, 3}, {128}, {10, 128}, {10}}),
          [x](const std::vector<Parameter>& p, Index first, Index m) {
            Variable h = x.narrow(0, first, m);
            for (std::size_t k = 0; k < 6; k += 2) h = max_pool2d(relu(conv2d(h, p[k], p[k + 1], {.padding = 1})), 2);
            return losses_of(linear(reshape(adaptive_avg_pool2d(h, 1), {m, 128}), p[6], p[7]));
          }};
}
/// One block of a transformer over 64 tokens, embedding and output tied.
Model words(Rng& rng, Index n) {
  std::vector<std::int64_t> tokens;
  for (Index k = 0; k < n * 64; ++k) tokens.push_back(rng.below(1000));
  const Tensor index = Tensor::from(tokens, {n, 64});
  return {normal(rng, {{1000, 128}, {384, 128}, {128, 128}, {128}, {128}, {512, 128}, {512}, {128, 512}, {128}}),
          [index](const std::vector<Parameter>& p, Index first, Index m) {
            Variable h = embedding(index.narrow(0, first, m), p[0]);
            const Variable y = layer_norm(h, {128}, p[3], p[4]);
            h = add(h, linear(self_attention(linear(y, p[1]), 4), p[2]));
            h = add(h, linear(linear(h, p[5], p[6], Activation::relu), p[7], p[8]));
            return losses_of(linear(h, p[0]));
          }};
}

double seconds(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

void step(benchmark::State& state, Model (*make)(Rng&, Index)) {
  set_threads(1);
  Rng rng(1);
  const Index n = state.range(0);
  const Model model = make(rng, n);
  optim::PerExampleClip clip(model.list(), {.max_norm = 1, .noise_multiplier = static_cast<double>(state.range(1))},
                             Rng(2));
  const auto ghost = [&] {
    Tape tape;
    clip.watch(tape);
    benchmark::DoNotOptimize(clip.backward(tape, model.losses(model.parameters, 0, n)));
    model.clear();
  };
  const auto plain = [&] {
    Tape tape;
    tape.backward(sum(model.losses(model.parameters, 0, n)));
    model.clear();
  };
  const auto singly = [&] {
    for (Index i = 0; i < n; ++i) {
      Tape tape;
      tape.backward(sum(model.losses(model.parameters, i, 1)));
      model.clear();
    }
  };
  ghost();
  plain();
  std::vector<double> to_plain, to_singly;
  for (auto _ : state) {
    const double g = seconds(ghost), p = seconds(plain), s = seconds(singly);
    state.SetIterationTime(g);
    to_plain.push_back(g / p);
    to_singly.push_back(s / g);
  }
  state.counters["plain"] = median(to_plain);
  state.counters["singly"] = median(to_singly);
}

BENCHMARK_CAPTURE(step, mlp, digits)
    ->ArgsProduct({{256}, {0, 1}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(15);
BENCHMARK_CAPTURE(step, cnn, images)
    ->ArgsProduct({{32}, {0, 1}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(7);
BENCHMARK_CAPTURE(step, transformer, words)
    ->ArgsProduct({{16}, {0, 1}})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(7);

}  // namespace
}  // namespace espalier
