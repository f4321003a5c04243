// Packing: sparse weights stored as their entries that are not zero, where a sparse kernel runs them faster.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/core/conv.h"

namespace espalier::prune {

/// How the kernel of a sparse weight is chosen.
enum class Kernels : std::uint8_t {
  measured,  ///< by timing this machine: sparse where it is at least 1.10 times faster
  fixed      ///< by a table in the source: the same everywhere
};

/// A weight before and after.
struct CompactLayer {
  std::string name;  ///< of the weight
  Shape before, after;
  Index live_before = 0, live_after = 0;    ///< entries that are not 0
  Index bytes_before = 0, bytes_after = 0;  ///< of the weight in memory
  /// On the sample, 2 for each multiply-add: before with all weights, after with those that are not 0. What is computed
  /// in truth depends on the kernel; a dense one multiplies zeros.
  double flops_before = 0, flops_after = 0;
  /// On the sample, of the ops that read the weight; NaN where kernels were not measured.
  double ms_before = std::numeric_limits<double>::quiet_NaN(), ms_after = ms_before;
  double sparsity() const noexcept {  ///< share of the weights there were that are gone
    return count(before) > 0 ? 1 - static_cast<double>(live_after) / static_cast<double>(count(before)) : 0;
  }
  std::array<std::string, 3> kernel;  ///< at batch 1, 2 to 16, and more
  std::string reason;                 ///< what the choice rests on
};

namespace detail {

struct Graph;

/// Entries that are not 0, or stored, if the value is packed.
Index live_entries(const Tensor& value);
CompactLayer row_before(const NamedParameter& named);
void row_after(CompactLayer& row, const ParameterState& p);

/// A parameter that ops with a sparse kernel read as their weight, and nothing else: linear(), convolutions without
/// groups, recurrent layers.
struct Packable {
  const ParameterState* parameter;
  std::optional<ConvGeometry> geometry;  ///< of the first convolution that reads it
};
std::vector<Packable> packable_weights(const Graph& graph);

/// The row of a weight that no sparse kernel runs.
void leave_dense(CompactLayer& row, std::string reason);
inline constexpr const char* no_sparse_kernel = "ops without a sparse kernel read it";
/// Packs a dense weight if a batch class gains by it; fills kernels and reason.
void pack(ParameterState& p, const std::optional<ConvGeometry>& geometry, Kernels how, CompactLayer& row);
/// Soft masks are frozen, packed values become dense.
void densify(ParameterState& p);

}  // namespace detail
}  // namespace espalier::prune
