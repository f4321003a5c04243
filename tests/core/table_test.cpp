#include "espalier/core/table.h"

#include <gtest/gtest.h>

#include <limits>

namespace espalier {
namespace {

TEST(Table, AlignsTheFirstColumnLeftAndTheOthersRight) {
  Table table({"layer", "<kind", "weights"});
  table.add({"fc1", "dense", "9"});
  table.add({});
  table.add({"a long name", "", "1,000"});
  table.add({"cut"});
  EXPECT_EQ(table.to_string(),
            "layer        kind   weights\n"
            "---------------------------\n"
            "fc1          dense        9\n"
            "---------------------------\n"
            "a long name           1,000\n"
            "cut\n");
}

TEST(Table, CountsCharactersNotBytes) {
  Table table({"n", "value"});
  table.add({"µs", "1"});
  table.add({"ms", "2"});
  EXPECT_EQ(table.to_string(), "n   value\n---------\nµs      1\nms      2\n");
}

TEST(Numbers, AreWrittenForPeople) {
  EXPECT_EQ(with_decimals(1.005, 1), "1.0");
  EXPECT_EQ(with_decimals(-0.25, 2), "-0.25");
  EXPECT_EQ(with_decimals(std::numeric_limits<double>::infinity(), 2), "inf");
  EXPECT_EQ(percent(0.9126), "91.3 %");
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1000), "1,000");
  EXPECT_EQ(grouped(-1234567), "-1,234,567");
}

}  // namespace
}  // namespace espalier
