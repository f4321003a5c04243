#include "espalier/data/temporal_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>

#include "tests/support/temp_folder.h"

namespace espalier::data {
namespace {

/// The symbols of each sequence; every row must be one-hot.
std::vector<std::vector<Index>> symbols_of(const Dataset& set) {
  const Index n = set.x.dim(0), length = set.x.dim(1), symbols = set.x.dim(2);
  const std::vector<float> x = set.x.to_vector<float>();
  std::vector<std::vector<Index>> result(static_cast<std::size_t>(n));
  auto at = x.begin();
  for (auto& sequence : result)
    for (Index t = 0; t < length; ++t, at += symbols) {
      EXPECT_EQ(std::count(at, at + symbols, 1.0f), 1);
      EXPECT_EQ(std::count(at, at + symbols, 0.0f), symbols - 1);
      sequence.push_back(std::find(at, at + symbols, 1.0f) - at);
    }
  return result;
}

TEST(TemporalOrder, HidesTwoLettersWhereTheTaskSaysAndAsksForTheirOrder) {
  for (const Index length : {10, 25, 64, 100, 150}) {
    SCOPED_TRACE(length);
    Rng rng(static_cast<std::uint64_t>(length));
    const Dataset set = temporal_order(rng, 2000, length);
    ASSERT_EQ(set.x.shape(), (Shape{2000, length, 6}));
    ASSERT_EQ(set.y.shape(), (Shape{2000}));
    const std::vector<Index> labels = set.y.to_vector<Index>();
    std::set<Index> first_places, second_places, distractors;
    std::array<Index, 4> answers{};
    const auto sequences = symbols_of(set);
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      std::vector<Index> places, letters;
      for (std::size_t t = 0; t < sequences[i].size(); ++t) {
        const Index symbol = sequences[i][t];
        if (symbol < 2) {
          places.push_back(static_cast<Index>(t));
          letters.push_back(symbol);
        } else {
          distractors.insert(symbol);
        }
      }
      ASSERT_EQ(places.size(), 2u);
      first_places.insert(places[0]);
      second_places.insert(places[1]);
      EXPECT_EQ(labels[i], 2 * letters[0] + letters[1]);
      ++answers[static_cast<std::size_t>(labels[i])];
    }
    // 2,000 sequences reach every place (a miss of one of 15 has a chance below 15 (14 / 15)^2000 < 1e-58).
    const Index tenth = length / 10;
    EXPECT_EQ(*first_places.begin(), length / 10);
    EXPECT_EQ(*first_places.rbegin(), length / 10 + tenth - 1);
    EXPECT_EQ(static_cast<Index>(first_places.size()), tenth);
    EXPECT_EQ(*second_places.begin(), 4 * length / 10);
    EXPECT_EQ(*second_places.rbegin(), 4 * length / 10 + tenth - 1);
    EXPECT_EQ(static_cast<Index>(second_places.size()), tenth);
    EXPECT_EQ(distractors, (std::set<Index>{2, 3, 4, 5}));
    // Each answer is binomial (2000, 1/4): deviation 19.4, held to six of them.
    for (const Index count : answers) EXPECT_NEAR(static_cast<double>(count), 500, 6 * 19.4);
  }
}

TEST(TemporalOrder, DrawsDistractorsEvenlyAtEveryPlace) {
  Rng rng(7);
  const Index n = 4000, length = 70;  // more than the 32 symbols that one draw gives
  const auto sequences = symbols_of(temporal_order(rng, n, length));
  for (std::size_t t = 35; t < 70; ++t) {  // no letters there
    std::array<Index, 6> seen{};
    for (const auto& sequence : sequences) ++seen[static_cast<std::size_t>(sequence[t])];
    // Binomial (4000, 1/4): deviation 27.4, held to six of them.
    for (std::size_t symbol = 2; symbol < 6; ++symbol) EXPECT_NEAR(static_cast<double>(seen[symbol]), 1000, 165) << t;
    EXPECT_EQ(seen[0] + seen[1], 0) << t;
  }
}

TEST(TemporalOrder, FollowsItsGenerator) {
  Rng one(3), same(3), other(4);
  const Dataset a = temporal_order(one, 50, 30), b = temporal_order(same, 50, 30), c = temporal_order(other, 50, 30);
  EXPECT_TRUE(equal(a.x, b.x) && equal(a.y, b.y));
  EXPECT_FALSE(equal(a.x, c.x));
  EXPECT_FALSE(equal(a.x, temporal_order(one, 50, 30).x)) << "the generator has moved on";
  EXPECT_EQ(one.state() == same.state(), false);
}

TEST(TemporalOrder, TakesNoSequencesAndRefusesWhatMakesNoSense) {
  Rng rng(1);
  const Dataset none = temporal_order(rng, 0, 10);
  EXPECT_EQ(none.x.shape(), (Shape{0, 10, 6}));
  EXPECT_EQ(none.size(), 0);
  EXPECT_ERROR(
      ConfigError, [&] { temporal_order(rng, -1, 10); }, "[temporal_order] needs n >= 0, got -1");
  EXPECT_ERROR(
      ConfigError, [&] { temporal_order(rng, 3, 9); }, "[temporal_order] needs a length of at least 10, got 9");
}

}  // namespace
}  // namespace espalier::data
