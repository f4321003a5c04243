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

