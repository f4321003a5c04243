// The whole step, clip and all, against loops written by hand for exactly this chain.
//
// Both run in turns within one iteration. `ratio` is the library's time over that of the hand-written loop, or over that
// of the chain without what was added.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "bench/step_by_hand.h"
#include "espalier/core/parallel.h"
#include "espalier/optim/adagrad.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/adam_variants.h"
#include "espalier/optim/adaptive_clip.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/constraint.h"
#include "espalier/optim/gradient_transforms.h"
#include "espalier/optim/lion.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"
#include "espalier/optim/soft_clip.h"

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;

/// Between the fastest tenth and the rest: what other programs on the machine disturb least.
double typical(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 10];
}

enum class Kind { adam, sgd };

void step_by_hand(std::vector<bench::ByHand>& model, Kind kind, int t, float decay) {
  kind == Kind::sgd ? bench::momentum_step_by_hand(model, 0.01f) : bench::adam_step_by_hand(model, t, 1e-3f, decay);
}

/// Parameters of the library with a gradient each, every tenth weight live if `masked`.
struct Library {
  std::vector<Parameter> parameters;
  std::vector<Tensor> gradients;
  ParameterList list;
  Library(Index tensors, const Shape& shape, bool masked) {
    const Index n = count(shape);
    for (Index k = 0; k < tensors; ++k) {
      parameters.emplace_back(Tensor::full(shape, 0.5), "p" + std::to_string(k));
      list.push_back({"p" + std::to_string(k), parameters.back().ref()});
      gradients.push_back(Tensor::linspace(-1, 1, n).reshape(shape));
      if (!masked) continue;
      Mask mask(n);
      for (Index i = 0; i < n; ++i) mask.set(i, (i * 2654435761u >> 7) % 10 == 0);
      parameters.back().set_mask(mask);
    }
  }
  /// Gives back the gradients that the last step consumed; it left their values alone.
  double step(optim::Optimizer& optimizer) const {
    for (std::size_t k = 0; k < parameters.size(); ++k) parameters[k].ref()->mutable_grad() = gradients[k];
    const auto begin = Clock::now();
    optimizer.step();
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }
};

/// Arguments: tensors, elements of each, threads of the library, masked.
void run(benchmark::State& state, const optim::Chain& chain, Kind kind, float decay = 0) {
  const Index tensors = state.range(0), n = state.range(1);
  const ThreadLimit limit(static_cast<int>(state.range(2)));
  const Library model(tensors, {n}, state.range(3) != 0);
  std::vector<bench::ByHand> hand(static_cast<std::size_t>(tensors), bench::ByHand(static_cast<std::size_t>(n)));
  if (state.range(3) != 0)
    for (bench::ByHand& p : hand) {
      const auto words = model.parameters[0].ref()->mask().words();
      p.mask.assign(words.begin(), words.end());
    }
  for (std::size_t k = 0; k < hand.size(); ++k) std::copy_n(model.gradients[k].data<float>(), n, hand[k].g.data());
  optim::Optimizer optimizer(model.list, chain);
  std::vector<double> library, by_hand;
  int t = 0;
  for (auto _ : state) {
    library.push_back(model.step(optimizer));
    const auto begin = Clock::now();
    step_by_hand(hand, kind, ++t, decay);
    by_hand.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    state.SetIterationTime(library.back());
  }
  state.counters["ratio"] = typical(library) / typical(by_hand);
  state.counters["library_us"] = typical(library) * 1e6;
  state.counters["hand_us"] = typical(by_hand) * 1e6;
}

/// What one transform more costs: the chain with it against the chain without, in turns.
void added(benchmark::State& state, const optim::Chain& without, const optim::Chain& with) {
  const ThreadLimit limit(static_cast<int>(state.range(0)));
  const Shape shape = {100, 1000};
  const Library a(100, shape, false), b(100, shape, false);
  optim::Optimizer base(a.list, without), more(b.list, with);
  std::vector<double> times_base, times_more;
  for (auto _ : state) {
    times_base.push_back(a.step(base));
    times_more.push_back(b.step(more));
    state.SetIterationTime(times_more.back());
  }
  state.counters["ratio"] = typical(times_more) / typical(times_base);
  state.counters["without_us"] = typical(times_base) * 1e6;
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tensors", "size", "threads", "masked"})->UseManualTime()->Unit(benchmark::kMillisecond);
  for (int masked : {0, 1}) {
    b->Args({100, 100000, 1, masked});
    b->Args({1000, 1000, 1, masked});
  }
  b->Args({100, 100000, 2, 0});
  b->Args({100, 100000, 2, 1});
  b->Args({1000, 1000, 2, 0});
  b->Args({1000, 1000, 2, 1});
}

BENCHMARK_CAPTURE(run, clip_adam, chain(optim::clip_by_global_norm(1.0), optim::adam()), Kind::adam)->Apply(sizes);
BENCHMARK_CAPTURE(run, clip_sgd_momentum,
                  chain(optim::clip_by_global_norm(1.0), optim::sgd({.lr = 0.01, .momentum = 0.9})), Kind::sgd)
    ->Apply(sizes);
// Masked: mask, clip, Adam, decay, apply, mask.
BENCHMARK_CAPTURE(run, clip_adamw, chain(optim::clip_by_global_norm(1.0), optim::adamw({.weight_decay = 0.01})),
                  Kind::adam, 0.01f)
    ->Apply(sizes);

void threads(benchmark::internal::Benchmark* b) {
  b->ArgNames({"threads"})->Arg(1)->Arg(2)->UseManualTime()->Unit(benchmark::kMillisecond);
}
const optim::Chain norm_clip = optim::clip_by_global_norm(1.0), direction = optim::adam();
BENCHMARK_CAPTURE(added, nothing, chain(norm_clip, direction), chain(norm_clip, direction))->Apply(threads);
BENCHMARK_CAPTURE(added, value_clip_behind, chain(norm_clip, direction),
                  chain(norm_clip, optim::clip_by_value(0.5), direction))
    ->Apply(threads);
BENCHMARK_CAPTURE(added, value_clip_before, chain(norm_clip, direction),
                  chain(optim::clip_by_value(0.5), norm_clip, direction))
    ->Apply(threads);
BENCHMARK_CAPTURE(added, value_clip_of_update, chain(norm_clip, direction),
                  chain(norm_clip, direction, optim::clip_by_value(0.5)))
    ->Apply(threads);
BENCHMARK_CAPTURE(added, centralize, chain(norm_clip, direction), chain(norm_clip, optim::centralize(), direction))
    ->Apply(threads);
BENCHMARK_CAPTURE(added, centralize_before, chain(norm_clip, direction),
                  chain(optim::centralize(), norm_clip, direction))
    ->Apply(threads);
BENCHMARK_CAPTURE(added, clamp, chain(norm_clip, direction),
                  chain(norm_clip, direction, optim::clamp_parameters(-2, 2)))
    ->Apply(threads);

// Other directions against the hand-written loop that moves as much memory: `ratio` is over that floor.
BENCHMARK_CAPTURE(run, clip_lion, chain(optim::clip_by_global_norm(1.0), optim::lion()), Kind::sgd)->Apply(sizes);
BENCHMARK_CAPTURE(run, clip_rmsprop, chain(optim::clip_by_global_norm(1.0), optim::rmsprop()), Kind::sgd)->Apply(sizes);
BENCHMARK_CAPTURE(run, clip_adagrad, chain(optim::clip_by_global_norm(1.0), optim::adagrad()), Kind::sgd)->Apply(sizes);
BENCHMARK_CAPTURE(run, clip_nadam, chain(optim::clip_by_global_norm(1.0), optim::nadam()), Kind::adam)->Apply(sizes);

/// What a clip adds: clip + Adam with it and without it, in turns. `ratio` is one over the other.
void added(benchmark::State& state, const optim::Chain& clip) {
  const auto tensors = static_cast<std::size_t>(state.range(0));
  const Index rows = state.range(1), columns = state.range(2);
  const ThreadLimit limit(1);
  const Tensor gradient = Tensor::linspace(-1, 1, rows * columns).reshape({rows, columns});
  std::vector<Parameter> parameters;
  ParameterList lists[2];
  for (std::size_t k = 0; k < 2 * tensors; ++k) {
    parameters.emplace_back(Tensor::full({rows, columns}, 0.5), "p" + std::to_string(k));
    lists[k % 2].push_back({parameters.back().ref()->name(), parameters.back().ref()});
  }
  const optim::Chain without = chain(optim::clip_by_global_norm(1.0), optim::adam());
  optim::Optimizer optimizers[] = {{lists[0], without},
                                   {lists[1], chain(optim::clip_by_global_norm(1.0), clip, optim::adam())}};
  std::vector<double> times[2];
  for (auto _ : state) {
    for (int k : {0, 1}) {
      for (const NamedParameter& p : lists[k]) p.parameter->accumulate(gradient);
      const auto begin = Clock::now();
      optimizers[k].step();
      times[k].push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
    state.SetIterationTime(times[1].back());
  }
  state.counters["ratio"] = typical(times[1]) / typical(times[0]);
}
void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tensors", "rows", "columns"})->UseManualTime()->Unit(benchmark::kMillisecond);
  b->Args({100, 200, 500});   // 10 million, in units that fit a block
  b->Args({1000, 20, 50});    // one million in small tensors
  b->Args({10, 100, 10000});  // units that do not
}
BENCHMARK_CAPTURE(added, clip_value, optim::clip_by_value(0.5))->Apply(shapes);
BENCHMARK_CAPTURE(added, clip_tanh, optim::clip_tanh(0.5))->Apply(shapes);
BENCHMARK_CAPTURE(added, clip_per_unit_norm, optim::clip_per_unit_norm(0.5))->Apply(shapes);
BENCHMARK_CAPTURE(added, agc, optim::clip_adaptive())->Apply(shapes);
BENCHMARK_CAPTURE(added, autoclip, optim::autoclip())->Apply(shapes);

/// What a step costs apart from arithmetic: three parameters with three elements.
void tiny(benchmark::State& state, const optim::Chain& chain) {
  std::vector<Parameter> parameters;
  ParameterList list;
  for (int k = 0; k < 3; ++k) {
    parameters.emplace_back(Tensor::full({1}, 0.5), "p" + std::to_string(k));
    list.push_back({"p" + std::to_string(k), parameters.back().ref()});
  }
  optim::Optimizer optimizer(list, chain);
  for (auto _ : state) {
    for (const Parameter& p : parameters) p.ref()->accumulate(Tensor::empty({1}));
    for (const Parameter& p : parameters) *p.ref()->mutable_grad().write<float>("bench") = 1;
    benchmark::DoNotOptimize(optimizer.step());
  }
}
BENCHMARK_CAPTURE(tiny, clip_sgd, chain(optim::clip_by_global_norm(1.0), optim::sgd({.lr = 0.01})));
BENCHMARK_CAPTURE(tiny, clip_adam, chain(optim::clip_by_global_norm(1.0), optim::adam()));
BENCHMARK_CAPTURE(tiny, sgd, optim::sgd({.lr = 0.01}));

}  // namespace
}  // namespace espalier
