#include "espalier/train/metrics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace espalier::train {
namespace {

TEST(Accuracy, CountsRowsWhoseLargestLogitIsAtTheLabel) {
  const Tensor logits = Tensor::from({1.f, 2.f, 3.f, 1.f, 0.f, 0.f}, {3, 2});
  EXPECT_DOUBLE_EQ(accuracy(logits, Tensor::from({Index{1}, Index{1}, Index{0}})), 2.0 / 3);  // the tie goes to class 0
  EXPECT_DOUBLE_EQ(accuracy(logits.to(DType::f64), Tensor::from({Index{0}, Index{1}, Index{1}})), 0.0);
}

TEST(Accuracy, OfNoRowsIsNotANumberAndShapesMustFit) {
  EXPECT_TRUE(std::isnan(accuracy(Tensor::zeros({0, 3}), Tensor::zeros({0}, DType::i64))));
  EXPECT_THROW(accuracy(Tensor::zeros({2, 3}), Tensor::zeros({3}, DType::i64)), ShapeError);
  EXPECT_THROW(accuracy(Tensor::zeros({2, 3}), Tensor::zeros({2})), DTypeError);
}

TEST(MedianLatencies, CallsEachFunctionInEveryRound) {
  int first = 0, second = 0;
  const std::vector<std::function<void()>> calls{[&] { ++first; }, [&] { ++second; }};
  const std::vector<double> us = median_latencies(calls, 5, 1);
  ASSERT_EQ(us.size(), 2u);
  EXPECT_GT(us[0], 0);
  EXPECT_GE(first, 5);
  EXPECT_GE(second, 5);
}

}  // namespace
}  // namespace espalier::train
