#include "espalier/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "espalier/core/parallel.h"

namespace espalier::data {
namespace {

TrainTest split_by(const Dataset& dataset, const std::vector<bool>& is_test) {
  std::vector<Index> train, test;
  for (std::size_t i = 0; i < is_test.size(); ++i) (is_test[i] ? test : train).push_back(static_cast<Index>(i));
  return {dataset.rows(train), dataset.rows(test)};
}

}  // namespace

Tensor gather_rows(const Tensor& t, std::span<const Index> indices) {
  if (t.rank() == 0) fail<ShapeError>("[rows] a scalar has no rows");
  for (const Index i : indices)
    if (i < 0 || i >= t.dim(0)) fail<IndexError>("[rows] row ", i, " of a tensor ", t.shape());
  const Tensor source = t.contiguous();
  Shape shape = t.shape();
  shape[0] = static_cast<Index>(indices.size());
  Tensor result = Tensor::empty(shape, t.dtype());
  if (result.size() == 0) return result;
  const auto row = static_cast<std::size_t>(result.size() / shape[0] * size_of(t.dtype()));
  const std::byte* from = source.bytes();
  std::byte* to = result.write_bytes("rows");
  constexpr std::size_t chunk_bytes = std::size_t{1} << 17;  // below that a second thread does not pay
  const Index grain = static_cast<Index>(std::max<std::size_t>(1, chunk_bytes / row));
  parallel_for(shape[0], grain, [&](Index begin, Index end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      std::memcpy(to + i * row, from + static_cast<std::size_t>(indices[i]) * row, row);
  });
  return result;
}

Index Dataset::size() const {
  if (!x.defined() || x.rank() == 0) fail<ShapeError>("[dataset] x must be a tensor [N, ...]");
  if (y.defined() && (y.rank() == 0 || y.dim(0) != x.dim(0)))
    fail<ShapeError>("[dataset] x ", x.shape(), " and y ", y.shape(), " have different numbers of rows");
  return x.dim(0);
}

Dataset Dataset::rows(std::span<const Index> indices) const {
  size();
  return {gather_rows(x, indices), y.defined() ? gather_rows(y, indices) : Tensor()};
}

TrainTest split_every(const Dataset& dataset, Index every, Index at) {
  if (at < 0 || at >= every)
    fail<ConfigError>("[split_every] needs 0 <= at < every, got at = ", at, ", every = ", every);
  std::vector<bool> is_test(static_cast<std::size_t>(dataset.size()));
  for (auto i = static_cast<std::size_t>(at); i < is_test.size(); i += static_cast<std::size_t>(every))
    is_test[i] = true;
  return split_by(dataset, is_test);
}

TrainTest split_at_random(const Dataset& dataset, double test_share, Rng rng) {
  if (!(test_share >= 0 && test_share <= 1))
    fail<ConfigError>("[split_at_random] test_share ", test_share, " is outside [0, 1]");
  std::vector<bool> is_test(static_cast<std::size_t>(dataset.size()));
  const std::vector<Index> order = rng.permutation(dataset.size());
  const auto tests = static_cast<std::size_t>(std::llround(test_share * static_cast<double>(order.size())));
  for (std::size_t k = 0; k < tests; ++k) is_test[static_cast<std::size_t>(order[k])] = true;
  return split_by(dataset, is_test);
}

}  // namespace espalier::data
