#include "espalier/core/percentile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/error.h"

namespace espalier {
namespace {

TEST(Percentile, IsLinearBetweenNeighbours) {
  const std::vector<double> values{40, 10, 30, 20};
  EXPECT_DOUBLE_EQ(percentile(values, 0), 10);
  EXPECT_DOUBLE_EQ(percentile(values, 100), 40);
  EXPECT_DOUBLE_EQ(percentile(values, 50), 25);
  EXPECT_DOUBLE_EQ(percentile(values, 90), 37);
  EXPECT_DOUBLE_EQ(percentile({7}, 33), 7);
  EXPECT_THROW(percentile({}, 50), ConfigError);
  EXPECT_THROW(percentile(values, 101), ConfigError);
  EXPECT_THROW(percentile(values, std::nan("")), ConfigError);
  EXPECT_THROW(percentile({1, std::nan("")}, 50), ConfigError);
}

TEST(Percentile, PassesByInfinities) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(percentiles({infinity, 1, 2, infinity}, {0, 100, 50}), (std::vector<double>{1, infinity, infinity}));
  EXPECT_EQ(percentile({infinity, infinity}, 50), infinity);
}

}  // namespace
}  // namespace espalier
