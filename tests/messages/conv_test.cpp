// The error texts of convolutions, pooling, patches and interpolation, word by word.
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/interpolate.h"
#include "espalier/autograd/ops/patches.h"
#include "espalier/autograd/ops/pool.h"
#include "espalier/nn/conv.h"

namespace espalier {
namespace {

struct Message {
  const char* what;
  std::function<void()> call;
  std::string text;
};

void expect_texts(const std::vector<Message>& table) {
  for (const Message& m : table) {
    SCOPED_TRACE(m.what);
    try {
      m.call();
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()), m.text);
    }
  }
}

Variable zeros(const Shape& shape) { return Tensor::zeros(shape); }

TEST(Messages, OfConvolutions) {
  const Variable image = zeros({2, 3, 8, 8}), weight = zeros({4, 3, 3, 3});
  const std::vector<Message> table = {
      {"axes of x",
       [&] {
         conv2d(zeros({8, 8}), weight);
       },
       "[conv2d] x [8, 8] must be [N, C, H, W] or [C, H, W]"},
      {"axes of the weight",
       [&] {
         conv1d(zeros({3, 8}), weight);
       },
       "[conv1d] weight [4, 3, 3, 3] must have 3 axes, for x [3, 8]"},
      {"channels",
       [&] {
         conv2d(image, zeros({4, 5, 3, 3}));
       },
       "[conv2d] x [2, 3, 8, 8] has 3 channels, weight [4, 5, 3, 3] with groups 1 takes 5. Hint: weight is [out, in / "
       "groups, kernel ...]"},
      {"groups",
       [&] {
         conv2d(image, zeros({4, 1, 3, 3}), {}, {.groups = 3});
       },
       "[conv2d] the first axis of weight [4, 1, 3, 3] must be a multiple of groups 3"},
      {"bias", [&] { conv2d(image, weight, zeros({3})); }, "[conv2d] bias [3] for weight [4, 3, 3, 3]; it must be [4]"},
      {"kernel too large",
       [&] {
         conv2d(image, zeros({4, 3, 9, 3}));
       },
       "[conv2d] the kernel of weight [4, 3, 9, 3] with dilation [1, 1] reaches further than x [2, 3, 8, 8] with "
       "padding "
       "[0, 0]. Hint: a smaller kernel, or more padding"},
      {"empty kernel",
       [&] {
         conv2d(image, zeros({4, 3, 0, 3}));
       },
       "[conv2d] weight [4, 3, 0, 3] has an empty kernel"},
      {"stride", [&] { conv2d(image, weight, {}, {.stride = 0}); },
       "[conv2d] stride, dilation and groups must be at least 1, got stride [0, 0], dilation [1, 1], groups 1"},
      {"padding",
       [&] {
         conv2d(image, weight, {}, {.padding = {1, -1}});
       },
       "[conv2d] padding must not be negative, got [1, -1]. Hint: slice x instead"},
      {"named padding", [&] { conv2d(image, weight, {}, {.padding = "full"}); },
       "[conv2d] padding \"full\" is neither \"same\" nor \"valid\""},
      {"same with a stride", [&] { conv2d(image, weight, {}, {.stride = 2, .padding = "same"}); },
       "[conv2d] padding \"same\" needs stride 1, got [2, 2]. Hint: give the padding as a number"},
      {"channels, transposed", [&] { conv_transpose2d(image, weight); },
       "[conv_transpose2d] x [2, 3, 8, 8] has 3 channels, weight [4, 3, 3, 3] with groups 1 takes 4. Hint: weight is "
       "[in, out / groups, kernel ...]"},
      {"output padding",
       [&] {
         conv_transpose2d(image, zeros({3, 4, 3, 3}), {}, {.output_padding = 1});
       },
       "[conv_transpose2d] output_padding [1, 1] must be less than stride [1, 1] or dilation [1, 1]"},
      {"beyond an Index", [&] { conv2d(image, weight, {}, {.dilation = Index{1} << 62}); },
       "[conv2d] kernel size, stride, padding and dilation must be at most 2^30, got 4611686018427387904"},
      {"nothing left",
       [&] {
         conv_transpose1d(zeros({1, 3, 1}), zeros({3, 4, 1}), {}, {.padding = 1});
       },
       "[conv_transpose1d] nothing is left of x [1, 3, 1] with weight [3, 4, 1] after padding [0, 1] is taken off. "
       "Hint: "
       "less padding"},
      {"layer",
       [] {
         Rng rng(1);
         nn::Conv2d(rng, 3, 4, 3, {.groups = 2});
       },
       "[Conv2d] in 3 and out 4 must be positive multiples of groups 2"},
  };
  expect_texts(table);
}

TEST(Messages, OfPoolingPatchesAndInterpolation) {
  const Variable image = zeros({2, 3, 8, 8});
  const std::vector<Message> table = {
      {"axes",
       [] {
         max_pool2d(zeros({8, 8}), 2);
       },
       "[max_pool2d] x [8, 8] must be [N, C, H, W] or [C, H, W]"},
      {"empty",
       [] {
         avg_pool1d(zeros({2, 3, 0}), 2);
       },
       "[avg_pool1d] x [2, 3, 0] has nothing to pool over"},
      {"kernel", [&] { max_pool2d(image, 0); },
       "[max_pool2d] kernel_size, stride and dilation must be at least 1, got [0, 0], [0, 0] and [1, 1]"},
      {"padding", [&] { avg_pool2d(image, 2, {.padding = 2}); },
       "[avg_pool2d] padding [2, 2] must be at most half of kernel_size [2, 2], so that no window sees nothing but "
       "padding"},
      {"too large", [&] { max_pool2d(image, 9); },
       "[max_pool2d] windows of [9, 9] with dilation [1, 1] reach further than x [2, 3, 8, 8] with padding [0, 0]. "
       "Hint: "
       "a smaller kernel_size, or adaptive pooling"},
      {"padding alone",
       [] {
         max_pool1d(zeros({1, 1, 1}), 2, {.padding = 1, .dilation = 2});
       },
       "[max_pool1d] window 0 over x [1, 1, 1] sees nothing but padding [0, 1]. Hint: less padding or dilation"},
      {"beyond an Index",
       [] {
         max_pool1d(zeros({1, 1, 1}), 2, {.dilation = Index{1} << 62});
       },
       "[max_pool1d] kernel size, stride, padding and dilation must be at most 2^30, got 4611686018427387904"},
      {"patches beyond an Index", [&] { unfold(image, 2, {.padding = Index{1} << 31}); },
       "[unfold] kernel size, stride, padding and dilation must be at most 2^30, got 2147483648"},
      {"adaptive",
       [&] {
         adaptive_avg_pool2d(image, {2, 0});
       },
       "[adaptive_avg_pool2d] output_size must be at least 1, got [2, 0]"},
      {"unfold", [&] { unfold(image, 9); },
       "[unfold] windows of [9, 9] with dilation [1, 1] reach further than images of [8, 8] with padding [0, 0]. Hint: "
       "a "
       "smaller kernel_size"},
      {"fold",
       [] {
         fold(zeros({1, 5, 4}), 3, 2);
       },
       "[fold] columns [1, 5, 4] must have a multiple of 4 rows and 4 columns, the windows of [2, 2] in images of [3, "
       "3]"},
      {"size", [&] { interpolate(image, {4}); },
       "[interpolate] size [4] for x [2, 3, 8, 8] must name the 2 axes behind the first two"},
      {"no length",
       [&] {
         interpolate(image, {4, 0});
       },
       "[interpolate] x [2, 3, 8, 8] cannot become [4, 0]; no length may be 0"},
      {"scale", [&] { interpolate_by(image, -1); }, "[interpolate] scale must be positive and finite, got -1"},
      {"few axes", [] { interpolate(zeros({4}), {8}); }, "[interpolate] x [4] must be [N, C, ...]"},
  };
  expect_texts(table);
}

}  // namespace
}  // namespace espalier
