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

