// What gradients of reductions, views and joins are at the edges, and what they cost.
#include <gtest/gtest.h>

#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/scan.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/autograd/ops/sort.h"

namespace espalier {
namespace {

using Values = std::vector<double>;
constexpr double inf = std::numeric_limits<double>::infinity();

/// d sum(f(x)) / dx
template <class F>
Values slope(const Tensor& x, F f) {
  Tape tape;
  const Variable v = tape.watch(x);
  const Tensor gradient = tape.gradient(sum(f(v)), {v})[0].value();
  return gradient.to_vector<double>();
}

TEST(Gradients, OfProductsWithZeros) {
  const auto product = [](const Variable& v) { return prod(v); };
  EXPECT_EQ(slope(Tensor::from({2., 0., 3.}), product), (Values{0, 6, 0}));
  EXPECT_EQ(slope(Tensor::from({0., 0., 3.}), product), (Values{0, 0, 0}));
  EXPECT_EQ(slope(Tensor::from({2., 0., 3.}), [](const Variable& v) { return cumprod(v, 0); }), (Values{1, 8, 0}));
  // Second order through the zero: d/dx (dy/dx_1) of x_0 x_1 x_2.
  Tape tape;
  const Variable x = tape.watch(Tensor::from({2., 0., 3.}));
  const Variable g = tape.gradient(prod(x), {x}, {.create_graph = true})[0];
  EXPECT_EQ(tape.gradient(select(g, 0, 1), {x})[0].value().to_vector<double>(), (Values{3, 0, 2}));
}

TEST(Gradients, AtZeroNorms) {
  const Tensor zero = Tensor::zeros({3}, DType::f64);
  for (const double p : {0., 0.5, 1., 1.5, 2., 3., inf, -inf})
    EXPECT_EQ(slope(zero, [p](const Variable& v) { return norm(v, p); }), (Values{0, 0, 0})) << p;
  EXPECT_EQ(slope(Tensor::ones({3}, DType::f64), [](const Variable& v) { return stddev(v); }), (Values{0, 0, 0}));
  EXPECT_EQ(slope(zero, [](const Variable& v) { return normalize(v, 2, 0); }), (Values{1e12, 1e12, 1e12}));
}

TEST(Gradients, OfTies) {
  const Tensor x = Tensor::from({4., 1., 4., 1.});
  EXPECT_EQ(slope(x, [](const Variable& v) { return max(v); }), (Values{0.5, 0, 0.5, 0}));
  EXPECT_EQ(slope(x, [](const Variable& v) { return min(v); }), (Values{0, 0.5, 0, 0.5}));
  EXPECT_EQ(slope(x, [](const Variable& v) { return max_along(v, 0).values; }), (Values{1, 0, 0, 0}));
  EXPECT_EQ(slope(x, [](const Variable& v) { return cummax(v, 0).values; }), (Values{2, 0, 2, 0}));
  EXPECT_EQ(slope(Tensor::from({-4., 1., -4., 1.}), [](const Variable& v) { return norm(v, inf); }),
            (Values{-0.5, 0, -0.5, 0}));
  EXPECT_EQ(slope(x, [](const Variable& v) { return topk(v, 1).values; }), (Values{1, 0, 0, 0}));
}

TEST(Joins, TakenApartInOneNode) {
  Tape tape;
  const Variable x = tape.watch(Tensor::arange(0, 12, 1, DType::f64).reshape({6, 2}));
  const std::size_t before = tape.size();
  const std::vector<Variable> pieces = split(x, 2), rows = unbind(x);
  EXPECT_EQ(tape.size(), before + 2);
  EXPECT_TRUE(pieces[1].value().shares_storage(x.value()));
  EXPECT_TRUE(rows[5].value().shares_storage(x.value()));
  const Variable loss = sum(pieces[1]) + sum(square(rows[2]));  // the others get no gradient
  EXPECT_EQ(tape.gradient(loss, {x})[0].value().to_vector<double>(), (Values{0, 0, 0, 0, 9, 11, 1, 1, 0, 0, 0, 0}));
}

TEST(Joins, GradientOfCatIsNotCopied) {
  Tape tape;
  const Variable a = tape.watch(Tensor::ones({2, 3}, DType::f64)), b = tape.watch(Tensor::ones({4, 3}, DType::f64)),
                 nothing = tape.watch(Tensor::zeros({0}, DType::f64));
  const Variable y = cat({a, nothing, b}), g(Tensor::ones({6, 3}, DType::f64));
  const std::vector<Variable> gradients = tape.gradient({&y, 1}, {&g, 1}, std::vector<Variable>{a, nothing, b});
  EXPECT_TRUE(gradients[0].value().shares_storage(g.value()));
  EXPECT_EQ(gradients[1].shape(), Shape({0}));
  EXPECT_EQ(gradients[2].shape(), Shape({4, 3}));
}

TEST(Joins, ChunksAreCountedAsPyTorchDoes) {
  const Variable x(Tensor::zeros({2, 5}));
  EXPECT_EQ(chunk(x, 4, 1).size(), 3u);
  EXPECT_EQ(chunk(x, 9, 1).size(), 5u);
  EXPECT_EQ(chunk(Tensor::zeros({0, 3}), 3).size(), 3u);
  EXPECT_EQ(split(Tensor::zeros({0, 3}), 2).size(), 1u);
  EXPECT_EQ(unbind(Tensor::zeros({0, 3})).size(), 0u);
}

TEST(Views, ShareStorageAndLeaveNothingBehind) {
  const Variable x(Tensor::zeros({4, 1, 6}));
  for (const Variable& y : {squeeze(x, 1), unsqueeze(x, 0), slice(x, 2, 1, 5, 2), narrow(x, 0, 1, 2), select(x, 0, -1),
                            diagonal(x, 0, 0, 2), expand(x, {2, 4, 3, 6}), movedim(x, {0, 2}, {2, 0})})
    EXPECT_TRUE(y.value().shares_storage(x.value())) << y.shape();
  EXPECT_EQ(movedim(x, {0, 2}, {2, 0}).shape(), Shape({6, 1, 4}));
}

}  // namespace
}  // namespace espalier
