// N:M patterns.
#include <numeric>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/optim/sgd.h"
#include "tests/prune/granularity_helpers.h"

namespace espalier::prune {
namespace {

using testing::bits_of;
using testing::parameter;
using testing::picture;
using testing::pruned_in;
using testing::values_of;

TEST(NOfM, KeepsTheLargestOfEachGroup) {
  const Parameter w = parameter({1, -4, 3, 2, 0.5, 0.25, -7, 6}, {1, 8});
  Pruner(list_of(w), {.granularity = n_m()}).to_sparsity(0.5);
  EXPECT_EQ(picture(w), "01100011");
  const Parameter ties = parameter({1, 1, 1, 1}, {1, 4});
  Pruner(list_of(ties), {.granularity = n_m({.keep = 1, .of = 4})}).to_sparsity(0.75);
  EXPECT_EQ(picture(ties), "0001");  // the lower index goes first
}

TEST(NOfM, EndsOfLinesKeepTheirShareRoundedUp) {
  const std::vector<std::pair<Index, std::string>> ends{{1, "1"},     {2, "01"},     {3, "011"},    {4, "0011"},
                                                        {5, "00111"}, {6, "001101"}, {7, "0011011"}};
  for (const auto& [length, expected] : ends) {
    std::vector<double> v(static_cast<std::size_t>(length));
    std::iota(v.begin(), v.end(), 1.0);
    const Parameter w = parameter(v, {1, length}), line = parameter(v, {length});
    Pruner(list_of(w, line), {.granularity = n_m(), .select = optim::Select()}).to_sparsity(0.5);
    EXPECT_EQ(picture(w), expected);
    EXPECT_EQ(picture(line), expected);
  }
}

TEST(NOfM, RunsAlongTheInputsUnlessToldOtherwise) {
  Rng rng(3);
  const Tensor values = rng.normal({3, 8, 2, 2});
  auto masked = [&](const NOfMOptions& o) {
    Parameter w(values.clone(), "w");
    Pruner(list_of(w), {.granularity = n_m(o)}).to_sparsity(0.5);
    return bits_of(w);
  };
  auto live_in = [](const std::vector<bool>& bits, Index begin, Index stride) {
    Index live = 0;
    for (Index k = 0; k < 4; ++k) live += bits[static_cast<std::size_t>(begin + k * stride)];
    return live;
  };
  const std::vector<bool> inputs = masked({}), lowered = masked({.lowered = true}), last = masked({.axis = 1});
  EXPECT_EQ(inputs, last);
  for (Index o = 0; o < 3; ++o)
    for (Index position = 0; position < 4; ++position)
      for (Index group = 0; group < 2; ++group) EXPECT_EQ(live_in(inputs, o * 32 + group * 16 + position, 4), 2);
  for (Index run = 0; run < 24; ++run) EXPECT_EQ(live_in(lowered, run * 4, 1), 2);
  const Parameter outputs(values.clone(), "w");
  Pruner(list_of(outputs), {.granularity = n_m({.keep = 2, .of = 3, .axis = 0})}).to_sparsity(1.0 / 3);
  for (Index i = 0; i < 32; ++i) {
    Index live = 0;
    for (Index o = 0; o < 3; ++o) live += bits_of(outputs)[static_cast<std::size_t>(o * 32 + i)];
    EXPECT_EQ(live, 2);
  }
}

TEST(NOfM, AShareOfThePatternPrunesTheGroupsThatLoseLeast) {
  // Sums of what groups lose: 3, 30, 0.3, 12.
  const Parameter w = parameter({1, 2, 9, 9, 10, 20, 90, 90, 0.1, 0.2, 5, 5, 4, 8, 40, 40}, {4, 4});
  Pruner pruner(list_of(w), {.granularity = n_m()});
  pruner.to_sparsity(0.125);  // a quarter of 0.5
  EXPECT_EQ(picture(w), "1111111100111111");
  pruner.to_sparsity(0.25);
  EXPECT_EQ(picture(w), "0011111100111111");
  EXPECT_EQ(pruner.pieces().live, 2);
  pruner.prune_fraction(0.5);  // of the groups that are left
  EXPECT_EQ(picture(w), "0011111100110011");
  pruner.to_sparsity(0.5);
  EXPECT_EQ(picture(w), "0011001100110011");
  pruner.prune_count(5);
  EXPECT_EQ(picture(w), "0011001100110011");
  EXPECT_THROW(pruner.to_sparsity(0.51), ConfigError);
  EXPECT_THROW(pruner.to_sparsity(-0.1), ConfigError);
  Pruner third(list_of(w), {.granularity = n_m({.keep = 1, .of = 3})});
  EXPECT_NO_THROW(third.to_sparsity(2.0 / 3));
  EXPECT_NO_THROW(third.to_sparsity(1 - 1.0 / 3));
}

TEST(NOfM, WeightsPrunedBeforeBelongToThePattern) {
  Parameter w = parameter({9, 8, 1, 2, 9, 8, 7, 6}, {2, 4});
  Mask mask(8);
  mask.set(0, false);
  mask.set(4, false);
  mask.set(5, false);
  w.set_mask(mask);
  Pruner pruner(list_of(w), {.granularity = n_m()});
  EXPECT_EQ(pruner.pieces().live, 1);  // the second row has the pattern
  pruner.to_sparsity(0.5);
  EXPECT_EQ(picture(w), "01010011");
}

// The complaint: 2:4 masks were chosen at the first step and then never again, whatever the weights became.
TEST(Complaints, PatternFixedMidRun) {
  const Parameter w = parameter({4, 3, 2, 1, 4, 3, 2, 1}, {2, 4});
  optim::Optimizer optimizer(list_of(w), optim::sgd({.lr = 1}));
  const Schedule line =
      polynomial({.final_sparsity = 0.5, .initial_sparsity = 0.25, .begin = 0, .end = 4, .every = 2, .power = 1});
  Pruner pruner(list_of(w), {.granularity = n_m(), .schedule = line, .mode = MaskMode::soft});
  optimizer.attach(pruner);
  std::vector<std::string> masks;
  for (int step = 0; step < 5; ++step) {
    Tape tape;  // the third and fourth of each row grow by 1 a step, the first two shrink by 1
    tape.backward(sum(w * Tensor::from<double>({1, 1, -1, -1, 1, 1, -1, -1}, {2, 4}).to(DType::f32)));
    optimizer.step();
    masks.push_back(picture(w));
  }
  EXPECT_EQ(masks[0], "11001111");  // half of the groups, as the weights are
  EXPECT_EQ(masks[2], "00110011");  // now the others are smaller: 2, 1, 4, 3
  EXPECT_EQ(masks[4], "00110011");
  EXPECT_EQ(values_of(w.value()), (std::vector<double>{0, 0, 7, 6, 0, 0, 7, 6}));
}

Index row_live(const std::vector<bool>& bits, Index row, Index first, Index columns) {
  Index live = 0;
  for (Index c = 0; c < 4; ++c) live += bits[static_cast<std::size_t>(row * columns + first + c)];
  return live;
}

TEST(NOfM, TransposablePatternsHoldBothWaysAndLoseTheLeast) {
  Rng rng(6);
  const Tensor values = rng.normal({8, 12});
  const Parameter w(values.clone(), "w");
  Pruner(list_of(w), {.granularity = n_m({.transposable = true})}).to_sparsity(0.5);
  const std::vector<bool> bits = bits_of(w);
  for (Index r = 0; r < 8; ++r)
    for (Index c = 0; c < 12; c += 4) EXPECT_EQ(row_live(bits, r, c, 12), 2);
  for (Index c = 0; c < 12; ++c)
    for (Index r = 0; r < 8; r += 4) {
      Index live = 0;
      for (Index k = 0; k < 4; ++k) live += bits[static_cast<std::size_t>((r + k) * 12 + c)];
      EXPECT_EQ(live, 2);
    }
  // Against all 90 patterns, found another way: two of four in each row, checked down the columns.
  const Index pairs[6][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
  const std::vector<double> v = values_of(values);
  int patterns = 0;
  for (Index tile = 0; tile < 6; ++tile) {
    const Index row = tile / 3 * 4, column = tile % 3 * 4;
    double best = 0, got = 0;
    for (int choice = 0; choice < 1296; ++choice) {
      Index in_column[4] = {};
      double kept = 0;
      for (Index r = 0, rest = choice; r < 4; ++r, rest /= 6)
        for (Index c : pairs[rest % 6]) {
          ++in_column[c];
          kept += std::abs(v[static_cast<std::size_t>((row + r) * 12 + column + c)]);
        }
      if (std::any_of(in_column, in_column + 4, [](Index n) { return n != 2; })) continue;
      ++patterns;
      best = std::max(best, kept);
    }
    for (Index r = 0; r < 4; ++r)
      for (Index c = 0; c < 4; ++c)
        if (const auto i = static_cast<std::size_t>((row + r) * 12 + column + c); bits[i]) got += std::abs(v[i]);
    EXPECT_NEAR(got, best, 1e-12 * best) << tile;
  }
  EXPECT_EQ(patterns, 6 * 90);
}

TEST(NOfM, TransposableEdgesKeepAtMostTheirShare) {
  Rng rng(7);
  for (const auto& [rows, columns] : {std::pair<Index, Index>{5, 7}, {1, 1}, {2, 9}, {6, 3}}) {
    const Parameter w(rng.normal({rows, columns}), "w");
    Pruner(list_of(w), {.granularity = n_m({.transposable = true})}).to_sparsity(0.5);
    const std::vector<bool> bits = bits_of(w);
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; c += 4) {
        const Index size = std::min<Index>(4, columns - c);
        Index live = 0;
        for (Index k = 0; k < size; ++k) live += bits[static_cast<std::size_t>(r * columns + c + k)];
        EXPECT_LE(live, (size + 1) / 2);
      }
    for (Index c = 0; c < columns; ++c)
      for (Index r = 0; r < rows; r += 4) {
        const Index size = std::min<Index>(4, rows - r);
        Index live = 0;
        for (Index k = 0; k < size; ++k) live += bits[static_cast<std::size_t>((r + k) * columns + c)];
        EXPECT_LE(live, (size + 1) / 2);
      }
    EXPECT_GE(live_weights(*w.ref()), rows * columns / 4);
  }
}

TEST(NOfM, TransposableOfAConvolutionHoldsAtEachKernelPosition) {
  Rng rng(8);
  const Parameter w(rng.normal({4, 4, 3, 3}), "w");
  Pruner(list_of(w), {.granularity = n_m({.keep = 1, .of = 4, .transposable = true})}).to_sparsity(0.75);
  const std::vector<bool> bits = bits_of(w);
  for (Index position = 0; position < 9; ++position)
    for (Index a = 0; a < 4; ++a) {
      Index in_row = 0, in_column = 0;
      for (Index b = 0; b < 4; ++b) {
        in_row += bits[static_cast<std::size_t>((a * 4 + b) * 9 + position)];
        in_column += bits[static_cast<std::size_t>((b * 4 + a) * 9 + position)];
      }
      EXPECT_EQ(in_row, 1);
      EXPECT_EQ(in_column, 1);
    }
}

}  // namespace
}  // namespace espalier::prune
