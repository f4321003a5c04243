// Reductions where the op table does not look: the ends of the range, scalars, exactness.
#include "espalier/autograd/ops/reduce.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/index.h"
#include "espalier/autograd/ops/scan.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/autograd/ops/sort.h"
#include "espalier/core/compare.h"
#include "tests/support.h"

namespace espalier {
namespace {

TEST(Reductions, TheMeanOfEqualNumbersIsThatNumber) {
  for (Index n = 1; n < 200; ++n) {
    ASSERT_EQ(mean(Tensor::ones({n}, DType::f64)).item(), 1) << n;
    ASSERT_EQ(mean(Tensor::ones({n}, DType::f32)).item(), 1) << n;
  }
  EXPECT_TRUE(std::isnan(mean(Tensor::ones({0})).item()));
}

TEST(Reductions, TheRootOfAVarianceBeyondTheRangeIsWithinIt) {
  for (const double size : {1e25, 1e-23}) {
    const double expected = std::sqrt(2.) * size;
    for (const Shape& shape : {Shape{2}, Shape{2, 1}, Shape{2, 40}, Shape{40, 2}}) {
      const int axis = shape[0] == 2 ? 0 : 1;
      Tensor x = Tensor::full(shape, size, DType::f32);
      x.narrow(axis, 1, 1).fill(-size);
      Tape tape;
      const Variable v = tape.watch(x);
      const Variable y = stddev(v, {axis});
      const Tensor dx = tape.gradient(sum(y), {v})[0].value();
      for (const float s : y.value().to_vector<float>()) EXPECT_NEAR(s / expected, 1, 1e-6) << shape;
      for (const float d : dx.to_vector<float>()) EXPECT_NEAR(std::abs(d), std::sqrt(0.5), 1e-6) << shape;
    }
  }
}

TEST(Reductions, AScalarCountsAsOneAxis) {
  const Tensor s = Tensor::scalar(2, DType::f64), place = Tensor::from<Index>({0}).reshape({}),
               list = Tensor::from<Index>({0});
  using V = const Variable&;
  using Call = Variable (*)(V, int);
  struct Case {
    const char* name;
    Call call;
    double value;
  };
  const std::vector<Case> cases = {
      {"sum", [](V x, int a) { return sum(x, {a}); }, 2},
      {"mean", [](V x, int a) { return mean(x, {a}); }, 2},
      {"prod", [](V x, int a) { return prod(x, {a}); }, 2},
      {"var", [](V x, int a) { return var(x, {a}, false); }, 0},
      {"stddev", [](V x, int a) { return stddev(x, {a}, false); }, 0},
      {"amax", [](V x, int a) { return amax(x, {a}); }, 2},
      {"amin", [](V x, int a) { return amin(x, {a}, true); }, 2},
      {"logsumexp", [](V x, int a) { return logsumexp(x, {a}); }, 2},
      {"norm", [](V x, int a) { return norm(x, 2, {a}); }, 2},
      {"normalize", [](V x, int a) { return normalize(x, 2, a); }, 1},
      {"cosine_similarity", [](V x, int a) { return cosine_similarity(x, x, a); }, 1},
      {"max_along", [](V x, int a) { return max_along(x, a).values; }, 2},
      {"softmax", [](V x, int a) { return softmax(x, a); }, 1},
      {"log_softmax", [](V x, int a) { return log_softmax(x, a); }, 0},
      {"cumsum", [](V x, int a) { return cumsum(x, a); }, 2},
      {"cumprod", [](V x, int a) { return cumprod(x, a); }, 2},
      {"cummax", [](V x, int a) { return cummax(x, a).values; }, 2},
      {"linear_scan", [](V x, int a) { return linear_scan(x, x, a); }, 2},
      {"sort", [](V x, int a) { return sort(x, a).values; }, 2},
      {"topk", [](V x, int a) { return topk(x, 1, a).values; }, 2},
      {"median", [](V x, int a) { return median(x, a).values; }, 2},
      {"squeeze", [](V x, int a) { return squeeze(x, a); }, 2},
      {"transpose", [](V x, int a) { return transpose(x, a, -1); }, 2},
      {"flip", [](V x, int a) { return flip(x, {a}); }, 2},
      {"movedim", [](V x, int a) { return movedim(x, {a}, {0}); }, 2},
  };
  for (const Case& c : cases) {
    for (const int axis : {0, -1}) {
      Tape tape;
      const Variable x = tape.watch(s), y = c.call(x, axis);
      EXPECT_EQ(y.shape(), Shape{}) << c.name;
      EXPECT_NEAR(y.item(), c.value, 1e-15) << c.name;
      EXPECT_EQ(tape.gradient(y, {x})[0].shape(), Shape{}) << c.name;
    }
    for (const int axis : {1, -2})
      EXPECT_TRUE(testing::throws<IndexError>([&] { c.call(Variable(s), axis); }, "axis")) << c.name << " " << axis;
  }
  for (const int axis : {0, -1}) {
    Tape tape;
    const Variable x = tape.watch(s);
    const std::vector<Variable> picked = {gather(x, axis, place), scatter(x, axis, place, x),
                                          scatter_add(x, axis, place, x), index_select(x, axis, list),
                                          index_add(x, axis, list, x)};
    const std::vector<double> values = {2, 2, 4, 2, 4};
    for (std::size_t k = 0; k < picked.size(); ++k) {
      EXPECT_EQ(picked[k].shape(), Shape{}) << k;
      EXPECT_EQ(picked[k].item(), values[k]) << k;
      EXPECT_EQ(tape.gradient(picked[k], {x}, {.retain = true})[0].item(), values[k] / 2) << k;
    }
    EXPECT_EQ(x.value().flatten(axis, axis).shape(), (Shape{1}));
    EXPECT_TRUE(any(s, {axis}).shape() == Shape{} && all(s, {axis}).shape() == Shape{});
  }
  EXPECT_THROW(s.flatten(1), IndexError);
  EXPECT_THROW(sum(s, {0, -1}), IndexError) << "named twice";
  EXPECT_THROW(gather(s, 1, place), IndexError);
  EXPECT_THROW(gather(s, 0, Tensor::from<Index>({1}).reshape({})), IndexError);
  EXPECT_THROW(s.select(0, 0), IndexError) << "nothing to cut";
}

}  // namespace
}  // namespace espalier
