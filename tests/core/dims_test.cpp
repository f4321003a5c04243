#include "espalier/core/dims.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <sstream>
#include <vector>

#include "espalier/core/version.h"

namespace espalier {
namespace {

constexpr Index huge = std::numeric_limits<Index>::max();

TEST(Dims, HoldsUpToEightAxes) {
  Dims dims;
  EXPECT_EQ(dims.rank(), 0);
  for (Index i = 0; i < Dims::max_rank; ++i) dims.push_back(i + 1);
  EXPECT_EQ(dims, (Dims{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_THROW(dims.push_back(9), ShapeError);
  EXPECT_THROW(dims.insert(0, 9), ShapeError);
  EXPECT_EQ(dims, (Dims{1, 2, 3, 4, 5, 6, 7, 8})) << "a refused axis changes nothing";
  const std::vector<Index> nine(9, 1);
  EXPECT_THROW(Dims{std::span<const Index>(nine)}, ShapeError);
}

TEST(Dims, NegativePositionsCountFromTheLastAxis) {
  Dims dims{2, 3, 5};
  EXPECT_EQ(dims[-1], 5);
  EXPECT_EQ(dims[-3], 2);
  dims[-2] = 7;
  EXPECT_EQ(dims, (Dims{2, 7, 5}));
}

TEST(Dims, InsertsAndErasesAnywhere) {
  Dims dims;
  dims.insert(0, 3);
  dims.insert(0, 1);
  dims.insert(2, 4);
  dims.insert(1, 2);
  EXPECT_EQ(dims, (Dims{1, 2, 3, 4}));
  dims.erase(3);
  dims.erase(0);
  EXPECT_EQ(dims, (Dims{2, 3}));
  dims.erase(1);
  dims.erase(0);
  EXPECT_EQ(dims, Dims{});
}

TEST(Dims, ComparesRankAndLengths) {
  EXPECT_EQ((Dims{2, 3}), (Dims{2, 3}));
  EXPECT_NE((Dims{2, 3}), (Dims{3, 2}));
  EXPECT_NE((Dims{2, 3}), (Dims{2, 3, 1}));
  EXPECT_NE(Dims{}, Dims{1});
  Dims longer{2, 3, 4};
  longer = Dims{2, 3};
  EXPECT_EQ(longer, (Dims{2, 3})) << "axes left over from before do not count";
}

TEST(Dims, PrintsAsAList) {
  std::ostringstream out;
  out << Dims{} << Dims{7} << Dims{2, -1, 0};
  EXPECT_EQ(out.str(), "[][7][2, -1, 0]");
}

TEST(CheckedCount, MultipliesTheLengths) {
  EXPECT_EQ(checked_count({}), 1);
  EXPECT_EQ(checked_count({2, 3, 5}), 30);
  EXPECT_EQ(checked_count({huge}), huge);
  EXPECT_EQ(checked_count({Index{1} << 31, Index{1} << 31}), Index{1} << 62);
}

TEST(CheckedCount, IsZeroForAnEmptyAxisWhateverTheOthers) {
  EXPECT_EQ(checked_count({0}), 0);
  EXPECT_EQ(checked_count({huge, 0}), 0);
  EXPECT_EQ(checked_count({0, huge}), 0);
}

TEST(CheckedCount, RefusesWhatDoesNotFit) {
  EXPECT_THROW(checked_count({huge, 2}), ShapeError);
  EXPECT_THROW(checked_count({Index{1} << 32, Index{1} << 31}), ShapeError);
  EXPECT_THROW(checked_count({huge, huge, huge, huge}), ShapeError);
  try {
    checked_count({Index{1} << 32, Index{1} << 32});
    FAIL() << "no error";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "[shape] the number of elements of [4294967296, 4294967296] does not fit in 63 bits");
  }
}

TEST(CheckedCount, RefusesNegativeLengths) {
  EXPECT_THROW(checked_count({-1}), ShapeError);
  EXPECT_THROW(checked_count({0, -1}), ShapeError);
  EXPECT_THROW(checked_count({-2, -3}), ShapeError) << "although the product is positive";
  EXPECT_THROW(checked_count({std::numeric_limits<Index>::min()}), ShapeError);
}

TEST(RowMajor, LastAxisIsContiguous) {
  EXPECT_EQ(row_major({}), Dims{});
  EXPECT_EQ(row_major({5}), Dims{1});
  EXPECT_EQ(row_major({2, 3, 5}), (Dims{15, 5, 1}));
  EXPECT_EQ(row_major({2, 0, 5}).rank(), 3);
}

TEST(CheckedAxis, WrapsNegativeAxes) {
  EXPECT_EQ(checked_axis("sum", 0, 3), 0);
  EXPECT_EQ(checked_axis("sum", 2, 3), 2);
  EXPECT_EQ(checked_axis("sum", -1, 3), 2);
  EXPECT_EQ(checked_axis("sum", -3, 3), 0);
}

TEST(CheckedAxis, NamesTheOpAndTheRange) {
  EXPECT_THROW(checked_axis("sum", -4, 3), IndexError);
  try {
    checked_axis("sum", 3, 3);
    FAIL() << "no error";
  } catch (const IndexError& error) {
    EXPECT_STREQ(error.what(), "[sum] axis 3 is outside [-3, 2]");
  }
  try {
    checked_axis("sum", 0, 0);
    FAIL() << "no error";
  } catch (const IndexError& error) {
    EXPECT_STREQ(error.what(), "[sum] axis 0 of a scalar, which has none");
  }
}

TEST(NamedAxis, AScalarCountsAsHavingOne) {
  EXPECT_EQ(named_axis("sum", 0, 0), 0);
  EXPECT_EQ(named_axis("sum", -1, 0), 0);
  EXPECT_EQ(named_axis("sum", -1, 3), 2);
  try {
    named_axis("sum", 1, 0);
    FAIL() << "no error";
  } catch (const IndexError& error) {
    EXPECT_STREQ(error.what(), "[sum] axis 1 is outside [-1, 0]");
  }
}

TEST(Version, LibraryAndHeadersAgree) {
  EXPECT_EQ(version(), join(ESPALIER_VERSION_MAJOR, ".", ESPALIER_VERSION_MINOR, ".", ESPALIER_VERSION_PATCH));
}

}  // namespace
}  // namespace espalier
