#include "espalier/prune/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"

namespace espalier::prune {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// The plain way: sort everything in the order the header states.
std::vector<Mask> reference(const std::vector<Candidate>& candidates, Index prune, Index min_keep) {
  struct Entry {
    bool live;
    double score;
    std::size_t candidate;
    Index index;
  };
  std::vector<Entry> all;
  std::vector<Mask> masks;
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    const std::vector<double> s = candidates[c].scores.to(DType::f64).to_vector<double>();
    for (std::size_t i = 0; i < s.size(); ++i) {
      const auto at = static_cast<Index>(i);
      all.push_back({!candidates[c].pruned.defined() || candidates[c].pruned[at], s[i], c, at});
    }
    masks.emplace_back(candidates[c].scores.size());
  }
  std::sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.live, a.score, a.candidate, a.index) < std::tie(b.live, b.score, b.candidate, b.index);
  });
  std::vector<Index> can_go;
  for (const Candidate& c : candidates) can_go.push_back(std::max<Index>(0, c.live() - min_keep));
  for (const Entry& e : all) {
    if (e.live && (prune <= 0 || can_go[e.candidate] == 0)) continue;
    masks[e.candidate].set(e.index, false);
    --prune;
    if (e.live) --can_go[e.candidate];
  }
  for (Mask& m : masks)
    if (m.live() == m.size()) m = Mask();
  return masks;
}

Candidate of(std::initializer_list<double> scores) { return {"w", Tensor::from<double>(scores)}; }

Index pruned(const std::vector<Mask>& masks) {
  Index n = 0;
  for (const Mask& m : masks) n += m.size() - m.live();
  return n;
}

TEST(CountOf, RoundsHalfToEven) {
  EXPECT_EQ(count_of("t", 0.5, 5), 2);    // 2.5
  EXPECT_EQ(count_of("t", 0.5, 7), 4);    // 3.5
  EXPECT_EQ(count_of("t", 0.05, 10), 0);  // 0.5
  EXPECT_EQ(count_of("t", 0.15, 10), 2);  // 1.5
  EXPECT_EQ(count_of("t", 0.25, 10), 2);  // 2.5
  EXPECT_EQ(count_of("t", 0, 10), 0);
  EXPECT_EQ(count_of("t", 1, 10), 10);
  EXPECT_EQ(count_of("t", 1, 0), 0);
  EXPECT_THROW(count_of("t", -0.01, 10), ConfigError);
  EXPECT_THROW(count_of("t", 1.01, 10), ConfigError);
  EXPECT_THROW(count_of("t", nan, 10), ConfigError);
}

TEST(PruneLowest, TiesGoByIndexLowerFirst) {
  const auto masks = prune_lowest(std::vector{of({2, 1, 1, 1, 0})}, 3);
  EXPECT_EQ(masks[0].to_tensor({5}).to_vector<bool>(), (std::vector<bool>{true, false, false, true, false}));
}

TEST(PruneLowest, TiesGoByCandidateFirst) {
  const auto masks = prune_lowest(std::vector{of({1, 1}), of({1, 1})}, 3);
  EXPECT_EQ(masks[0].live(), 0);
  EXPECT_FALSE(masks[1][0]);
  EXPECT_TRUE(masks[1][1]);
}

TEST(PruneLowest, ExactCountsAtEveryNumberEvenIfAllAreEqual) {
  for (Index n : {0, 1, 2, 63, 64, 65, 200}) {
    for (Index k = 0; k <= n + 1; ++k) {
      const auto masks = prune_lowest(std::vector<Candidate>{{"w", Tensor::ones({n})}}, k);
      EXPECT_EQ(pruned(masks), std::min(k, n)) << n << " " << k;
    }
  }
}

TEST(PruneLowest, NegativeZeroEqualsZeroAndInfinitiesRank) {
  const auto masks = prune_lowest(std::vector{of({0.0, inf, -0.0, -inf, 1})}, 2);
  EXPECT_EQ(masks[0].to_tensor({5}).to_vector<bool>(), (std::vector<bool>{false, true, true, false, true}));
  EXPECT_EQ(prune_lowest(std::vector{of({inf, inf, inf})}, 2)[0].live(), 1);
  EXPECT_EQ(prune_lowest(std::vector{of({-inf, -inf, -inf})}, 2)[0].live(), 1);
}

TEST(PruneLowest, NanIsAnErrorThatNamesTheTensorAndPlace) {
  for (double sign : {1.0, -1.0}) {
    std::vector<float> values(200000, 1.0f);
    values[150001] = std::copysign(std::numeric_limits<float>::quiet_NaN(), static_cast<float>(sign));
    values[199999] = std::numeric_limits<float>::quiet_NaN();
    try {
      prune_lowest(std::vector<Candidate>{{"ok", Tensor::ones({3})}, {"fc1.weight", Tensor::from(values, {2000, 100})}},
                   1);
      FAIL();
    } catch (const NonFiniteError& e) {
      EXPECT_NE(std::string(e.what()).find("fc1.weight"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("150001"), std::string::npos) << e.what();
    }
  }
}

TEST(PruneLowest, WhatIsPrunedStaysAndCounts) {
  Mask gone(4);
  gone.set(3, false);
  Candidate c = of({1, 2, 3, 100});
  c.pruned = gone;
  EXPECT_EQ(prune_lowest(std::vector{c}, 0)[0], gone);  // never fewer than before
  EXPECT_EQ(prune_lowest(std::vector{c}, 1)[0], gone);
  const Mask two = prune_lowest(std::vector{c}, 2)[0];
  EXPECT_FALSE(two[0]);
  EXPECT_FALSE(two[3]);
  EXPECT_EQ(two.live(), 2);
}

TEST(PruneLowest, MinKeepTakesFromTheOthersAndKeepsTheCount) {
  const std::vector<Candidate> c{of({1, 2, 3}), of({10, 20, 30, 40})};
  const auto masks = prune_lowest(c, 4, 1);
  EXPECT_EQ(pruned(masks), 4);
  EXPECT_TRUE(masks[0][2]);  // its best is kept
  EXPECT_EQ(masks[1].live(), 2);
  EXPECT_EQ(pruned(prune_lowest(c, 7, 1)), 5);
  EXPECT_EQ(pruned(prune_lowest(c, 7, 0)), 7);
  EXPECT_EQ(pruned(prune_lowest(c, 7, 100)), 0);
}

TEST(PruneLowest, OddInputs) {
  EXPECT_TRUE(prune_lowest({}, 3).empty());
  EXPECT_FALSE(prune_lowest(std::vector<Candidate>{{"e", Tensor::zeros({0, 5})}}, 3)[0].defined());
  EXPECT_EQ(prune_lowest(std::vector<Candidate>{{"s", Tensor::scalar(3)}}, 1)[0].live(), 0);
  EXPECT_FALSE(prune_lowest(std::vector<Candidate>{{"s", Tensor::scalar(3)}}, 1, 1)[0].defined());
  EXPECT_THROW(prune_lowest(std::vector{of({1})}, -1), ConfigError);
  EXPECT_THROW(prune_lowest(std::vector{of({1})}, 1, -1), ConfigError);
  Candidate wrong = of({1, 2});
  wrong.pruned = Mask(3);
  EXPECT_THROW(prune_lowest(std::vector{wrong}, 1), ShapeError);
}

TEST(PruneLowest, MatchesASortOnRandomScoresWithTies) {
  Rng rng(7);
  for (int round = 0; round < 60; ++round) {
    std::vector<Candidate> candidates;
    Index n = 0;
    const bool mixed = round % 3 == 0;
    for (Index c = rng.below(4); c >= 0; --c) {
      const Index size = rng.below(300);
      std::vector<float> scores(static_cast<std::size_t>(size));
      for (float& s : scores) s = static_cast<float>(rng.below(40)) / 8 - 2;  // many equal
      Candidate candidate{"w", Tensor::from(scores, {size}).to(mixed && c % 2 == 0 ? DType::f64 : DType::f32)};
      if (c % 2 == 1) candidate.pruned = Mask(rng.bernoulli({size}, 0.5));
      n += size;
      candidates.push_back(std::move(candidate));
    }
    const Index k = rng.below(n + 2), keep = rng.below(20);
    EXPECT_EQ(prune_lowest(candidates, k, keep), reference(candidates, k, keep)) << round;
  }
}

TEST(PruneLowest, SameMasksAtAnyThreadCountAcrossChunks) {
  Rng rng(3);
  std::vector<Candidate> c{{"a", rng.normal({300001})}, {"b", rng.uniform({70000})}, {"t", Tensor::zeros({140000})}};
  const int before = threads();
  set_threads(1);
  const auto one = prune_lowest(c, 400000, 1);
  EXPECT_EQ(pruned(one), 400000);
  EXPECT_EQ(one, reference(c, 400000, 1));
  for (int t : {2, 4}) {
    set_threads(t);
    EXPECT_EQ(prune_lowest(c, 400000, 1), one);
  }
  set_threads(before);
}

}  // namespace
}  // namespace espalier::prune
