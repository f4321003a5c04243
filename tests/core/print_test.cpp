// Printing: the strings are worked out by hand.
#include <gtest/gtest.h>

#include <limits>
#include <sstream>

#include "espalier/core/tensor.h"

namespace espalier {
namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

TEST(Print, ScalarsAndVectors) {
  EXPECT_EQ(Tensor::scalar(3).to_string(), "tensor(3., shape [], f32)");
  EXPECT_EQ(Tensor::arange(0, 3).to_string(), "tensor([0., 1., 2.], shape [3], f32)");
  EXPECT_EQ(Tensor::from({Index{1}, Index{-20}}).to_string(), "tensor([  1, -20], shape [2], i64)");
  EXPECT_EQ(Tensor::from({true, false}).to_string(), "tensor([ true, false], shape [2], bool)");
  EXPECT_EQ(Tensor::from({0.5, 123.456}).to_string(), "tensor([  0.5, 123.5], shape [2], f64)");
  EXPECT_EQ(Tensor::from({1e-7, 2.5e10}).to_string(), "tensor([  1e-07, 2.5e+10], shape [2], f64)");
  std::ostringstream out;
  out << Tensor::scalar(7, DType::u8);
  EXPECT_EQ(out.str(), "tensor(7, shape [], u8)");
}

TEST(Print, RowsAreAligned) {
  EXPECT_EQ(Tensor::arange(8, 12).reshape({2, 2}).to_string(),
            "tensor([[ 8.,  9.],\n"
            "        [10., 11.]], shape [2, 2], f32)");
  EXPECT_EQ(Tensor::arange(0, 8).reshape({2, 2, 2}).to_string(),
            "tensor([[[0., 1.],\n"
            "         [2., 3.]],\n"
            "\n"
            "        [[4., 5.],\n"
            "         [6., 7.]]], shape [2, 2, 2], f32)");
}

TEST(Print, ViewsPrintWhatTheyShow) {
  EXPECT_EQ(Tensor::arange(0, 4).reshape({2, 2}).t().to_string(),
            "tensor([[0., 2.],\n"
            "        [1., 3.]], shape [2, 2], f32)");
  EXPECT_EQ(Tensor::scalar(2).broadcast_to({3}).to_string(), "tensor([2., 2., 2.], shape [3], f32)");
}

TEST(Print, NonFiniteValuesAndNegativeZero) {
  EXPECT_EQ(Tensor::from({nan, -nan, inf, -inf, -0.0}).to_string(),
            "tensor([ nan,  nan,  inf, -inf,  -0.], shape [5], f64)");
}

TEST(Print, WholeNumbersBeyondDoubleStayExact) {
  EXPECT_EQ(Tensor::from({std::numeric_limits<Index>::max(), Index{9007199254740993}}).to_string(),
            "tensor([9223372036854775807,    9007199254740993], shape [2], i64)");
}

TEST(Print, MoreThanAThousandElementsAreCutToTheEnds) {
  EXPECT_EQ(Tensor::arange(0, 1001).to_string(),
            "tensor([   0.,    1.,    2., ...,  998.,  999., 1000.], shape [1001], f32)");
  EXPECT_EQ(Tensor::arange(0, 1000).to_string().find("..."), std::string::npos);
  EXPECT_EQ(Tensor::zeros({600, 2}).to_string(),
            "tensor([[0., 0.],\n"
            "        [0., 0.],\n"
            "        [0., 0.],\n"
            "        ...,\n"
            "        [0., 0.],\n"
            "        [0., 0.],\n"
            "        [0., 0.]], shape [600, 2], f32)");
  EXPECT_EQ(Tensor::zeros({2, 600}).to_string(),
            "tensor([[0., 0., 0., ..., 0., 0., 0.],\n"
            "        [0., 0., 0., ..., 0., 0., 0.]], shape [2, 600], f32)");
}

TEST(Print, EmptyTensorsPrintAtOnceHoweverLongTheirOtherAxes) {
  EXPECT_EQ(Tensor::zeros({0}).to_string(), "tensor([], shape [0], f32)");
  EXPECT_EQ(Tensor::zeros({2, 0}).to_string(), "tensor([], shape [2, 0], f32)");
  EXPECT_EQ(Tensor::zeros({std::numeric_limits<Index>::max(), 0}).to_string(),
            "tensor([], shape [9223372036854775807, 0], f32)");
}

TEST(Print, UndefinedTensorsPrint) { EXPECT_EQ(Tensor().to_string(), "tensor(undefined)"); }

}  // namespace
}  // namespace espalier
