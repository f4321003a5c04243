// Which kernel of a packed weight is fastest on this machine.
#include <algorithm>
#include <vector>

#include "espalier/core/detail/race.h"
#include "espalier/core/matmul.h"
#include "espalier/core/packed_linear.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

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
    std::vector<detail::Run> runs = {[&] { product(dense, x); }, [&] { product(single, x); }};
    if (structured) runs.emplace_back([&] { product(blocks, x); });
    const std::vector<double> us = detail::race(runs);
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
