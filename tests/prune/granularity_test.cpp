#include "espalier/prune/granularity.h"

#include <numeric>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/parallel.h"
#include "espalier/optim/adam.h"
#include "espalier/prune/scores_weight.h"
#include "tests/prune/granularity_helpers.h"

namespace espalier::prune {
namespace {

using testing::bits_of;
using testing::expect_whole;
using testing::parameter;
using testing::picture;
using testing::pruned_in;
using testing::values_of;

const optim::Select all;

/// Units in the order in which the plain rule prunes them: by the p-norm, computed here.
std::vector<Index> units_by_norm(const Tensor& w, int axis, double p) {
  const Shape& shape = w.shape();
  std::vector<double> norms(static_cast<std::size_t>(shape[axis]));
  const std::vector<double> v = values_of(w);
  Index inner = 1;
  for (int a = axis + 1; a < shape.rank(); ++a) inner *= shape[a];
  for (std::size_t i = 0; i < v.size(); ++i) {
    double& n = norms[static_cast<std::size_t>(static_cast<Index>(i) / inner % shape[axis])];
    n = std::isinf(p) ? std::max(n, std::abs(v[i])) : n + std::pow(std::abs(v[i]), p);
  }
  std::vector<Index> order(norms.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return norms[static_cast<std::size_t>(a)] < norms[static_cast<std::size_t>(b)];
  });
  return order;
}

std::vector<Index> dead_units(const Parameter& p, int axis) {
  std::vector<Index> dead;
  const Tensor mask = p.mask().defined() ? p.mask().to_tensor(p.shape()) : Mask(p.size()).to_tensor(p.shape());
  for (Index u = 0; u < p.shape()[axis]; ++u) {
    const std::vector<double> v = values_of(mask.select(axis, u).contiguous());
    if (std::count(v.begin(), v.end(), 0) == std::ssize(v)) dead.push_back(u);
  }
  return dead;
}

TEST(Units, AreThoseOfLnStructuredForEveryNormAndAxis) {
  Rng rng(3);
  for (const Shape& shape : {Shape{7, 5}, Shape{6, 3, 2, 2}, Shape{5, 4, 3}})
    for (int axis = 0; axis < shape.rank(); ++axis)
      for (const double p : {1.0, 2.0, 3.0, std::numeric_limits<double>::infinity()}) {
        const Tensor values = rng.normal(shape);
        const Parameter pooled(values.clone(), "w"), scored(values.clone(), "w");
        const bool largest = std::isinf(p);
        Pruner first(list_of(pooled),
                     {.score = magnitude({.p = largest ? 1 : p}),
                      .granularity = units({.axis = axis, .pool = largest ? Pool::max() : Pool::mean()}),
                      .min_keep = 0});
        Pruner second(list_of(scored), {.score = ln_structured({.p = p, .axis = axis}),
                                        .granularity = units({.axis = axis - shape.rank()}),
                                        .min_keep = 0});
        std::vector<Index> expected = units_by_norm(values, axis, p);
        expected.resize(2);
        std::sort(expected.begin(), expected.end());
        for (Pruner* pruner : {&first, &second}) pruner->prune_count(2);
        EXPECT_EQ(dead_units(pooled, axis), expected) << shape << " axis " << axis << " p " << p;
        EXPECT_EQ(picture(pooled), picture(scored)) << shape << " axis " << axis << " p " << p;
        EXPECT_EQ(pruned_in(pooled), 2 * pooled.size() / shape[axis]);
      }
}

TEST(Units, CountsAreOfUnitsExactAndRoundedHalfToEven) {
  for (Index n : {1, 2, 3, 5, 10, 64, 65}) {
    Rng rng(1);
    const Parameter w(rng.normal({n, 3}), "w");
    for (int percentage = 0; percentage <= 100; percentage += 5) {
      Parameter copy = w;
      Pruner pruner(list_of(copy), {.granularity = rows()});
      pruner.to_sparsity(percentage / 100.0);
      const Index asked = static_cast<Index>(std::nearbyint(percentage / 100.0 * static_cast<double>(n)));
      EXPECT_EQ(pruned_in(copy), 3 * std::min(asked, n - 1)) << n << " at " << percentage;
      EXPECT_EQ(pruner.pieces().all, n);
      EXPECT_EQ(pruner.pieces().live, n - std::min(asked, n - 1));
    }
  }
}

TEST(Units, SynonymsSayTheSame) {
  Rng rng(2);
  const Tensor values = rng.normal({4, 6, 3, 3});
  auto masked = [&](const Granularity& g) {
    Parameter w(values.clone(), "w");
    Pruner(list_of(w), {.granularity = g}).to_sparsity(0.5);
    return picture(w);
  };
  EXPECT_EQ(masked(rows()), masked(units()));
  EXPECT_EQ(masked(rows()), masked(filters()));
  EXPECT_EQ(masked(columns()), masked(channels()));
  EXPECT_EQ(masked(columns()), masked(units({.axis = -3})));
  EXPECT_NE(masked(rows()), masked(columns()));
}

TEST(Kernels, OneOfEachOutputAndInput) {
  // Kernels [1, 2], [9, 9], [0, 4], [5, 5] of a conv1d weight [2, 2, 2].
  const Parameter w = parameter({1, 2, 9, 9, 0, 4, 5, 5}, {2, 2, 2});
  Pruner pruner(list_of(w), {.granularity = kernels()});
  pruner.to_sparsity(0.25);
  EXPECT_EQ(picture(w), "00111111");
  pruner.to_sparsity(0.5);
  EXPECT_EQ(picture(w), "00110011");
  const Parameter other = parameter({1, 2, 9, 9, 0, 4, 5, 5}, {2, 2, 2});
  Pruner(list_of(other), {.granularity = kernels(Pool::max())}).to_sparsity(0.25);
  EXPECT_EQ(picture(other), "00111111");
}

TEST(Blocks, RaggedEdgesArePooledOverWhatTheyHave) {
  // 3 x 5 in blocks of 2 x 2: the last column and row make smaller ones.
  const std::vector<double> v{3, 3, 9, 9, 1,  //
                              3, 3, 9, 9, 1,  //
                              2, 2, 9, 9, 8};
  const std::vector<Index> number{0, 0, 1, 1, 2, 0, 0, 1, 1, 2, 3, 3, 4, 4, 5};
  const Parameter mean = parameter(v, {3, 5}), sum = parameter(v, {3, 5}), max = parameter(v, {3, 5});
  Pruner(list_of(mean), {.granularity = blocks({.rows = 2, .columns = 2})}).prune_count(2);
  EXPECT_EQ(picture(mean), "111101111000111");  // means: 3, 9, 1, 2, 9, 8
  Pruner(list_of(sum), {.granularity = blocks({.rows = 2, .columns = 2, .pool = Pool::sum()})}).prune_count(3);
  EXPECT_EQ(picture(sum), "111101111000110");  // sums: 12, 36, 2, 4, 18, 8
  Pruner(list_of(max), {.granularity = blocks({.rows = 2, .columns = 2, .pool = Pool::max()})}).prune_count(1);
  EXPECT_EQ(picture(max), "111101111011111");
  for (const Parameter* p : {&mean, &sum, &max}) expect_whole(*p, number, "blocks");
}

TEST(Blocks, LargerThanTheTensorAreOneBlockAndMinKeepHoldsIt) {
  Rng rng(1);
  const Parameter small(rng.normal({3, 5}), "small"), large(rng.normal({32, 40}), "large");
  Pruner pruner(list_of(small, large), {.granularity = blocks({.rows = 16, .columns = 8})});
  EXPECT_EQ(pruner.pieces().all, 1 + 2 * 5);
  pruner.to_sparsity(1);
  EXPECT_EQ(pruned_in(small), 0);
  EXPECT_EQ(live_weights(*large.ref()), 16 * 8);
  Pruner(list_of(small), {.granularity = blocks({.rows = 16, .columns = 8}), .min_keep = 0}).to_sparsity(1);
  EXPECT_EQ(pruned_in(small), 15);
}

TEST(Blocks, OfAConvolutionAreThoseOfItsMatrix) {
  Rng rng(4);
  const Tensor values = rng.normal({8, 3, 3, 3});
  const Parameter conv(values.clone(), "w"), matrix(values.reshape({8, 27}).clone(), "w");
  for (const Parameter* p : {&conv, &matrix})
    Pruner(list_of(*p), {.granularity = blocks({.rows = 4, .columns = 1})}).to_sparsity(0.7);
  EXPECT_EQ(picture(conv), picture(matrix));
}

TEST(Granularity, OfOnesOwn) {
  const Granularity diagonals("diagonals", [](const Shape& s) {
    std::vector<Index> number;
    for (Index i = 0; i < s[0]; ++i)
      for (Index j = 0; j < s[1]; ++j) number.push_back(2 * ((j - i + s[1]) % s[1]));  // gaps do not matter
    return number;
  });
  const Parameter w = parameter({1, 9, 5, 5, 1, 9, 9, 5, 1}, {3, 3});
  Pruner pruner(list_of(w), {.granularity = diagonals});
  EXPECT_EQ(pruner.pieces().all, 3);
  pruner.prune_count(1);
  EXPECT_EQ(picture(w), "011101110");
  pruner.prune_count(1);
  EXPECT_EQ(picture(w), "010001100");
}

// The complaint: torch.nn.utils.prune.global_unstructured refuses structured methods.
TEST(Complaints, GlobalStructuredPruningMissing) {
  Rng rng(7);
  for (const Granularity& g : {filters(), channels(), kernels(), blocks({.rows = 2, .columns = 3}), n_m()}) {
    // The second layer's weights are a hundred times smaller: under global scope nearly all goes there.
    const Parameter a(rng.normal({8, 4, 3, 3}), "a"), b(rng.normal({8, 4, 3, 3}, 0, 0.01), "b");
    Pruner pruner(list_of(a, b), {.granularity = g, .scope = Scope::global});
    pruner.to_sparsity(0.25);
    EXPECT_EQ(pruned_in(a), 0) << g.name();
    EXPECT_GT(pruned_in(b), 0) << g.name();
    const Index asked =
        static_cast<Index>(std::nearbyint((g.name() == "2:4" ? 0.5 : 0.25) * static_cast<double>(pruner.pieces().all)));
    EXPECT_EQ(pruner.pieces().all - pruner.pieces().live, asked) << g.name();
  }
}

TEST(Complaints, WholeLayerPrunedAwayInAnyPieces) {
  Rng rng(8);
  for (const Granularity& g : {elements(), filters(), channels(), kernels(), blocks({.rows = 2, .columns = 3}), n_m()})
    for (const Scope scope : {Scope::global, Scope::tensor}) {
      const Parameter a(rng.normal({4, 3, 2, 2}), "a"), b(rng.normal({4, 3, 2, 2}, 0, 1e-6), "b");
      Pruner pruner(list_of(a, b), {.granularity = g, .scope = scope});
      pruner.to_sparsity(g.name() == "2:4" ? 0.5 : 1);
      EXPECT_GT(live_weights(*a.ref()), 0) << g.name();
      EXPECT_GT(live_weights(*b.ref()), 0) << g.name();
      if (g.name() == "2:4") continue;
      EXPECT_EQ(pruner.pieces().live, 2) << g.name();
    }
}

TEST(Granularity, HardPiecesStayPrunedAndSoftOnesAreChosenAnew) {
  Parameter w = parameter({1, 1, 2, 2, 3, 3}, {3, 2});
  Pruner hard(list_of(w), {.granularity = rows()});
  hard.prune_count(1);
  EXPECT_EQ(picture(w), "001111");
  hard.to_sparsity(0.1);
  EXPECT_EQ(picture(w), "001111");

  Parameter v = parameter({1, 1, 2, 2, 3, 3}, {3, 2});
  Pruner soft(list_of(v), {.granularity = rows(), .mode = MaskMode::soft});
  soft.prune_count(1);
  EXPECT_EQ(picture(v), "001111");
  float* dense = v.ref()->mutable_dense().write<float>("test");
  dense[0] = 9;
  soft.to_sparsity(1.0 / 3);
  EXPECT_EQ(picture(v), "110011");
  EXPECT_EQ(v.value().to_vector<float>(), (std::vector<float>{9, 1, 0, 0, 3, 3}));
}

TEST(Granularity, PrunedWeightsCountAsNothingInAPiece) {
  Parameter w = parameter({5, 0, 3, 3, 4, 4}, {3, 2});
  Mask mask(6);
  mask.set(4, false);
  w.set_mask(mask);
  Pruner pruner(list_of(w), {.granularity = rows()});
  pruner.prune_count(1);  // means 2.5, 3, 2
  EXPECT_EQ(picture(w), "111100");
  pruner.prune_count(1);
  EXPECT_EQ(picture(w), "001100");
}

TEST(Granularity, EmptyTensorsAndSingleUnits) {
  const Parameter none(Tensor::zeros({0, 4}), "none"), narrow(Tensor::zeros({4, 0}), "narrow"),
      one(Tensor::ones({1, 3}), "one");
  for (const Granularity& g : {elements(), rows(), columns(), blocks(), n_m(), n_m({.transposable = true}),
                               n_m({.lowered = true}), units({.axis = -1})}) {
    Pruner pruner(list_of(none, narrow, one), {.granularity = g});
    pruner.to_sparsity(0.5);
    EXPECT_FALSE(none.mask().defined()) << g.name();
    EXPECT_GT(live_weights(*one.ref()), 0) << g.name();
    EXPECT_LE(pruner.pieces().all, 3) << g.name();
  }
}

TEST(Granularity, NanScoresNameThePieceAndNothingIsPruned) {
  Parameter fine = parameter({1, 2, 3, 4}, {2, 2}, "fine"), w = parameter({1, 2, 3, 4, 5, 6, 7, 8}, {4, 2}, "layer.w");
  w.ref()->mutable_value().write<float>("test")[5] = std::nanf("");
  for (const auto& [g, place] :
       std::vector<std::pair<Granularity, std::string>>{{elements(), "flat index 5"},
                                                        {rows(), "unit 2"},
                                                        {units({.axis = 1, .pool = Pool::max()}), "unit 1"},
                                                        {blocks({.rows = 2, .columns = 2}), "block 1"},
                                                        {n_m({.keep = 1, .of = 2}), "group 2"},
                                                        {n_m({.keep = 1, .of = 2, .transposable = true}), "group 1"}}) {
    try {
      Pruner(list_of(fine, w), {.granularity = g, .scope = Scope::tensor}).to_sparsity(0.5);
      FAIL() << g.name();
    } catch (const NonFiniteError& e) {
      EXPECT_NE(std::string(e.what()).find("'layer.w' is NaN at " + place + "."), std::string::npos) << e.what();
    }
    EXPECT_FALSE(fine.mask().defined()) << g.name();
  }
}

TEST(Granularity, TwoTypesAndATiedWeight) {
  Rng rng(5);
  const Parameter f(rng.normal({6, 4}), "f"), d(rng.normal({10, 2}, 0, 1, DType::f64), "d");
  ParameterList list = list_of(f, d);
  list.push_back({"decoder", f.ref()});  // the same weight by another name
  Pruner pruner(list, {.granularity = rows()});
  EXPECT_EQ(pruner.pieces().all, 16);
  pruner.to_sparsity(0.5);
  EXPECT_EQ(pruned_in(f) / 4 + pruned_in(d) / 2, 8);
}

TEST(Granularity, TheSameBytesAtAnyThreadCountAndAcrossAResume) {
  auto run = [](int threads, bool resume) {
    ThreadLimit limit(threads);
    Rng rng(11);
    const Parameter a(rng.normal({96, 70}), "a"), b(rng.normal({33, 17, 3, 3}), "b");
    const PrunerOptions options{.granularity = n_m({.keep = 1, .of = 4, .transposable = true}),
                                .schedule = cubic({.final_sparsity = 0.75, .begin = 1, .end = 8, .every = 2}),
                                .mode = MaskMode::soft};
    auto optimizer = std::make_unique<optim::Optimizer>(list_of(a, b), optim::adam({.lr = 0.1}));
    auto pruner = std::make_unique<Pruner>(list_of(a, b), options);
    optimizer->attach(*pruner);
    for (int step = 0; step < 10; ++step) {
      if (resume && step == 5) {
        const optim::OptimizerState saved = optimizer->state();
        const PrunerState own = pruner->state();
        optimizer = std::make_unique<optim::Optimizer>(list_of(a, b), optim::adam({.lr = 0.1}));
        pruner = std::make_unique<Pruner>(list_of(a, b), options);
        optimizer->load_state(saved);
        pruner->load_state(own);
        optimizer->attach(*pruner);
      }
      const Tensor x = rng.normal({96, 70}), y = rng.normal({33, 17, 3, 3});
      Tape tape;
      tape.backward(sum(a * x) + sum(b * y));
      optimizer->step();
    }
    return std::tuple(a.value().to_vector<float>(), b.value().to_vector<float>(), picture(a), picture(b),
                      pruner->history());
  };
  const auto expected = run(1, false);
  for (const int threads : {2, 4}) EXPECT_EQ(run(threads, false), expected);
  EXPECT_EQ(run(1, true), expected);
  EXPECT_NEAR(static_cast<double>(std::count(std::get<2>(expected).begin(), std::get<2>(expected).end(), '0')),
              0.75 * 96 * 70, 96 * 70 * 0.01);
}

}  // namespace
}  // namespace espalier::prune
