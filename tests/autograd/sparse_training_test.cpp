// Training steps with sparse products against the dense ones.
#include "espalier/autograd/sparse_training.h"

#include <gtest/gtest.h>

#include <cstring>

#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/math.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"
#include "tests/autograd/masked_weight.h"

namespace espalier {
namespace {

const SparseTrainingOptions& all = testing::every_weight;
using testing::masked_weight;

struct Step {
  Tensor y, dx, dw, db;
};
Step step(const Parameter& w, const Parameter& b, const Tensor& x, Activation activation = Activation::none) {
  w.ref()->clear_grad();
  b.ref()->clear_grad();
  Tape tape;
  const Variable in = tape.watch(x);
  const Variable y = linear(in, w, b, activation);
  const std::vector<Variable> d = tape.gradient(sum(square(y)), {in, w, b});
  return {y.value(), d[0].value(), d[1].value(), d[2].value()};
}

void expect_near(const Tensor& a, const Tensor& b, double terms) {
  // Sums of `terms` products of numbers that are at most some hundreds, each rounded once.
  const double epsilon = a.dtype() == DType::f32 ? 1.2e-7 : 2.3e-16;
  EXPECT_TRUE(allclose(a, b, terms * epsilon, terms * terms * 30 * epsilon));
}

TEST(SparseTraining, GivesTheDenseResultsAtLiveWeightsAndZeroElsewhere) {
  for (const DType type : {DType::f32, DType::f64})
    for (const auto& [out, in] : std::vector<std::pair<Index, Index>>{{1, 1}, {7, 33}, {130, 50}, {20, 300}})
      for (const double live : {0.0, 0.1, 1.0})
        for (const Index batch : {0, 1, 16, 17, 70}) {
          const Parameter w = masked_weight({out, in}, live, 3, type);
          const Parameter b(Rng(4).normal({out}, 0, 1, type), "b");
          const Tensor x = Rng(5).normal({batch, in}, 0, 1, type);
          const Step dense = step(w, b, x);
          const SparseTraining sparse(list_of(w, b), all);
          ASSERT_EQ(sparse.chosen(), std::vector<std::string>{"w"});
          const Step have = step(w, b, x);
          expect_near(have.y, dense.y, static_cast<double>(in + 2));
          expect_near(have.dx, dense.dx, static_cast<double>(in + out + 2));
          Tensor want = dense.dw.clone();
          zero_pruned(want, w.mask(), "test");
          expect_near(have.dw, want, static_cast<double>(in + batch + 2));
          const Tensor live_only = have.dw.clone();
          Tensor zeroed = have.dw.clone();
          zero_pruned(zeroed, w.mask(), "test");
          EXPECT_TRUE(equal(zeroed, live_only));
          expect_near(have.db, dense.db, static_cast<double>(in + batch + 2));
        }
}

TEST(SparseTraining, FollowsValuesAndMasks) {
  Parameter w = masked_weight({30, 40}, 0.2, 1);
  const Parameter b(Tensor::zeros({30}), "b");
  const Tensor x = Rng(2).normal({9, 40});
  const SparseTraining sparse(list_of(w, b), all);
  const auto same_as_dense = [&] {
    const Step have = step(w, b, x, Activation::relu);
    const Parameter copy(w);  // its value is not one of those chosen
    const Step dense = step(copy, b, x, Activation::relu);
    expect_near(have.y, dense.y, 42);
    expect_near(have.dx, dense.dx, 72);
  };
  same_as_dense();
  w.set_value(Rng(7).normal({30, 40}));
  same_as_dense();
  w.ref()->mutable_value().write<float>("test")[0] = w.mask()[0] ? 5.f : 0.f;
  same_as_dense();
  w.set_mask(Mask(Rng(8).bernoulli({1200}, 0.5)));
  w.set_value(Rng(9).normal({30, 40}));
  same_as_dense();
  w.ref()->replace(Rng(10).normal({30, 40}), Mask());  // no mask any more: dense
  same_as_dense();
}

TEST(SparseTraining, DenseGradientsOnDemandAndOnlyWhileItLives) {
  const Parameter w = masked_weight({20, 30}, 0.2, 1), b(Tensor::ones({20}), "b");
  const Tensor x = Rng(2).normal({5, 30});
  const auto zeros = [](const Tensor& t) {
    const std::vector<float> v = t.to_vector<float>();
    return std::count(v.begin(), v.end(), 0.f);
  };
  EXPECT_EQ(zeros(step(w, b, x).dw), 0);
  {
    SparseTraining sparse(list_of(w, b), all);
    EXPECT_EQ(zeros(step(w, b, x).dw), 600 - w.mask().live());
    sparse.dense_gradient(true);
    EXPECT_EQ(zeros(step(w, b, x).dw), 0);
    {
      const SparseTraining inner(ParameterList{}, all);
      EXPECT_EQ(SparseTraining::products_of(w.value()), nullptr);
    }
    EXPECT_NE(SparseTraining::products_of(w.value()), nullptr);
  }
  EXPECT_EQ(SparseTraining::products_of(w.value()), nullptr);
}

TEST(SparseTraining, SameBytesAtAnyThreadCount) {
  const int before = threads();
  const Parameter w = masked_weight({300, 500}, 0.1, 1), b(Tensor::zeros({300}), "b");
  const Tensor x = Rng(2).normal({100, 500});
  const SparseTraining sparse(list_of(w, b), all);
  set_threads(1);
  const Step one = step(w, b, x);
  for (const int n : {2, 4}) {
    set_threads(n);
    const Step have = step(w, b, x);
    EXPECT_TRUE(equal(have.y, one.y));
    EXPECT_TRUE(equal(have.dx, one.dx));
    EXPECT_TRUE(equal(have.dw, one.dw));
  }
  set_threads(before);
}

TEST(SparseTraining, SecondGradientsAreThoseOfDenseProducts) {
  const Parameter w = masked_weight({6, 8}, 0.5, 1), b(Tensor::zeros({6}), "b");
  const Tensor x = Rng(2).normal({3, 8});
  const auto second = [&] {
    Tape tape;
    const Variable in = tape.watch(x);
    const Variable first = tape.gradient(sum(square(square(linear(in, w, b)))), {in}, {.create_graph = true})[0];
    return tape.gradient(sum(square(first)), {in})[0].value();
  };
  const Tensor dense = second();
  const SparseTraining sparse(list_of(w, b), all);
  EXPECT_TRUE(allclose(second(), dense, 1e-4, 1e-3));
}

TEST(SparseTraining, MeasuresWhatHasAMaskAndRefusesNoBatch) {
  const Parameter w = masked_weight({256, 256}, 0.01, 1), full = masked_weight({256, 256}, 0.99, 2);
  const Parameter plain(Tensor::ones({9, 9}), "plain");
  const SparseTraining sparse({{"thin", w.ref()}, {"full", full.ref()}, {"plain", plain.ref()}});
  for (const std::string& name : sparse.chosen()) EXPECT_NE(name, "plain");  // of the others, by what else runs
  EXPECT_EQ(SparseTraining::products_of(plain.value()), nullptr);
  EXPECT_THROW(SparseTraining(ParameterList{}, {.batch = 0}), ConfigError);
}

}  // namespace
}  // namespace espalier
