// The texts of errors of reductions, scans, orders, views and joins, word for word.
#include <gtest/gtest.h>

#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/scan.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/autograd/ops/sort.h"
#include "tests/messages/message.h"

namespace espalier {
namespace {

using testing::expect_texts;
using testing::Message;

Tensor zeros(const Shape& shape) { return Tensor::zeros(shape); }

TEST(ShapesMessages, AreTheseTexts) {
  const Message messages[] = {
      {"the largest of nothing",
       [] {
         amax(zeros({2, 0}), {-1});
       },
       "[amax] axes [1] of shape [2, 0] hold no elements, and there is no largest or smallest of nothing. Hint: check "
       "size() first"},
      {"a norm that is none", [] { norm(zeros({3}), -1); },
       "[norm] p must be at least 0, or -inf, got -1. Hint: 1, 2 and infinity are the usual ones"},
      {"an axis that is not there",
       [] {
         logsumexp(zeros({2, 3}), {2});
       },
       "[logsumexp] axis 2 is outside [-2, 1]"},
      {"an axis twice",
       [] {
         var(zeros({2, 3}), {0, -2});
       },
       "[var] axis -2 is named twice in [0, -2]"},
      {"scans of two shapes",
       [] {
         linear_scan(zeros({2, 3}), zeros({2, 1}), 0);
       },
       "[linear_scan] factors [2, 3] and terms [2, 1] must have one shape. Hint: broadcast_to() one"},
      {"more than there are",
       [] {
         topk(zeros({2, 3}), 4);
       },
       "[topk] k = 4 on axis 1 of shape [2, 3]; it must be from 0 to 3"},
      {"the middle of nothing",
       [] {
         median(zeros({2, 0}));
       },
       "[median] axis -1 of shape [2, 0] is empty: there is no middle"},
      {"pieces that do not fit",
       [] {
         cat({zeros({2, 3}), zeros({2, 4})});
       },
       "[cat] tensor 1 of shape [2, 4] does not fit [2, 3] along axis 0. Hint: all other axes must be equal"},
      {"pieces of two shapes",
       [] {
         stack({zeros({2}), zeros({3})});
       },
       "[stack] tensor 1 of shape [3] differs from the first, [2]. Hint: cat() joins along an axis that is there "
       "already"},
      {"sizes that do not add up",
       [] {
         split(zeros({2, 6}), std::vector<Index>{1, 3}, 1);
       },
       "[split] sizes {1, 3} do not add up to axis 1 of shape [2, 6]. Hint: one number instead of a list gives equal "
       "pieces"},
      {"pieces of nothing", [] { split(zeros({4}), 0); },
       "[split] pieces must have at least one element, got 0 for shape [4]"},
      {"an odd number of pads",
       [] {
         pad(zeros({2, 3}), {1});
       },
       "[pad] 1 pads for shape [2, 3]; they are pairs (before, behind), from the last axis on. Hint: {left, right, "
       "top, "
       "bottom}"},
      {"a mirror too small",
       [] {
         pad(zeros({2, 3}), {3, 0}, PadMode::reflect);
       },
       "[pad] reflecting 3 elements needs an axis longer than that; axis 1 of shape [2, 3] is not. Hint: "
       "PadMode::replicate"},
      {"round more than once",
       [] {
         pad(zeros({2, 3}), {4, 0}, PadMode::circular);
       },
       "[pad] going round by 4 elements needs an axis at least as long; axis 1 of shape [2, 3] is not. Hint: repeat() "
       "it"},
      {"too few repeats",
       [] {
         repeat(zeros({2, 3}), {2});
       },
       "[repeat] [2] has fewer numbers than shape [2, 3] axes. Hint: 1 keeps an axis"},
      {"a length to keep that is not there",
       [] {
         expand(zeros({3}), {-1, 3});
       },
       "[expand] [3] cannot become [-1, 3]. Hint: -1 keeps an axis that is there"},
      {"a step backwards", [] { slice(zeros({3}), 0, 2, 0, -1); }, "[slice] the step must be at least 1, got -1"},
      {"an element that is not there", [] { select(zeros({3}), 0, 3); }, "[select] index 3 on axis 0 of shape [3]"},
  };
  expect_texts(messages);
}

}  // namespace
}  // namespace espalier
