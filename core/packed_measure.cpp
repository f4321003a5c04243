// Which kernel of a packed weight is fastest on this machine.
#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "espalier/core/matmul.h"
#include "espalier/core/packed_linear.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using Clock = std::chrono::steady_clock;
using Run = std::function<void()>;

double seconds(const Run& run, int repeats) {
  const auto start = Clock::now();
  for (int i = 0; i < repeats; ++i) run();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

/// Seconds of each, the first being dense, in interleaved rounds, so that what disturbs the machine disturbs all.
std::vector<double> race(const std::vector<Run>& runs) {
  constexpr double shortest_round = 100e-6, long_round = 10e-3;
  for (const Run& run : runs) run();
  const double once = seconds(runs.front(), 1);
  const int repeats = static_cast<int>(std::clamp(shortest_round / std::max(once, 1e-9), 1.0, 1000.0));
  const int rounds = once > long_round ? 5 : 15;
  std::vector<std::vector<double>> times(runs.size());
  for (int round = 0; round < rounds; ++round)
    for (std::size_t k = 0; k < runs.size(); ++k) times[k].push_back(seconds(runs[k], repeats) / repeats);
  std::vector<double> medians;
  for (std::vector<double>& each : times) medians.push_back(median(std::move(each)));
  return medians;
}

/// `x_of(batch)` -> input, `run(weight, x)`: one product with a dense or a packed weight.
template <class MakeX, class Product>
KernelChoices choose(const Tensor& weight, KernelTimes* times, const MakeX& x_of, const Product& product) {
  constexpr double margin = 1.10, near = 1.05;
  constexpr std::array<Index, 3> batches = {1, 8, 64};
  const ThreadLimit alone(1);  // the choice must not depend on how many threads run later
  const Tensor dense = weight.densify().contiguous();
  const auto packed = [&](KernelChoice choice) {
    return Tensor::packed(dense.shape(), dense.dtype(),
                          std::make_unique<PackedLinear>(dense, KernelChoices{choice, choice, choice}));
  };
  KernelTimes seen;
  seen.structure = structure_of(dense);
  const bool structured = seen.structure != KernelChoice::sparse;
  const Tensor single = packed(KernelChoice::sparse), blocks = structured ? packed(seen.structure) : Tensor();
  KernelChoices choices;
  const std::array<KernelChoice*, 3> classes = {&choices.one, &choices.few, &choices.many};
  for (std::size_t k = 0; k < batches.size(); ++k) {
    const Tensor x = x_of(batches[k]);
    std::vector<Run> runs = {[&] { product(dense, x); }, [&] { product(single, x); }};
    if (structured) runs.emplace_back([&] { product(blocks, x); });
    const std::vector<double> us = race(runs);
    seen.dense_us[k] = us[0] * 1e6;
    seen.sparse_us[k] = us[1] * 1e6;
    if (structured) seen.structured_us[k] = us[2] * 1e6;
    // What has a structure keeps to it where the forms are about as fast: one copy of the values is enough.
    const bool take_blocks = structured && us[2] <= near * us[1];
    const double best = take_blocks ? us[2] : us[1];
    *classes[k] = us[0] < margin * best ? KernelChoice::dense : take_blocks ? seen.structure : KernelChoice::sparse;
  }
  if (times) *times = seen;
  return choices;
}

Tensor some_values(const Shape& shape, DType type) {
  Tensor x = Tensor::empty(shape, type);
  dispatch_floating("packed_linear", type, [&]<class T>() {
    T* values = x.write<T>("measure");
    for (Index i = 0; i < x.size(); ++i) values[i] = static_cast<T>(i % 7) * T(0.25) - T(0.75);
  });
  return x;
}

}  // namespace

KernelChoices measure_kernels(const Tensor& weight, KernelTimes* times) {
  if (weight.rank() != 2) fail<ShapeError>("[packed_linear] weight must be [out, in], got ", weight.shape());
  return choose(
      weight, times,
      [&](Index batch) {
        return some_values({batch, weight.shape()[1]}, weight.dtype());
      },
      [](const Tensor& w, const Tensor& x) { linear(x, w, nullptr); });
}

KernelChoices measure_kernels(const Tensor& weight, const ConvGeometry& geometry, KernelTimes* times) {
  ConvGeometry g = geometry;
  return choose(
      weight, times,
      [&](Index batch) {
        g.batch = batch;
        return some_values(g.x_shape(), weight.dtype());
      },
      [&](const Tensor& w, const Tensor& x) {
        if (const auto* packed = dynamic_cast<const PackedLinear*>(w.packed()))
          packed->conv2d(x, nullptr, g, false);
        else
          conv2d(x, w.view(g.weight_shape()), nullptr, g);
      });
}

}  // namespace espalier
