#include "espalier/prune/threshold.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

namespace espalier::prune {
namespace {

/// Chooses for each selected parameter, then sets all masks.
void prune_each(const char* op, const ParameterList& parameters, const Score& score, const Gathered& gathered,
                const SelectionOptions& options, const std::function<Mask(const Candidate&)>& choose) {
  std::vector<std::pair<ParameterRef, Mask>> chosen;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const NamedParameter& named = parameters[i];
    if (!options.select(named)) continue;
    const ParameterState& p = *named.parameter;
    if (p.value().packed())
      fail<ConfigError>("[", op, "] '", named.name, "' is packed. Hint: prune the model before compact()");
    Statistics s = gathered.of(p);
    s.parameter = i;
    if (!s.gradient.defined()) s.gradient = p.grad();
    const bool hard = options.mode == MaskMode::hard && p.mask_mode() == MaskMode::hard;
    const Candidate candidate{named.name, score(named, s), hard ? p.mask() : Mask()};
    if (!(candidate.scores.shape() == p.value().shape()))
      fail<ConfigError>("[", op, "] ", score.name(), " scores whole units of '", named.name,
                        "', and single weights are pruned here");
    chosen.emplace_back(named.parameter, choose(candidate));
  }
  for (auto& [parameter, mask] : chosen)
    if (!(parameter->mask() == mask && (!mask.defined() || parameter->mask_mode() == options.mode)))
      parameter->set_mask(std::move(mask), options.mode);
}

}  // namespace

Mask keep_at_least(const Candidate& candidate, double threshold, Index min_keep) {
  if (threshold != threshold) fail<ConfigError>("[keep_at_least] the threshold is NaN");
  const Tensor scores = candidate.scores.to(DType::f64).contiguous();
  const double* s = scores.data<double>();
  Index below = 0;
  for (Index i = 0; i < scores.size(); ++i)
    below += s[i] < threshold || (candidate.pruned.defined() && !candidate.pruned[i]);
  return prune_lowest({&candidate, 1}, below, min_keep)[0];
}

Mask lowest_of_rows(const Candidate& candidate, double sparsity) {
  const Index size = candidate.scores.size(), rows = candidate.scores.rank() == 0 ? 1 : candidate.scores.dim(0);
  const Index columns = rows == 0 ? 0 : size / rows, pruned = count_of("lowest_of_rows", sparsity, columns);
  if (size == 0) return {};
  const Tensor matrix = candidate.scores.contiguous().reshape({rows, columns});
  Mask mask(size);
  for (Index r = 0; r < rows; ++r) {
    Candidate row{join(candidate.name, " row ", r), matrix.select(0, r), Mask()};
    if (candidate.pruned.defined()) {
      row.pruned = Mask(columns);
      for (Index j = 0; j < columns; ++j) row.pruned.set(j, candidate.pruned[r * columns + j]);
    }
    const Mask kept = prune_lowest({&row, 1}, pruned)[0];
    for (Index j = 0; kept.defined() && j < columns; ++j)
      if (!kept[j]) mask.set(r * columns + j, false);
  }
  return mask.live() == size ? Mask() : mask;
}

void prune_below(const ParameterList& parameters, const Score& score, double threshold, const Gathered& gathered,
                 SelectionOptions options) {
  prune_each("prune_below", parameters, score, gathered, options,
             [&](const Candidate& c) { return keep_at_least(c, threshold, options.min_keep); });
}

void prune_rows(const ParameterList& parameters, const Score& score, double sparsity, const Gathered& gathered,
                SelectionOptions options) {
  count_of("prune_rows", sparsity, 0);
  prune_each("prune_rows", parameters, score, gathered, options,
             [&](const Candidate& c) { return lowest_of_rows(c, sparsity); });
}

}  // namespace espalier::prune
