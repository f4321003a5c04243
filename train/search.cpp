#include "espalier/train/search.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "espalier/core/table.h"

namespace espalier::train {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Mean and standard error of the finite scores. long double: neither the sum nor the squares of doubles overflow.
void summarise(GridValue& v) {
  long double sum = 0, squares = 0;
  for (double s : v.scores)
    if (std::isfinite(s)) sum += s;
  const std::size_t m = v.scores.size() - v.failed;
  const long double mean = m > 0 ? sum / static_cast<long double>(m) : nan;
  for (double s : v.scores)
    if (std::isfinite(s)) squares += (s - mean) * (s - mean);
  v.mean = static_cast<double>(mean);
  v.standard_error =
      m == 0 ? nan
      : m == 1
          ? 0
          : static_cast<double>(std::sqrt(squares / static_cast<long double>(m - 1) / static_cast<long double>(m)));
}

std::string four_digits(double value) {
  if (std::isnan(value)) return "-";
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 4);
  return {text, end.ptr};
}

}  // namespace

std::vector<Fold> k_folds(Index n, Index k, Rng& rng) {
  if (k < 2) fail<ConfigError>("[k_folds] k must be at least 2, got ", k);
  if (k > n) fail<ConfigError>("[k_folds] ", n, " rows do not make ", k, " folds. Hint: k must be at most n");
  const std::vector<Index> order = rng.permutation(n);
  std::vector<Index> fold_of(order.size());
  for (std::size_t i = 0; i < order.size(); ++i)
    fold_of[static_cast<std::size_t>(order[i])] = static_cast<Index>(i) % k;
  std::vector<Fold> folds(static_cast<std::size_t>(k));
  for (Index f = 0; f < k; ++f) {
    Fold& fold = folds[static_cast<std::size_t>(f)];
    const Index held_out = n / k + (f < n % k);
    fold.validation.reserve(static_cast<std::size_t>(held_out));
    fold.train.reserve(static_cast<std::size_t>(n - held_out));
    for (Index row = 0; row < n; ++row)
      (fold_of[static_cast<std::size_t>(row)] == f ? fold.validation : fold.train).push_back(row);
  }
  return folds;
}

std::vector<double> log_grid(double low, double high, Index n) {
  if (!(low > 0 && low < high && std::isfinite(high)))
    fail<ConfigError>("[log_grid] 0 < low < high < infinity is needed, got low ", low, ", high ", high);
  if (n < 2) fail<ConfigError>("[log_grid] n must be at least 2, got ", n);
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(n));
  const long double ratio = static_cast<long double>(high) / low;  // its range holds that of any two doubles
  for (Index i = 0; i < n; ++i)
    values.push_back(
        static_cast<double>(low * std::pow(ratio, static_cast<long double>(i) / static_cast<long double>(n - 1))));
  values.back() = high;
  return values;
}

GridSearch grid_search(std::span<const double> values, const std::vector<Fold>& folds,
                       const std::function<double(double, const Fold&, std::size_t)>& score,
                       GridSearchOptions options) {
  if (values.empty()) fail<ConfigError>("[grid_search] there are no values to try");
  if (folds.empty()) fail<ConfigError>("[grid_search] there are no folds. Hint: k_folds(n, 5, rng) makes them");
  if (!score) fail<ConfigError>("[grid_search] score must be given");
  for (std::size_t i = 0; i < values.size(); ++i)
    if (std::isnan(values[i])) fail<ConfigError>("[grid_search] value ", i, " of the grid is NaN");

  GridSearch search;
  for (double value : values) {
    GridValue& tried = search.values.emplace_back(GridValue{.value = value});
    for (std::size_t k = 0; k < folds.size(); ++k) {
      double s = nan;
      try {
        s = score(value, folds[k], k);
      } catch (const NonFiniteError&) {  // it diverged, and says so
      }
      if (!std::isfinite(s)) {
        s = nan;
        ++tried.failed;
      }
      tried.scores.push_back(s);
    }
    summarise(tried);
  }

  // The largest value of those that may be chosen and for which test(mean) holds.
  const auto largest = [&](auto test) {
    std::optional<std::size_t> found;
    for (std::size_t i = 0; i < search.values.size(); ++i) {
      const GridValue& v = search.values[i];
      if (v.failed == 0 && test(v.mean) && (!found || v.value > search.values[*found].value)) found = i;
    }
    return found;
  };
  const double sign = options.lower_is_better ? 1 : -1;
  double lowest = std::numeric_limits<double>::infinity();
  for (const GridValue& v : search.values)
    if (v.failed == 0) lowest = std::min(lowest, sign * v.mean);
  const auto best = largest([&](double mean) { return sign * mean == lowest; });
  if (!best)
    fail<NonFiniteError>("[grid_search] each of the ", values.size(), " values failed in some of the ", folds.size(),
                         " folds. Hint: smaller thresholds, or a lower lr");
  const double within = lowest + search.values[*best].standard_error;
  search.best = *best;
  search.one_standard_error = *largest([&](double mean) { return sign * mean <= within; });
  return search;
}

std::string GridSearch::table() const {
  Table lines({"value", "mean score", "standard error", "failed folds", "<"});
  for (std::size_t i = 0; i < values.size(); ++i) {
    const GridValue& v = values[i];
    std::string mark = i == best ? "best" : "";
    if (i == one_standard_error)
      mark += mark.empty() ? "within one standard error" : ", no larger one within a standard error";
    lines.add({four_digits(v.value), four_digits(v.mean), four_digits(v.standard_error),
               v.failed == 0 ? "" : std::to_string(v.failed) + " of " + std::to_string(v.scores.size()), mark});
  }
  return lines.to_string();
}

}  // namespace espalier::train
