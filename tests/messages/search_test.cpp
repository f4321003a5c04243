// The texts of errors in the search for a setting.
#include "espalier/train/search.h"

#include <limits>

#include "tests/messages/message.h"

namespace espalier::train {
namespace {

using espalier::testing::Message;

TEST(Messages, OfSearches) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const std::vector<double> values{1, 2}, none, with_nan{1, nan};
  const std::vector<Fold> folds{{{0}, {1}}, {{1}, {0}}};
  const auto score = [](double value, const Fold&, std::size_t) { return value; };
  const auto diverges = [=](double, const Fold&, std::size_t k) { return k == 1 ? nan : 0.0; };
  Rng rng(1);
  const Message all[] = {
      {"one fold", [&] { k_folds(10, 1, rng); }, "[k_folds] k must be at least 2, got 1"},
      {"more folds than rows", [&] { k_folds(3, 5, rng); },
       "[k_folds] 3 rows do not make 5 folds. Hint: k must be at most n"},
      {"no rows", [&] { k_folds(0, 2, rng); }, "[k_folds] 0 rows do not make 2 folds. Hint: k must be at most n"},
      {"a grid from 0", [] { log_grid(0, 1, 3); }, "[log_grid] 0 < low < high < infinity is needed, got low 0, high 1"},
      {"a grid downwards", [] { log_grid(2, 1, 3); },
       "[log_grid] 0 < low < high < infinity is needed, got low 2, high 1"},
      {"a grid to NaN", [=] { log_grid(1, nan, 3); },
       "[log_grid] 0 < low < high < infinity is needed, got low 1, high nan"},
      {"a grid without end", [=] { log_grid(1, infinity, 3); },
       "[log_grid] 0 < low < high < infinity is needed, got low 1, high inf"},
      {"a grid of one", [] { log_grid(1, 2, 1); }, "[log_grid] n must be at least 2, got 1"},
      {"no values", [&] { grid_search(none, folds, score); }, "[grid_search] there are no values to try"},
      {"no folds", [&] { grid_search(values, {}, score); },
       "[grid_search] there are no folds. Hint: k_folds(n, 5, rng) makes them"},
      {"no score", [&] { grid_search(values, folds, nullptr); }, "[grid_search] score must be given"},
      {"a value of NaN", [&] { grid_search(with_nan, folds, score); }, "[grid_search] value 1 of the grid is NaN"},
      {"nothing converges", [&] { grid_search(values, folds, diverges); },
       "[grid_search] each of the 2 values failed in some of the 2 folds. Hint: smaller thresholds, or a lower lr"},
  };
  espalier::testing::expect_texts(all);
}

}  // namespace
}  // namespace espalier::train
