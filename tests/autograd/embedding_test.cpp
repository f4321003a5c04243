// Row-sparse gradients: the same bytes as dense ones, wherever they go.
#include "espalier/autograd/ops/embedding.h"

#include <gtest/gtest.h>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/core/row_sparse.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

Tensor list(std::initializer_list<Index> values) { return Tensor::from(values); }
Tensor table(Index rows = 9, Index n = 4) { return Rng(3).normal({rows, n}); }

/// The gradient after `backwards` passes of f(weight, sparse).
template <class F>
ParameterRef trained(F f, bool sparse, int backwards = 1) {
  Parameter weight(table(), "weight");
  for (int k = 0; k < backwards; ++k) {
    Tape tape;
    tape.backward(f(weight, sparse));
  }
  return weight.ref();
}

Variable squares(const Tensor& index, const Parameter& weight, bool sparse) {
  return sum(square(embedding(index, weight, {.sparse = sparse})));
}

TEST(RowSparseGradient, StoresTheRowsThatWereReadAndIsDenseWhenLookedAt) {
  auto loss = [](const Parameter& w, bool as_rows) { return squares(list({5, 2, 5, 5, 0}), w, as_rows); };
  const ParameterRef dense = trained(loss, false), sparse = trained(loss, true);
  EXPECT_EQ(dense->row_gradient(), nullptr);
  EXPECT_TRUE(sparse->has_grad());
  const RowSparse* rows = sparse->row_gradient();
  ASSERT_NE(rows, nullptr);
  EXPECT_EQ(rows->rows().to_vector<Index>(), (std::vector<Index>{0, 2, 5}));
  EXPECT_EQ(rows->values().shape(), (Shape{3, 4}));
  EXPECT_TRUE(same_bytes(sparse->grad(), dense->grad()));
  EXPECT_EQ(sparse->row_gradient(), nullptr) << "asked for, it is dense";
  EXPECT_TRUE(same_bytes(sparse->mutable_grad(), dense->grad()));
}

TEST(RowSparseGradient, AHugeTableIsNotWritten) {
  Parameter weight(Tensor::zeros({1 << 20, 64}), "weight");  // 256 MB dense
  Tape tape;
  tape.backward(sum(embedding(list({7, 1 << 19, 7}), weight, {.sparse = true})));
  const RowSparse* rows = weight.ref()->row_gradient();
  ASSERT_NE(rows, nullptr);
  EXPECT_EQ(rows->live(), 128);
  EXPECT_EQ(rows->values().at({0, 3}), 2);
}

TEST(RowSparseGradient, AddsUpWithinOneBackwardAndOverSeveral) {
  auto loss = [](const Parameter& w, bool as_rows) {
    return squares(list({1, 3, 1}), w, as_rows) + squares(list({3, 8}), w, as_rows) * 0.5;
  };
  const ParameterRef dense = trained(loss, false, 3), sparse = trained(loss, true, 3);
  ASSERT_NE(sparse->row_gradient(), nullptr);
  EXPECT_EQ(sparse->row_gradient()->rows().to_vector<Index>(), (std::vector<Index>{1, 3, 8}));
  EXPECT_TRUE(allclose(sparse->grad(), dense->grad(), 1e-6, 1e-7));
}

TEST(RowSparseGradient, ATiedLinearMakesItDense) {
  auto loss = [](const Parameter& w, bool as_rows) {
    return sum(square(linear(embedding(list({1, 3, 1}), w, {.sparse = as_rows}), w)));
  };
  const ParameterRef dense = trained(loss, false, 2), sparse = trained(loss, true, 2);
  EXPECT_EQ(sparse->row_gradient(), nullptr);
  EXPECT_TRUE(allclose(sparse->grad(), dense->grad(), 1e-6, 1e-6));
  // And in the other order: dense first, or alone in the first of two passes.
  int pass = 0;
  auto mixed = [&pass](const Parameter& w, bool as_rows) {
    return pass++ % 2 ? squares(list({2, 2, 4}), w, as_rows) : sum(square(linear(Tensor::ones({2, 4}), w)));
  };
  const ParameterRef a = trained(mixed, false, 3);
  pass = 0;
  const ParameterRef b = trained(mixed, true, 3);
  EXPECT_TRUE(allclose(b->grad(), a->grad(), 1e-6, 1e-6));
}

TEST(RowSparseGradient, IsDenseForGradientForCreateGraphAndForWhatIsNoParameter) {
  Parameter weight(table(), "weight");
  {
    Tape tape;
    const Variable leaf = weight;
    const Variable g = tape.gradient(squares(list({4, 4}), weight, true), {leaf})[0];
    EXPECT_EQ(g.value().packed(), nullptr);
    EXPECT_FALSE(weight.ref()->has_grad());
    EXPECT_EQ(g.value().at({4, 1}), 4 * weight.value().at({4, 1}));
  }
  {
    Tape tape;
    const Variable leaf = weight;
    const Variable g = tape.gradient(squares(list({4, 4}), weight, true), {leaf}, {.create_graph = true})[0];
    const Variable second = tape.gradient(sum(square(g)), {leaf})[0];
    EXPECT_NEAR(second.value().at({4, 1}), 2 * 4 * g.value().at({4, 1}), 1e-4);
    EXPECT_EQ(second.value().at({5, 1}), 0);
  }
  Tape tape;
  const Variable doubled = Variable(weight) * 2;
  tape.backward(sum(embedding(list({4, 4}), doubled, {.sparse = true})));
  EXPECT_EQ(weight.ref()->row_gradient(), nullptr);
  EXPECT_EQ(weight.grad().at({4, 0}), 4);
}

TEST(RowSparseGradient, PrunedWeightsHaveNone) {
  auto loss = [](const Parameter& w, bool as_rows) { return squares(list({5, 2, 5}), w, as_rows); };
  for (MaskMode mode : {MaskMode::hard, MaskMode::soft}) {
    const ParameterRef p = trained(loss, true);
    Mask mask(p->value().size());
    for (Index i : {5 * 4 + 1, 2 * 4 + 3, 8}) mask.set(i, false);
    p->set_mask(mask, mode);
    if (mode == MaskMode::soft) {
      EXPECT_NE(p->row_gradient()->values().at({1, 1}), 0) << "in soft mode the gradient belongs to the dense values";
      p->freeze();
    }
    ASSERT_NE(p->row_gradient(), nullptr);
    EXPECT_EQ(p->row_gradient()->values().at({1, 1}), 0);  // row 5
    EXPECT_EQ(p->row_gradient()->values().at({0, 3}), 0);  // row 2
    EXPECT_NE(p->row_gradient()->values().at({1, 2}), 0);
    EXPECT_EQ(p->grad().at({5, 1}), 0);
    EXPECT_EQ(p->grad().at({2, 0}), 0);
  }
}

TEST(RowSparseGradient, OfNothingReadIsZero) {
  auto loss = [](const Parameter& w, bool as_rows) {
    return sum(embedding(Tensor::empty({0, 3}, DType::i64), w, {.sparse = as_rows}));
  };
  const ParameterRef p = trained(loss, true);
  ASSERT_NE(p->row_gradient(), nullptr);
  EXPECT_EQ(p->row_gradient()->live(), 0);
  EXPECT_TRUE(same_bytes(p->grad(), Tensor::zeros({9, 4})));
}

TEST(RowSparseGradient, SameBytesAtAnyThreadCount) {
  Rng rng(8);
  std::vector<Index> words(20000);
  for (Index& w : words) w = rng.below(500);
  const Tensor index = Tensor::from(words, {20000});
  std::vector<Tensor> results;
  for (int threads : {1, 2, 4})
    for (bool sparse : {false, true}) {
      const testing::Threads use(threads);
      Parameter weight(table(500, 24), "weight");
      Tape tape;
      tape.backward(squares(index, weight, sparse));
      results.push_back(weight.grad());
      EXPECT_TRUE(same_bytes(results.back(), results.front())) << threads << " threads, sparse " << sparse;
    }
}

TEST(Embedding, PaddingReadsItsRowButHasNoGradient) {
  for (bool sparse : {false, true}) {
    Parameter weight(table(), "weight");
    Tape tape;
    const Variable y = embedding(list({3, 8, 3}), weight, {.padding_idx = -1, .sparse = sparse});
    EXPECT_EQ(y.value().at({1, 2}), weight.value().at({8, 2}));
    tape.backward(sum(y));
    EXPECT_EQ(weight.grad().at({8, 0}), 0);
    EXPECT_EQ(weight.grad().at({3, 0}), 2);
  }
}

TEST(Embedding, AnIndexListChangedBeforeBackwardIsAnError) {
  Parameter weight(table(), "weight");
  Tensor index = list({1, 2});
  Tape tape;
  const Variable y = sum(embedding(index, weight));
  index.fill(0, "the test");
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(y); }, "embedding", "the test"));
}

}  // namespace
}  // namespace espalier
