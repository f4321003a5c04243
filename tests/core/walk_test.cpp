#include "espalier/core/walk.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace espalier {
namespace {

/// Every pair of offsets that rows [begin, end) visit, element by element.
std::vector<std::array<Index, 2>> visited(const RowWalk<2>& walk, Index begin, Index end) {
  std::vector<std::array<Index, 2>> pairs;
  walk.run(begin, end, [&](const std::array<Index, 2>& at) {
    for (Index i = 0; i < walk.row_length(); ++i)
      pairs.push_back({at[0] + i * walk.inner_stride(0), at[1] + i * walk.inner_stride(1)});
  });
  return pairs;
}

/// The plain loop: every position in row-major order.
std::vector<std::array<Index, 2>> reference(const Shape& shape, const Dims& a, const Dims& b) {
  std::vector<std::array<Index, 2>> pairs;
  for (Index n = 0; n < count(shape); ++n) {
    std::array<Index, 2> at{};
    Index rest = n;
    for (int axis = shape.rank(); axis-- > 0;) {
      at[0] += rest % shape[axis] * a[axis];
      at[1] += rest % shape[axis] * b[axis];
      rest /= shape[axis];
    }
    pairs.push_back(at);
  }
  return pairs;
}

TEST(RowWalk, DenseOperandsOfAnyRankAreOneRow) {
  const Shape shape{2, 3, 4, 5};
  const Dims dense = row_major(shape);
  const RowWalk<2> walk(shape, {&dense, &dense});
  EXPECT_EQ(walk.rows(), 1);
  EXPECT_EQ(walk.row_length(), 120);
  EXPECT_EQ(walk.inner_stride(0), 1);
}

TEST(RowWalk, MergesOnlyWhatIsContiguousInEveryOperand) {
  const Shape shape{2, 3, 4};
  const Dims dense = row_major(shape), turned{4, 8, 1}, repeated{12, 0, 1}, constant{0, 0, 0};
  EXPECT_EQ((RowWalk<2>(shape, {&dense, &turned}).rows()), 6);
  EXPECT_EQ((RowWalk<2>(shape, {&dense, &repeated}).row_length()), 4);
  EXPECT_EQ((RowWalk<2>(shape, {&dense, &constant}).rows()), 1) << "one value everywhere merges with anything";
  EXPECT_EQ((RowWalk<2>(shape, {&dense, &constant}).inner_stride(1)), 0);
}

TEST(RowWalk, ScalarsAreOneElementAndEmptyShapesNone) {
  const Dims none, three{1, 1, 1};
  const RowWalk<2> scalar({}, {&none, &none});
  EXPECT_EQ(scalar.rows(), 1);
  EXPECT_EQ(scalar.row_length(), 1);
  for (const Shape& shape : {Shape{0, 2, 3}, Shape{2, 0, 3}, Shape{2, 3, 0}, Shape{1, 1, 0}}) {
    const RowWalk<2> walk(shape, {&three, &three});
    EXPECT_EQ(walk.rows() * walk.row_length(), 0) << shape;
    EXPECT_TRUE(visited(walk, 0, walk.rows()).empty()) << shape;
  }
  const RowWalk<2> ones({1, 1, 1}, {&three, &three});
  EXPECT_EQ(ones.rows() * ones.row_length(), 1);
}

TEST(RowWalk, RandomStridesVisitWhatThePlainLoopVisits) {
  std::mt19937 random(3);
  auto below = [&](unsigned n) { return static_cast<Index>(random() % n); };
  for (int round = 0; round < 1000; ++round) {
    Shape shape;
    Dims a, b;
    for (Index axis = below(6); axis > 0; --axis) {
      shape.push_back(below(4) + (round % 10 != 0));  // every tenth may be empty
      a.push_back(below(20) - 5);
      b.push_back(below(20) - 5);
    }
    if (round % 2) a = row_major(shape);
    const RowWalk<2> walk(shape, {&a, &b});
    const auto expected = reference(shape, a, b);
    ASSERT_EQ(visited(walk, 0, walk.rows()), expected) << shape << a << b;
    // Any cut into runs visits the same, in order.
    const Index cut = below(static_cast<unsigned>(walk.rows() + 1));
    auto parts = visited(walk, 0, cut);
    const auto rest = visited(walk, cut, walk.rows());
    parts.insert(parts.end(), rest.begin(), rest.end());
    ASSERT_EQ(parts, expected) << shape << a << b;
  }
}

}  // namespace
}  // namespace espalier
