// Texts of errors of elementwise ops, word for word.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/core/compare.h"
#include "espalier/nn/activation.h"
#include "tests/messages/message.h"

namespace espalier {
namespace {

using testing::Message;

std::vector<Message> messages() {
  const Variable x(Tensor::zeros({2, 3})), y(Tensor::zeros({4}));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  return {
      {"shapes that do not broadcast", [=] { add(x, y); },
       "[add] shapes do not broadcast: a [2, 3], b [4]; counted from the last, each pair of lengths must be equal or "
       "one "
       "of them 1"},
      {"element types", [=] { mul(x, y.value().to(DType::f64)); },
       "[mul] element types differ: f32 and f64, of shapes [2, 3] and [4]. Hint: .to(DType::f32)"},
      {"integers", [=] { exp(Tensor::zeros({2}, DType::i64)); },
       "[exp] needs f32 or f64, got i64. Hint: .to(DType::f32)"},
      {"a NaN bound", [=] { clamp(x, nan, 1); }, "[clamp] a bound is NaN: nan and 1"},
      {"no bounds", [=] { clamp(x, Variable(), Variable()); },
       "[clamp] both bounds are undefined: there is nothing to do"},
      {"bounds of hardtanh", [=] { hardtanh(x, 2, 1); }, "[hardtanh] the bounds must be in order, got 2 and 1"},
      {"beta", [=] { softplus(x, 0); }, "[softplus] beta must be above 0, got 0"},
      {"alpha", [=] { celu(x, 0); }, "[celu] alpha must not be 0, got 0"},
      {"lambda", [=] { hardshrink(x, -1); }, "[hardshrink] lambda must not be negative, got -1"},
      {"lambda of softshrink", [=] { softshrink(x, nan); }, "[softshrink] lambda must not be negative, got nan"},
      {"an odd axis", [=] { glu(x); }, "[glu] axis -1 of [2, 3] is of odd length: it cannot be halved"},
      {"slopes", [=] { prelu(x, y); },
       "[prelu] the slopes [4] do not fit x [2, 3], which has 3 channels. Hint: one slope [1], or one for each channel "
       "(axis 1)"},
      {"a condition of numbers", [=] { where(x.value(), x, x); },
       "[where] the condition must be bool, got f32 [2, 3]. Hint: gt(x, 0), or .to(DType::boolean)"},
      {"a mask of numbers", [=] { masked_fill(x, y.value(), 0); },
       "[masked_fill] the mask must be bool, got f32 [4]. Hint: ne(mask, 0), or .to(DType::boolean)"},
      {"in a layer",
       [=] {
         nn::PRelu layer(5);
         layer(x);
       },
       "[prelu] the slopes [5] do not fit x [2, 3], which has 3 channels. Hint: one slope [1], or one for each channel "
       "(axis 1)"},
  };
}

TEST(ElementwiseMessages, SayWhatIsWrong) { testing::expect_texts(messages()); }

}  // namespace
}  // namespace espalier
