// Choosing a setting by trying it: a grid of values, each scored on every fold of a cross-validation.
//
//   Rng rng(1);
//   const auto folds = train::k_folds(set.size(), 5, rng);
//   const auto search = train::grid_search(train::log_grid(0.1, 10, 7), folds,
//                                          [&](double max_norm, const train::Fold& fold, std::size_t k) {
//     return validation_loss(max_norm, set.rows(fold.train), set.rows(fold.validation), Rng(k));  // yours
//   });
//   std::puts(search.table().c_str());
//   const double max_norm = search.values[search.one_standard_error].value;
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "espalier/core/rng.h"

namespace espalier::train {

/// Row numbers of one split, each part in ascending order.
struct Fold {
  std::vector<Index> train, validation;
};

/// k folds of n rows: every row is validated in exactly one fold and trained on in the others; the validation parts
/// differ in size by at most 1, the larger ones first. Which row goes where is drawn; rng moves on.
/// Errors: ConfigError for k < 2 or k > n. Memory: n k row numbers. Stone 1974; Geisser 1975.
std::vector<Fold> k_folds(Index n, Index k, Rng& rng);

/// n values from low to high, each the same multiple of the one before it: low (high / low)^(i / (n - 1)). Both ends
/// are exact. Errors: ConfigError unless 0 < low < high < infinity and n >= 2.
std::vector<double> log_grid(double low, double high, Index n);

struct GridSearchOptions {
  bool lower_is_better = true;  ///< scores are losses; false: accuracies and the like
};

/// What became of one value of the grid.
struct GridValue {
  double value = 0;
  std::vector<double> scores = {};  ///< of each fold; NaN where it failed
  std::size_t failed = 0;           ///< folds without a finite score
  /// Over the folds that did not fail, NaN if there are none. A value that failed anywhere is not chosen, however good
  /// this looks.
  double mean = 0;
  /// Of the mean: sqrt(sum (score - mean)^2 / (m - 1) / m) over m scores. 0 for m = 1, for nothing is known of it; NaN
  /// for none. Folds share training rows, so it is a guide, not a confidence interval.
  double standard_error = 0;
};

struct GridSearch {
  std::vector<GridValue> values;  ///< in the order given
  /// Place of the best mean among the values that failed in no fold; of equals the largest value.
  std::size_t best = 0;
  /// Place of the largest value that failed in no fold and whose mean is no further from the best one than that one's
  /// standard error: of clip thresholds the one that clips least without being measurably worse. Never a smaller value
  /// than the best. Breiman, Friedman, Olshen, Stone 1984, section 3.4.3 (the 1-SE rule).
  std::size_t one_standard_error = 0;

  /// One line a value, the two choices marked.
  std::string table() const;
};

/// Scores each value on each fold: score(value, fold, k) with k = 0, 1, ... the fold's place, all folds of a value
/// before the next value. Seed by k, so that what is compared starts alike. A score that is not finite, and a
/// NonFiniteError, count as failed: the value diverged. An infinite value is welcome: no clip at all.
/// Errors: ConfigError for no values, a value of NaN, no folds, no score; NonFiniteError if every value failed in some
/// fold; what score throws otherwise. Cost: values x folds calls of score.
GridSearch grid_search(std::span<const double> values, const std::vector<Fold>& folds,
                       const std::function<double(double value, const Fold& fold, std::size_t k)>& score,
                       GridSearchOptions options = {});

}  // namespace espalier::train
