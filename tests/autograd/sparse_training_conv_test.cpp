// Training steps with sparse convolutions against the dense ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/math.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/sparse_training.h"
#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"
#include "tests/autograd/masked_weight.h"

namespace espalier {
namespace {

const SparseTrainingOptions& all = testing::every_weight;
using testing::masked_weight;

/// A convolution and the sizes it runs on; rank 3 weights are of conv1d.
struct Case {
  Shape weight, x;
  Conv2dOptions options = {};
};

Variable convolve(const Case& c, const Variable& x, const Variable& w, const Variable& b) {
  if (c.weight.rank() == 4) return conv2d(x, w, b, c.options);
  ConvPadding padding = c.options.padding;
  padding.zeros[0] = padding.zeros[1];  // of the one axis
  return conv1d(x, w, b,
                {.stride = c.options.stride[1],
                 .padding = padding,
                 .dilation = c.options.dilation[1],
                 .groups = c.options.groups});
}

struct Step {
  Tensor y, dx, dw, db;
};
Step step(const Case& c, const Parameter& w, const Parameter& b, const Tensor& x) {
  Tape tape;
  const Variable in = tape.watch(x);
  const Variable y = convolve(c, in, w, b);
  const std::vector<Variable> d = tape.gradient(sum(square(y)), {in, w, b});
  return {y.value(), d[0].value(), d[1].value(), d[2].value()};
}

/// Sums of `terms` products, each rounded, of which none is larger than some thousands of the tolerance's unit.
void expect_near(const Tensor& have, const Tensor& want, Index terms, const char* what) {
  ASSERT_EQ(have.shape(), want.shape()) << what;
  ASSERT_TRUE(have.dtype() == want.dtype()) << what;
  double largest = 1;
  const Tensor wide = want.to(DType::f64);
  for (const double v : wide.to_vector<double>()) largest = std::max(largest, std::abs(v));
  const double epsilon = have.dtype() == DType::f32 ? 1.2e-7 : 2.3e-16;
  EXPECT_TRUE(allclose(have, want, 0, static_cast<double>(terms + 4) * epsilon * largest)) << what;
}

Tensor without_pruned(const Tensor& dw, const Parameter& w) {
  Tensor live = dw.clone();
  zero_pruned(live, w.mask(), "test");
  return live;
}

const std::vector<Case> cases = {
    {{1, 1, 1, 1}, {1, 1, 1, 1}},
    {{8, 6, 1, 1}, {3, 6, 7, 5}},
    {{8, 6, 1, 1}, {3, 6, 7, 5}, {.padding = 2}},  // the adjoint leaves out a border of g
    {{8, 6, 1, 1}, {3, 6, 7, 5}, {.stride = 2}},
    {{10, 5, 3, 3}, {2, 5, 9, 7}},
    {{10, 5, 3, 3}, {2, 5, 9, 7}, {.padding = 1}},
    {{10, 5, 3, 3}, {2, 5, 9, 7}, {.padding = 4}},  // wider than the kernel
    {{10, 5, 3, 3}, {2, 5, 9, 7}, {.padding = "same"}},
    {{10, 5, 3, 3}, {2, 5, 10, 7}, {.stride = 2, .padding = 1}},  // a last row that no output reads
    {{10, 5, 3, 3}, {2, 5, 9, 8}, {.stride = {1, 2}, .padding = {0, 1}}},
    {{10, 5, 3, 3}, {2, 5, 11, 8}, {.padding = {2, 1}, .dilation = {3, 2}}},
    {{10, 5, 3, 3}, {2, 5, 11, 9}, {.stride = 3, .padding = 1, .dilation = 2}},
    {{10, 5, 3, 3}, {2, 5, 11, 9}, {.stride = 2, .dilation = 2}},  // every other pixel of x is read
    {{10, 5, 3, 3}, {2, 5, 15, 14}, {.stride = {6, 4}, .padding = 1, .dilation = {4, 1}}},
    {{7, 3, 2, 2}, {2, 3, 8, 7}, {.stride = 2}},
    {{7, 3, 4, 4}, {2, 3, 9, 1}, {.stride = 2, .padding = 3}},  // narrower than the stride
    {{7, 3, 1, 1}, {2, 3, 30, 20}, {.stride = 8, .padding = 3}},
    {{7, 3, 5, 5}, {2, 3, 8, 13}, {.padding = 2}},
    {{7, 3, 2, 4}, {2, 3, 6, 9}, {.padding = "same"}},  // even: more zeros behind than before
    {{7, 3, 5, 2}, {2, 3, 8, 13}, {.padding = {0, 1}}},
    {{12, 40, 3, 3}, {2, 40, 4, 4}, {.padding = 1}},   // several images to a unit
    {{12, 40, 3, 3}, {40, 40, 3, 3}, {.padding = 1}},  // and so many that threads take whole units
    {{9, 4, 3, 3}, {11, 4, 17, 16}, {.padding = 1}},
    {{9, 4, 3, 3}, {0, 4, 6, 6}, {.padding = 1}},
    {{9, 4, 3, 3}, {4, 6, 6}, {.padding = 1}},  // without N
    {{9, 4, 3}, {5, 4, 20}},
    {{9, 4, 3}, {5, 4, 21}, {.stride = 2, .padding = {0, 2}}},
    {{9, 4, 5}, {5, 4, 30}, {.padding = {0, 3}, .dilation = 2}},
    {{9, 4, 3}, {4, 20}, {.padding = "same"}},
};

void compare_with_dense(const Case& c, double live, DType type) {
  const Parameter w = masked_weight(c.weight, live, 3, type);
  const Parameter b(Rng(4).normal({c.weight[0]}, 0, 1, type), "b");
  const Tensor x = Rng(5).normal(c.x, 0, 1, type);
  const Step dense = step(c, w, b, x);
  const SparseTraining sparse(list_of(w, b), all);
  EXPECT_TRUE(sparse.chosen().empty());  // nobody knows yet what it is for
  const Step have = step(c, w, b, x);
  ASSERT_EQ(sparse.chosen(), std::vector<std::string>{"w"});
  const Index terms = count(c.weight) / c.weight[0], others = count(c.weight) / c.weight[1];
  expect_near(have.y, dense.y, terms, "y");
  expect_near(have.dx, dense.dx, terms + others, "dx");
  // dw and db sum over all pixels.
  const Index pixels = have.y.size() / c.weight[0];
  expect_near(have.dw, without_pruned(dense.dw, w), terms + pixels, "dw");
  EXPECT_TRUE(equal(have.dw, without_pruned(have.dw, w)));
  expect_near(have.db, dense.db, terms + pixels, "db");
}

TEST(SparseTrainingConv, GivesTheDenseResultsAtLiveWeightsAndZeroElsewhere) {
  for (std::size_t i = 0; i < cases.size(); ++i)
    for (const DType type : {DType::f32, DType::f64})
      for (const double live : {0.0, 0.1, 0.5, 1.0}) {
        SCOPED_TRACE("case " + std::to_string(i) + ", live " + std::to_string(live));
        compare_with_dense(cases[i], live, type);
      }
}

TEST(SparseTrainingConv, FollowsValuesAndMasks) {
  const Case c{{10, 6, 3, 3}, {4, 6, 8, 8}, {.padding = 1}};
  Parameter w = masked_weight(c.weight, 0.2, 1);
  const Parameter b(Tensor::zeros({10}), "b");
  const Tensor x = Rng(2).normal(c.x);
  const SparseTraining sparse(list_of(w, b), all);
  const auto same_as_dense = [&] {
    const Step have = step(c, w, b, x);
    const Parameter copy(w);  // its value is not one of those chosen
    const Step dense = step(c, copy, b, x);
    expect_near(have.y, dense.y, 54, "y");
    expect_near(have.dx, dense.dx, 200, "dx");
    expect_near(have.dw, w.mask().defined() ? without_pruned(dense.dw, w) : dense.dw, 54 + 256, "dw");
  };
  same_as_dense();
  w.set_value(Rng(7).normal(c.weight));
  same_as_dense();
  w.ref()->mutable_value().write<float>("test")[0] = w.mask()[0] ? 5.f : 0.f;
  same_as_dense();
  w.set_mask(Mask(Rng(8).bernoulli({540}, 0.5)));
  w.set_value(Rng(9).normal(c.weight));
  same_as_dense();
  w.ref()->replace(Rng(10).normal(c.weight), Mask());  // no mask any more: dense
  same_as_dense();
  EXPECT_FALSE(SparseTraining::covers(w.value()));
}

TEST(SparseTrainingConv, OneWeightAtManySizesAndStrides) {
  const Parameter w = masked_weight({10, 6, 3, 3}, 0.2, 1), b(Tensor::ones({10}), "b");
  const SparseTraining sparse(list_of(w, b), all);
  for (const Shape& shape : {Shape{2, 6, 8, 8}, Shape{5, 6, 20, 3}, Shape{6, 3, 3}}) {
    const Tensor x = Rng(2).normal(shape);
    for (const Case& c : {Case{{10, 6, 3, 3}, shape}, Case{{10, 6, 3, 3}, shape, {.stride = 2, .padding = 1}}}) {
      const Step have = step(c, w, b, x), dense = step(c, Parameter(w), b, x);
      expect_near(have.y, dense.y, 54, "y");
      expect_near(have.dx, dense.dx, 200, "dx");
    }
  }
}

TEST(SparseTrainingConv, SameBytesAtAnyThreadCount) {
  const int before = threads();
  for (const Case& c :
       {Case{{40, 24, 3, 3}, {20, 24, 16, 16}, {.padding = 1}}, Case{{40, 24, 3, 3}, {1, 24, 33, 40}, {.padding = 1}},
        Case{{40, 24, 3, 3}, {100, 24, 6, 5}, {.stride = 2}}, Case{{40, 24, 5}, {9, 24, 300}, {.padding = {0, 2}}}}) {
    const Parameter w = masked_weight(c.weight, 0.1, 1), b(Tensor::zeros({40}), "b");
    const Tensor x = Rng(2).normal(c.x);
    const SparseTraining sparse(list_of(w, b), all);
    set_threads(1);
    const Step one = step(c, w, b, x);
    for (const int n : {2, 4}) {
      set_threads(n);
      const Step have = step(c, w, b, x);
      EXPECT_TRUE(equal(have.y, one.y));
      EXPECT_TRUE(equal(have.dx, one.dx));
      EXPECT_TRUE(equal(have.dw, one.dw));
    }
  }
  set_threads(before);
}

TEST(SparseTrainingConv, GroupsLongStridesAndTransposedConvolutionsStayDense) {
  const Tensor x = Rng(2).normal({2, 6, 7, 7});
  const Parameter b(Tensor::zeros({6}), "b");
  for (const Conv2dOptions& options :
       {Conv2dOptions{.groups = 2}, Conv2dOptions{.groups = 6}, Conv2dOptions{.stride = {1, 9}}}) {
    const Case c{{6, 6 / options.groups, 3, 3}, {2, 6, 7, 7}, options};
    const Parameter w = masked_weight(c.weight, 0.4, 1);
    const Step dense = step(c, w, b, x);
    const SparseTraining sparse(list_of(w), all);
    const Step have = step(c, w, b, x);
    EXPECT_TRUE(sparse.chosen().empty());
    EXPECT_TRUE(equal(have.y, dense.y));
    EXPECT_TRUE(equal(have.dx, dense.dx));
    EXPECT_TRUE(equal(have.dw, dense.dw));
  }
  const Parameter w = masked_weight({6, 4, 3, 3}, 0.4, 1);
  const auto transposed = [&] {
    Tape tape;
    const Variable in = tape.watch(x);
    const std::vector<Variable> d = tape.gradient(sum(square(conv_transpose2d(in, w))), {in, w});
    return std::vector<Tensor>{d[0].value(), d[1].value()};
  };
  const std::vector<Tensor> dense = transposed();
  const SparseTraining sparse(list_of(w), all);
  const std::vector<Tensor> have = transposed();
  EXPECT_TRUE(sparse.chosen().empty());
  EXPECT_TRUE(equal(have[0], dense[0]));
  EXPECT_TRUE(equal(have[1], dense[1]));
}

TEST(SparseTrainingConv, DenseGradientsOnDemandAndOnlyWhileItLives) {
  const Case c{{10, 6, 3, 3}, {4, 6, 8, 8}, {.padding = 1}};
  const Parameter w = masked_weight(c.weight, 0.2, 1), b(Tensor::ones({10}), "b");
  const Tensor x = Rng(2).normal(c.x);
  const auto zeros = [&] {
    const std::vector<float> v = step(c, w, b, x).dw.to_vector<float>();
    return std::count(v.begin(), v.end(), 0.f);
  };
  EXPECT_EQ(zeros(), 0);
  {
    SparseTraining sparse(list_of(w, b), all);
    EXPECT_FALSE(SparseTraining::covers(w.value()));
    EXPECT_EQ(zeros(), 540 - w.mask().live());
    EXPECT_TRUE(SparseTraining::covers(w.value()));
    sparse.dense_gradient(true);
    EXPECT_EQ(zeros(), 0);
  }
  EXPECT_FALSE(SparseTraining::covers(w.value()));
  EXPECT_EQ(zeros(), 0);
}

TEST(SparseTrainingConv, SecondGradientsAreThoseOfDenseProducts) {
  const Case c{{5, 4, 3, 3}, {2, 4, 6, 6}, {.padding = 1}};
  const Parameter w = masked_weight(c.weight, 0.5, 1), b(Tensor::zeros({5}), "b");
  const Tensor x = Rng(2).normal(c.x);
  const auto second = [&] {
    Tape tape;
    const Variable in = tape.watch(x);
    const Variable first = tape.gradient(sum(square(square(convolve(c, in, w, b)))), {in}, {.create_graph = true})[0];
    const std::vector<Variable> d = tape.gradient(sum(square(first)), {in, w});
    return std::pair(d[0].value(), without_pruned(d[1].value(), w));
  };
  const auto dense = second();
  const SparseTraining sparse(list_of(w, b), all);
  const auto have = second();
  EXPECT_EQ(sparse.chosen().size(), 1u);
  expect_near(have.first, dense.first, 300, "dx");
  expect_near(have.second, dense.second, 300, "dw");
}

TEST(SparseTrainingConv, DecidesOnceAtItsFirstUse) {
  const Case c{{64, 64, 3, 3}, {2, 64, 12, 12}, {.padding = 1}};
  const Parameter thin = masked_weight(c.weight, 0.005, 1), full = masked_weight(c.weight, 0.99, 2);
  const Parameter b(Tensor::zeros({64}), "b");
  const SparseTraining sparse({{"thin", thin.ref()}, {"full", full.ref()}}, {.batch = 8});
  EXPECT_TRUE(sparse.chosen().empty());
  const Tensor x = Rng(2).normal(c.x);
  step(c, full, b, x);
  step(c, thin, b, x);
  const std::vector<std::string> chosen = sparse.chosen();  // which, depends on what else runs on the machine
  const auto live_alone = [&](const char* name, const Parameter& w) {
    Tensor dw = step(c, w, b, x).dw.clone(), masked = dw.clone();
    zero_pruned(masked, w.mask(), "test");
    EXPECT_EQ(equal(dw, masked), std::find(chosen.begin(), chosen.end(), name) != chosen.end());
  };
  live_alone("thin", thin);
  live_alone("full", full);
  EXPECT_EQ(sparse.chosen(), chosen);
}

}  // namespace
}  // namespace espalier
