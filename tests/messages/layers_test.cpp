// The texts of errors of layers and of the losses over them, word for word.
#include <gtest/gtest.h>

#include "espalier/core/rng.h"
#include "espalier/nn/attention.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/norm.h"
#include "tests/messages/message.h"

namespace espalier::nn {
namespace {

using espalier::testing::expect_texts;
using espalier::testing::Message;

Tensor zeros(const Shape& shape, DType type = DType::f32) { return Tensor::zeros(shape, type); }

TEST(Messages, OfLayersOnWhatTheyDoNotTake) {
  Rng rng(1);
  const Message messages[] = {
      {"channels of a grouped convolution",
       [&] {
         Conv2d(rng, 8, 8, 3, {.groups = 8})(zeros({1, 4, 5, 5}));
       },
       "[conv2d] x [1, 4, 5, 5] has 4 channels, weight [8, 1, 3, 3] with groups 8 takes 8. Hint: weight is [out, in / "
       "groups, kernel ...]"},
      {"two paddings for one axis",
       [&] {
         Conv1d(rng, 2, 2, 3, {.padding = {1, 2}})(zeros({1, 2, 5}));
       },
       "[conv1d] padding [1, 2] is a pair, of the two axes of an image; a sequence has one. Hint: padding = 2, or "
       "pad(x, {1, 2}) for ends that differ"},
      {"integers into a layer",
       [&] {
         Linear(rng, 2, 3)(zeros({4, 2}, DType::i64));
       },
       "[linear] element types differ: i64 and f32, of shapes [4, 2] and [3, 2]. Hint: .to(DType::f32)"},
      {"another width, without weights",
       [] {
         LayerNorm(4, {.affine = false})(zeros({2, 5}));
       },
       "[layer_norm] the last axes of x [2, 5] are not the normalized shape [4]. Hint: normalisation is over the last "
       "axes of x"},
      {"the same of RMS",
       [] {
         RmsNorm(4, {.affine = false})(zeros({2, 5}));
       },
       "[rms_norm] the last axes of x [2, 5] are not the normalized shape [4]. Hint: normalisation is over the last "
       "axes of x"},
  };
  expect_texts(messages);
}

TEST(Messages, OfAttentionLayers) {
  Rng rng(1);
  const MultiheadAttention layer(rng, 8, 4);
  MultiheadAttention wide = layer;
  wide.to(DType::f64);
  KvCache cache;
  layer(zeros({1, 3, 8}), cache);
  const Message messages[] = {
      {"a mask of each sample, three axes",
       [&] {
         layer(zeros({2, 3, 8}), {.attn_mask = zeros({2, 3, 3}, DType::boolean)});
       },
       "[MultiheadAttention] attn_mask [2, 3, 3] must be [L, S], [N, 1, L, S] with a mask of each sample, [1, H, L, S] "
       "with one of each head, or [N * H, L, S], here N = 2, H = 4, L = 3, S = 3. Hint: mask.unsqueeze(1) for one of "
       "each sample; keys to hide from all queries go to key_padding_mask [N, S]"},
      {"keys that have none", [] { KvCache().keys(); },
       "[KvCache] is empty, and what shape its keys and values will have is not known yet. Hint: ask length() first"},
      {"a cache of another type",
       [&] {
         wide(zeros({1, 1, 8}, DType::f64), cache);
       },
       "[KvCache] keys and values are f64, and those before them f32. Hint: begin a new sequence with a new cache"},
  };
  expect_texts(messages);
}

TEST(Messages, OfLosses) {
  const Tensor logits = zeros({2, 3});
  const Message messages[] = {
      {"small labels", [&] { cross_entropy(logits, zeros({2}, DType::i32)); },
       "[cross_entropy] labels must be i64, got i32 of shape [2]. Hint: .to(DType::i64)"},
      {"labels of the numbers' type", [&] { nll_loss(logits, zeros({2})); },
       "[nll_loss] labels must be i64, got f32 of shape [2]. Hint: .to(DType::i64)"},
      {"labels of a margin", [&] { multi_margin_loss(logits, zeros({2}, DType::u8)); },
       "[multi_margin_loss] labels must be i64, got u8 of shape [2]. Hint: .to(DType::i64)"},
      {"too many labels", [&] { nll_loss(logits, zeros({3}, DType::i64)); },
       "[nll_loss] labels [3] for logits [2, 3]; they must be [2]"},
      {"a positive of another shape",
       [&] {
         triplet_margin_loss(logits, zeros({2, 4}), logits);
       },
       "[triplet_margin_loss] shapes differ: anchor [2, 3], positive [2, 4]. Hint: reshape() one"},
      {"a negative of another shape", [&] { triplet_margin_loss(logits, logits, zeros({2})); },
       "[triplet_margin_loss] shapes differ: anchor [2, 3], negative [2]. Hint: reshape() one"},
      {"ranks of two shapes", [&] { margin_ranking_loss(logits, zeros({2}), logits); },
       "[margin_ranking_loss] shapes differ: a [2, 3], b [2]. Hint: reshape() one"},
      {"what is no probability",
       [] {
         binary_cross_entropy(Tensor::from({0.5f, 1.5f}), Tensor::from({1.0f, 1.0f}));
       },
       "[probability_cross_entropy] a probability is 1.5, outside [0, 1]. Hint: binary_cross_entropy_with_logits() "
       "takes "
       "logits"},
  };
  expect_texts(messages);
}

}  // namespace
}  // namespace espalier::nn
