// The grid of sparse products: weights, batches and shares of zeros, beside the dense product.
#include <cstdio>
#include <map>
#include <memory>
#include <ostream>

#include "bench/workloads.h"
#include "espalier/core/matmul.h"
#include "espalier/core/packed_linear.h"
#include "espalier/core/rng.h"

namespace espalier::bench {
namespace {

struct Pattern {
  const char* name;   // of the workload
  const char* title;  // of the column
  double sparsity;    // 0: dense; negative: 2 of 4
};
constexpr Pattern patterns[] = {{"s0", "dense us", 0}, {"s50", "50 %", 0.5},  {"s80", "80 %", 0.8},
                                {"s90", "90 %", 0.9},  {"s95", "95 %", 0.95}, {"s98", "98 %", 0.98},
                                {"2of4", "2:4", -1}};
constexpr std::pair<Index, Index> shapes[] = {{300, 784}, {1024, 1024}, {4096, 4096}};
constexpr Index batches[] = {1, 16, 64};

std::string name_of(Index out, Index in, Index batch, const Pattern& pattern) {
  return "spmm_" + std::to_string(out) + "x" + std::to_string(in) + "_b" + std::to_string(batch) + "_" + pattern.name;
}

/// Zeros that share of the weight, or two of each four.
void prune(Rng& rng, Tensor& weight, double sparsity) {
  const Index size = weight.size();
  const std::vector<float> chance = rng.uniform({size}, 0, 1).to_vector<float>();
  float* values = weight.write<float>("prune");
  for (Index i = 0; i < size; i += 4) {
    const auto draw = [&](Index k) { return chance[static_cast<std::size_t>(k)]; };
    if (sparsity > 0) {
      for (Index k = i; k < std::min(size, i + 4); ++k)
        if (static_cast<double>(draw(k)) < sparsity) values[k] = 0;
    } else if (i + 4 <= size) {
      const Index first = static_cast<Index>(draw(i) * 4) & 3,
                  second = (first + 1 + static_cast<Index>(draw(i + 1) * 3) % 3) & 3;
      values[i + first] = values[i + second] = 0;
    }
  }
}

/// y = x W^T with a packed W [out, in].
Task product(Index out, Index in, Index batch, double sparsity) {
  Rng rng(0);
  Tensor weight = randn(rng, {out, in});
  const Tensor x = randn(rng, {batch, in});
  if (sparsity != 0) {
    prune(rng, weight, sparsity);
    const KernelChoice kernel = sparsity < 0 ? KernelChoice::grouped : KernelChoice::sparse;
    weight = Tensor::packed(weight.shape(), weight.dtype(),
                            std::make_unique<PackedLinear>(weight, KernelChoices{kernel, kernel, kernel}));
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
  for (const auto& [out, in] : shapes)
    for (const Index batch : batches)
      for (const Pattern& pattern : patterns)
        rows.push_back({"sparse", name_of(out, in, batch, pattern),
                        [=, out = out, in = in] { return product(out, in, batch, pattern.sparsity); }});
  return rows;
}

void print_sparse_grid(const std::vector<Result>& results, std::ostream& out) {
  std::map<std::string, double> us;
  for (const Result& result : results)
    if (result.metric == "spmm") us[result.workload] = median(result.samples);
  if (us.empty()) return;
  char cell[64];
  const auto print = [&](const char* format, auto... values) {
    std::snprintf(cell, sizeof cell, format, values...);
    out << cell;
  };
  print("%-16s", "weight, batch");
  for (const Pattern& pattern : patterns) print("%18s", pattern.title);
  out << "   (us, times as fast as dense)\n";
  for (const auto& [rows, columns] : shapes)
    for (const Index batch : batches) {
      const auto dense = us.find(name_of(rows, columns, batch, patterns[0]));
      if (dense == us.end()) continue;
      const std::string label = std::to_string(rows) + "x" + std::to_string(columns) + " b" + std::to_string(batch);
      print("%-16s", label.c_str());
      for (const Pattern& pattern : patterns) {
        const auto found = us.find(name_of(rows, columns, batch, pattern));
        if (found == us.end())
          print("%18s", "-");
        else if (pattern.sparsity == 0)
          print("%18.4g", found->second);
        else
          print("%10.4g (%4.1fx)", found->second, dense->second / found->second);
      }
      out << '\n';
    }
}

}  // namespace espalier::bench
