// The texts of errors in products with a masked weight of a convolution.
#include "espalier/core/masked_conv.h"

#include <vector>

#include "tests/messages/message.h"

namespace espalier {
namespace {

using testing::expect_texts;
using testing::Message;

/// 3x3, 4 channels to 2, on images of 5x5.
ConvGeometry geometry() { return {1, 1, 4, 2, {5, 5}, {3, 3}, {3, 3}, {1, 1}, {1, 1}, {0, 0}}; }
const std::vector<std::uint64_t> all_live = {~std::uint64_t{0}, 0xff};

MaskedConv products() { return MaskedConv({2, 4, 3, 3}, geometry(), DType::f32, all_live); }
ConvGeometry strided(Index stride) {
  ConvGeometry g = geometry();
  g.stride = {stride, 1};
  return g;
}

TEST(Messages, OfMaskedConvolutions) {
  const Message all[] = {
      {"a mask of another size",
       [] {
         MaskedConv({2, 4, 3, 3}, geometry(), DType::f32, std::span(all_live).first(1));
       },
       "[masked_conv] 1 words of live entries for a weight [2, 4, 3, 3] and a convolution of 1 groups and strides 1 "
       "and "
       "1 with [2, 4, 3, 3]"},
      {"a long stride",
       [] {
         MaskedConv({2, 4, 3, 3}, strided(9), DType::f32, all_live);
       },
       "[masked_conv] 2 words of live entries for a weight [2, 4, 3, 3] and a convolution of 1 groups and strides 9 "
       "and "
       "1 with [2, 4, 3, 3]"},
      {"a weight of another shape",
       [] {
         products().refresh(Tensor::ones({2, 4, 9}));
       },
       "[masked_conv] weight [2, 4, 9] must be [2, 4, 3, 3] and contiguous"},
      {"another stride",
       [] {
         products().conv2d(Tensor::ones({1, 4, 5, 5}), nullptr, strided(2));
       },
       "[masked_conv] products with weight [2, 4, 3, 3] for another convolution than they were made for, with [2, 4, "
       "3, "
       "3]"},
      {"another gradient",
       [] {
         products().input_gradient(Tensor::ones({1, 2, 3, 4}), geometry());
       },
       "[conv2d] g [1, 2, 3, 4] does not fit the geometry, which wants [1, 2, 3, 3]"},
      {"other images",
       [] {
         products().weight_gradient(Tensor::ones({1, 2, 3, 3}), Tensor::ones({1, 4, 6, 5}), geometry());
       },
       "[conv2d] x [1, 4, 6, 5] does not fit the geometry, which wants [1, 4, 5, 5]"},
  };
  expect_texts(all);
}

}  // namespace
}  // namespace espalier
