#include <memory>

#include "bench/workloads.h"
#include "espalier/core/matmul.h"
#include "espalier/core/packed_linear.h"
#include "espalier/core/rng.h"

namespace espalier::bench {
namespace {

/// y = x W^T with W [out, in], `sparsity` per cent of it zero. Dense where that is 0.
Task product(Index out, Index in, Index batch, int sparsity) {
  Rng rng(0);
  Tensor weight = randn(rng, {out, in});
  const Tensor x = randn(rng, {batch, in});
  if (sparsity > 0) {
    const auto live = rng.bernoulli({out, in}, 1 - sparsity / 100.0).to(DType::u8).to_vector<std::uint8_t>();
    float* values = weight.write<float>("prune");
    for (std::size_t i = 0; i < live.size(); ++i)
      if (live[i] == 0) values[i] = 0;
    weight = Tensor::packed(weight.shape(), weight.dtype(), std::make_unique<PackedLinear>(weight));
  }
  Task task;
  task.run = [=] { keep(linear(x, weight, nullptr).data<float>()); };
  task.figures = {microseconds("spmm")};
  task.min_seconds = 0.004;
  return task;
}

}  // namespace

std::vector<Workload> sparse_workloads() {
  std::vector<Workload> rows;
  const std::pair<Index, Index> shapes[] = {{1024, 1024}, {4096, 4096}, {300, 784}};
  for (const auto& [out, in] : shapes) {
    for (Index batch : {1, 16, 64}) {
      for (int sparsity : {0, 50, 80, 90, 95, 98}) {
        const std::string name = "spmm_" + std::to_string(out) + "x" + std::to_string(in) + "_b" +
                                 std::to_string(batch) + "_s" + std::to_string(sparsity);
        rows.push_back({"sparse", name, [=, out = out, in = in] { return product(out, in, batch, sparsity); }});
      }
    }
  }
  return rows;
}

}  // namespace espalier::bench
