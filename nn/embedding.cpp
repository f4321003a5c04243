#include "espalier/nn/embedding.h"

#include <algorithm>
#include <vector>

#include "espalier/autograd/ops/compare.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/index.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"

namespace espalier::nn {
namespace detail {

Parameter draw_table(const char* layer, Rng& rng, Index rows, Index dim, DType type,
                     std::optional<Index>& padding_idx) {
  if (rows < 0 || dim < 0) fail<ConfigError>("[", layer, "] a table of ", rows, " rows of ", dim, " numbers cannot be");
  Tensor table = rng.normal({rows, dim}, 0, 1, type);
  if (padding_idx) {
    if (*padding_idx < -rows || *padding_idx >= rows)
      fail<IndexError>("[", layer, "] padding_idx ", *padding_idx, " is outside [-", rows, ", ", rows, ")");
    if (*padding_idx < 0) *padding_idx += rows;
    table.select(0, *padding_idx).fill(0, "embedding");
  }
  return Parameter(std::move(table));
}

namespace {

/// In place, the dense values of a soft mask with them.
void shorten_rows(ParameterState& table, const Tensor& index, double max_norm, double p) {
  std::vector<std::int64_t> rows = index.to_vector<std::int64_t>();
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  const Variable read = index_select(table.value(), 0, Tensor::from(rows, {static_cast<Index>(rows.size())}));
  const std::vector<double> lengths = norm(read, p, {1}).value().to(DType::f64).to_vector<double>();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!(lengths[i] > max_norm)) continue;
    for (Tensor* written : {&table.mutable_value(), &table.mutable_dense()}) {
      if (!written->defined()) continue;
      Tensor row = written->select(0, rows[i]);
      row.copy_from(affine(row, max_norm / (lengths[i] + 1e-7), 0).value(), "max_norm");
    }
  }
}

}  // namespace

Variable look_up(const Parameter& table, const Tensor& index, const EmbeddingOptions& options,
                 const std::optional<double>& max_norm, double p) {
  if (!max_norm) return embedding(index, table, options);
  if (!(*max_norm >= 0) || !(p > 0))
    fail<ConfigError>("[embedding] max_norm must not be negative and norm_type positive, got ", *max_norm, " and ", p);
  if (table.value().packed()) {
    const Variable y = embedding(index, table, options);
    return reshape(renorm(reshape(y, {index.size(), y.shape()[-1]}), p, 0, *max_norm), y.shape());
  }
  check_indices("embedding", index, table.shape()[0], join("among the rows of the weight ", table.shape()));
  shorten_rows(*table.ref(), index, *max_norm, p);
  return embedding(index, table, options);
}

}  // namespace detail

namespace {

/// Entries of a list that fall into bags: their places in the list, the bag of each, and how many each bag has.
struct Bags {
  std::vector<std::int64_t> places, bag, sizes;
};

/// Where bags begin, and where the last one ends.
std::vector<std::int64_t> bounds_of(const Tensor& index, const Tensor& offsets, bool include_last) {
  const Index n = index.size();
  if (index.rank() == 2 && !offsets.defined()) {
    std::vector<std::int64_t> bounds;
    for (Index b = 0; b <= index.dim(0); ++b) bounds.push_back(b * index.dim(1));
    return bounds;
  }
  if (index.rank() != 1 || !offsets.defined() || offsets.rank() != 1)
    fail<ShapeError>("[embedding_bag] index ", index.shape(),
                     offsets.defined() ? join(" with offsets ", offsets.shape()) : std::string(" without offsets"),
                     "; it must be [B, T] alone, or [n] with offsets [B]");
  if (offsets.dtype() != DType::i64) fail<DTypeError>("[embedding_bag] offsets must be i64, got ", offsets.dtype());
  std::vector<std::int64_t> bounds = offsets.to_vector<std::int64_t>();
  if (!include_last) bounds.push_back(n);
  if (bounds.empty()) fail<ShapeError>("[embedding_bag] the end of the last bag is missing among offsets [0]");
  if (bounds.front() != 0 || bounds.back() > n || !std::is_sorted(bounds.begin(), bounds.end()))
    fail<IndexError>("[embedding_bag] offsets must begin with 0, not fall, and end within the ", n, " indices");
  return bounds;
}

Bags bags_of(const Tensor& index, const std::vector<std::int64_t>& bounds, const std::optional<Index>& padding) {
  const std::vector<std::int64_t> list = index.to_vector<std::int64_t>();
  Bags bags;
  bags.sizes.resize(bounds.size() - 1);
  for (std::size_t b = 0; b + 1 < bounds.size(); ++b)
    for (std::int64_t i = bounds[b]; i < bounds[b + 1]; ++i) {
      if (padding && list[static_cast<std::size_t>(i)] == *padding) continue;
      bags.places.push_back(i);
      bags.bag.push_back(static_cast<std::int64_t>(b));
      ++bags.sizes[b];
    }
  return bags;
}

Tensor list_of_indices(const std::vector<std::int64_t>& values) {
  return Tensor::from(values, {static_cast<Index>(values.size())});
}

/// Elementwise max of each bag of rows [n, dim], which lie one bag behind the other. Bags are filled up with their
/// first row, which changes no maximum; empty ones with any row, and they are 0 in the end.
Variable largest_of(const Variable& rows, const Bags& bags) {
  const Index count = static_cast<Index>(bags.sizes.size()), dim = rows.shape()[1];
  const std::int64_t longest = bags.sizes.empty() ? 0 : *std::max_element(bags.sizes.begin(), bags.sizes.end());
  if (longest == 0) return Tensor::zeros({count, dim}, rows.dtype());
  std::vector<std::int64_t> places, empty;
  std::int64_t first = 0;
  for (std::size_t b = 0; b < bags.sizes.size(); ++b) {
    for (std::int64_t i = 0; i < longest; ++i)
      places.push_back(bags.sizes[b] == 0 ? 0 : first + (i < bags.sizes[b] ? i : 0));
    if (bags.sizes[b] == 0) empty.push_back(static_cast<std::int64_t>(b));
    first += bags.sizes[b];
  }
  const Variable filled = reshape(index_select(rows, 0, list_of_indices(places)), {count, longest, dim});
  const Variable most = max_along(filled, 1).values;
  return empty.empty() ? most : index_fill(most, 0, list_of_indices(empty), 0);
}

}  // namespace

Variable EmbeddingBag::operator()(const Tensor& index, const Tensor& offsets,
                                  const Variable& per_sample_weights) const {
  return forward([&]() -> Variable {
    const EmbeddingBagOptions& o = options_;
    if (per_sample_weights.defined() && o.mode != BagMode::sum)
      fail<ConfigError>(
          "[embedding_bag] per_sample_weights are for bags that are summed. Hint: {.mode = BagMode::sum}");
    if (per_sample_weights.defined() && !(per_sample_weights.shape() == index.shape()))
      fail<ShapeError>("[embedding_bag] per_sample_weights ", per_sample_weights.shape(), " for index ", index.shape());
    check_indices("embedding_bag", index, weight.shape()[0], join("among the rows of the weight ", weight.shape()));
    const Bags bags = bags_of(index, bounds_of(index, offsets, o.include_last_offset), o.padding_idx);
    const Tensor places = list_of_indices(bags.places), list = index.reshape({index.size()});
    const Tensor read = gather(list, 0, places);
    Variable rows =
        detail::look_up(weight, read, {.padding_idx = o.padding_idx, .sparse = o.sparse}, o.max_norm, o.norm_type);
    if (o.mode == BagMode::max) return largest_of(rows, bags);
    const Index count = static_cast<Index>(bags.sizes.size()), n = static_cast<Index>(bags.places.size());
    if (per_sample_weights.defined())
      rows = mul(rows, reshape(index_select(reshape(per_sample_weights, {index.size()}), 0, places), {n, 1}));
    const Tensor nothing = Tensor::zeros({count, rows.shape()[1]}, rows.dtype());
    const Variable sums = index_add(nothing, 0, list_of_indices(bags.bag), rows);
    if (o.mode == BagMode::sum) return sums;
    std::vector<double> sizes;
    for (const std::int64_t size : bags.sizes) sizes.push_back(static_cast<double>(std::max<std::int64_t>(1, size)));
    return div(sums, Tensor::from(sizes, {count, 1}).to(rows.dtype()));
  });
}

}  // namespace espalier::nn
