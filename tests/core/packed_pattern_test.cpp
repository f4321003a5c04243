// Blocks and N:M in a packed weight, at the sizes and in the places where layouts break.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "espalier/core/kernels/sparse.h"
#include "espalier/core/kernels/target.h"
#include "espalier/core/matmul.h"
#include "espalier/core/packed_linear.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

using kernels::SparsePattern;

template <class T>
std::vector<T> random_values(Index n, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<T> uniform(T(0.1), T(1));
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& v : values) v = random() % 2 ? uniform(random) : -uniform(random);
  return values;
}

/// A weight that follows the pattern: a share of the blocks, or `keep` of every group (fewer at the end of a row).
template <class T>
std::vector<T> patterned(Index rows, Index columns, const SparsePattern& pattern, double share, unsigned seed) {
  std::vector<T> w = random_values<T>(rows * columns, seed);
  std::mt19937 random(seed + 1);
  std::bernoulli_distribution live(share);
  const auto at = [&](Index r, Index c) -> T& { return w[static_cast<std::size_t>(r * columns + c)]; };
  if (pattern.grouped()) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; c += pattern.of) {
        const Index length = std::min(pattern.of, columns - c);
        for (Index drop = std::max<Index>(0, length - pattern.keep); drop > 0;) {
          T& v = at(r, c + static_cast<Index>(random() % static_cast<unsigned>(length)));
          drop -= v != T(0);
          v = T(0);
        }
      }
    return w;
  }
  for (Index r = 0; r < rows; r += pattern.height)
    for (Index c = 0; c < columns; c += pattern.breadth) {
      if (live(random)) continue;
      for (Index i = r; i < std::min(rows, r + pattern.height); ++i)
        for (Index j = c; j < std::min(columns, c + pattern.breadth); ++j) at(i, j) = T(0);
    }
  return w;
}

template <class T>
void expect_product(const std::vector<T>& w, Index rows, Index columns, const std::vector<T>& x, Index batch,
                    const T* bias, const std::vector<T>& y) {
  for (Index n = 0; n < batch; ++n)
    for (Index r = 0; r < rows; ++r) {
      double sum = bias ? static_cast<double>(bias[r]) : 0, size = std::abs(sum);
      for (Index c = 0; c < columns; ++c) {
        const double term = static_cast<double>(x[static_cast<std::size_t>(n * columns + c)]) *
                            static_cast<double>(w[static_cast<std::size_t>(r * columns + c)]);
        sum += term;
        size += std::abs(term);
      }
      ASSERT_NEAR(static_cast<double>(y[static_cast<std::size_t>(n * rows + r)]), sum,
                  static_cast<double>(columns + 2) * static_cast<double>(std::numeric_limits<T>::epsilon()) * size)
          << "sample " << n << " of " << batch << ", row " << r << " of " << rows << " x " << columns;
    }
}

template <class T>
class PatternOf : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(PatternOf, Types);

const std::vector<SparsePattern> patterns = {{},
                                             {8, 1},
                                             {4, 1},
                                             {1, 8},
                                             {1, 4},
                                             {.keep = 2, .of = 4},
                                             {.keep = 1, .of = 4},
                                             {.keep = 3, .of = 8},
                                             {.keep = 4, .of = 8},
                                             {.keep = 5, .of = 16}};

TYPED_TEST(PatternOf, EveryPatternMatchesThePlainLoop) {
  using T = TypeParam;
  unsigned seed = 0;
  for (const std::string& target : kernels::simd_targets())
    for (const SparsePattern& pattern : patterns)
      for (const auto& [rows, columns] :
           std::vector<std::pair<Index, Index>>{{1, 1}, {3, 7}, {8, 16}, {9, 31}, {70, 130}, {33, 300}, {530, 20}}) {
        SCOPED_TRACE(pattern.describe() + " on " + target);
        kernels::set_simd_target(target);
        const std::vector<T> w = patterned<T>(rows, columns, pattern, 0.3, ++seed);
        const auto packed = kernels::to_sparse(w.data(), rows, columns, pattern);
        std::vector<T> back(w.size(), T(7));
        kernels::to_dense(packed, back.data());
        ASSERT_EQ(back, w);
        ASSERT_EQ(packed.live, rows * columns - std::count(w.begin(), w.end(), T(0)));
        for (const Index batch : {1, 2, 15, 16, 17, 65}) {
          const std::vector<T> x = random_values<T>(batch * columns, ++seed), bias = random_values<T>(rows, ++seed);
          std::vector<T> y(static_cast<std::size_t>(batch * rows), T(5));
          const T* shift = batch % 2 == 0 ? bias.data() : nullptr;
          kernels::sparse_linear(packed, x.data(), batch, shift, y.data());
          expect_product(w, rows, columns, x, batch, shift, y);
          if (this->HasFatalFailure()) return;
        }
      }
  kernels::set_simd_target("");
}

TYPED_TEST(PatternOf, SameBytesAtAnyThreadCountAndInAnyBatchOfTwoOrMore) {
  using T = TypeParam;
  const int before = threads();
  const Index rows = 700, columns = 260, batch = 300;
  for (const SparsePattern& pattern : patterns) {
    const std::vector<T> w = patterned<T>(rows, columns, pattern, 0.3, 1), x = random_values<T>(batch * columns, 2);
    const auto packed = kernels::to_sparse(w.data(), rows, columns, pattern);
    std::vector<T> reference(static_cast<std::size_t>(batch * rows)), y(reference.size());
    set_threads(1);
    kernels::sparse_linear<T>(packed, x.data(), batch, nullptr, reference.data());
    for (const int n : {1, 2, 4})
      for (const Index part : {2, 9, 16, 33, 64, 300}) {
        set_threads(n);
        kernels::sparse_linear<T>(packed, x.data(), part, nullptr, y.data());
        ASSERT_EQ(0, std::memcmp(y.data(), reference.data(), static_cast<std::size_t>(part * rows) * sizeof(T)))
            << pattern.describe() << ", " << part << " samples, " << n << " threads";
      }
    set_threads(1);
    kernels::sparse_linear<T>(packed, x.data(), 1, nullptr, reference.data());
    set_threads(4);
    kernels::sparse_linear<T>(packed, x.data(), 1, nullptr, y.data());
    ASSERT_EQ(0, std::memcmp(y.data(), reference.data(), static_cast<std::size_t>(rows) * sizeof(T)));
  }
  set_threads(before);
}

TYPED_TEST(PatternOf, PatternsAreFound) {
  using T = TypeParam;
  for (const SparsePattern& pattern : patterns) {
    const std::vector<T> w = patterned<T>(64, 160, pattern, 0.2, 3);
    EXPECT_EQ(kernels::find_pattern(w.data(), 64, 160), pattern) << pattern.describe();
  }
  const std::vector<T> full = random_values<T>(64 * 160, 1), none(64 * 160);
  EXPECT_TRUE(kernels::find_pattern(full.data(), 64, 160).single());
  EXPECT_TRUE(kernels::find_pattern(none.data(), 64, 160).single());
  EXPECT_TRUE(kernels::find_pattern(full.data(), 0, 160).single());
  // One entry outside of its place, and 2:4 becomes 3:4, which is no longer worth it.
  std::vector<T> w = patterned<T>(64, 160, {.keep = 2, .of = 4}, 0.5, 3);
  std::fill_n(w.data(), 3, T(1));
  EXPECT_FALSE(kernels::find_pattern(w.data(), 64, 160) == (SparsePattern{.keep = 2, .of = 4}));
  EXPECT_THROW(kernels::to_sparse(w.data(), 64, 160, {.keep = 2, .of = 4}), ConfigError);
}

TYPED_TEST(PatternOf, ClassesMayMixForms) {
  using T = TypeParam;
  const std::vector<T> w = patterned<T>(40, 64, {8, 1}, 0.2, 3), x = random_values<T>(65 * 64, 4);
  const KernelChoices choices{KernelChoice::blocked, KernelChoice::sparse, KernelChoice::dense};
  const Tensor weight = Tensor::from(w, {40, 64});
  EXPECT_EQ(structure_of(weight), KernelChoice::blocked);
  const PackedLinear packed(weight, choices);
  EXPECT_TRUE(equal(packed.densify(), weight));
  EXPECT_EQ(packed.kernel(1), "blocked");
  EXPECT_EQ(packed.kernel(2), "sparse");
  EXPECT_EQ(packed.kernel(65), "dense");
  EXPECT_NE(packed.describe().find("8x1 blocks"), std::string::npos) << packed.describe();
  for (const Index batch : {1, 16, 65}) {
    const Tensor in = Tensor::from(std::span(x).first(static_cast<std::size_t>(batch * 64)), {batch, 64});
    expect_product<T>(w, 40, 64, x, batch, nullptr, packed.linear(in, nullptr).template to_vector<T>());
  }
  const PackedLinear blocks(weight, {KernelChoice::blocked, KernelChoice::blocked, KernelChoice::blocked});
  EXPECT_TRUE(equal(blocks.densify(), weight));
  EXPECT_LT(blocks.bytes(), PackedLinear(weight).bytes());
}

TEST(Pattern, NanIsAnEntry) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> w(16 * 16);
  for (std::size_t r = 8; r < 16; ++r) w[r * 16 + 3] = nan;
  ASSERT_EQ(kernels::find_pattern(w.data(), 16, 16), (SparsePattern{8, 1}));
  const auto packed = kernels::to_sparse(w.data(), 16, 16, {8, 1});
  EXPECT_EQ(packed.live, 8);
  for (const Index batch : {1, 3}) {
    const std::vector<float> x(static_cast<std::size_t>(batch * 16), 1);
    std::vector<float> y(x.size());
    kernels::sparse_linear<float>(packed, x.data(), batch, nullptr, y.data());
    EXPECT_EQ(y[0], 0);
    EXPECT_TRUE(std::isnan(y[8]));
  }
}

TEST(Pattern, InfinityInXTouchesOnlyEntriesThatAreStored) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> w = patterned<float>(50, 300, {}, 0.1, 5);
  const auto packed = kernels::to_sparse(w.data(), 50, 300, {});
  for (const Index batch : {1, 2, 20}) {
    std::vector<float> x(static_cast<std::size_t>(batch * 300), 1), y(static_cast<std::size_t>(batch * 50));
    for (std::size_t n = 0; n < static_cast<std::size_t>(batch); ++n) x[n * 300] = x[n * 300 + 299] = infinity;
    kernels::sparse_linear<float>(packed, x.data(), batch, nullptr, y.data());
    for (std::size_t r = 0; r < 50; ++r) EXPECT_EQ(std::isfinite(y[r]), w[r * 300] == 0 && w[r * 300 + 299] == 0) << r;
  }
}

}  // namespace
}  // namespace espalier
