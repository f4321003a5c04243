// The texts of errors in normalisation and attention, word by word.
#include <gtest/gtest.h>

#include <functional>

#include "espalier/autograd/ops/attention.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/core/rng.h"
#include "espalier/nn/attention.h"
#include "espalier/nn/norm.h"

namespace espalier {
namespace {

struct Pinned {
  const char* what;
  std::function<void()> call;
  const char* text;
};

Tensor ones(const Shape& shape) { return Tensor::ones(shape); }

TEST(Messages, OfNormalisationAndAttention) {
  Rng rng(1);
  const nn::MultiheadAttention attention(rng, 8, 2);
  nn::BatchNorm1d batch_norm_layer(3);
  batch_norm_layer.train();
  nn::KvCache cache;
  cache.append(ones({1, 2, 3, 4}), ones({1, 2, 3, 4}));
  const Pinned all[] = {
      {"layer_norm shape",
       [] {
         layer_norm(ones({2, 5}), {4});
       },
       "[layer_norm] the last axes of x [2, 5] are not the normalized shape [4]. Hint: normalisation is over the last "
       "axes of x"},
      {"layer_norm weight",
       [] {
         layer_norm(ones({2, 4}), {4}, ones({5}));
       },
       "[layer_norm] weight [5] must have the normalized shape [4]"},
      {"rms_norm rank",
       [] {
         rms_norm(ones({4}), {2, 4});
       },
       "[rms_norm] the last axes of x [4] are not the normalized shape [2, 4]. Hint: normalisation is over the last "
       "axes of x"},
      {"group_norm groups",
       [] {
         group_norm(ones({2, 6, 3}), 4);
       },
       "[group_norm] the 6 channels of x [2, 6, 3] do not fall into 4 equal groups"},
      {"instance_norm rank", [] { instance_norm(ones({6})); }, "[instance_norm] x must be [N, C, ...], got [6]"},
      {"batch_norm weight",
       [] {
         batch_norm(ones({2, 6, 3}), ones({5}));
       },
       "[batch_norm] weight [5] for x [2, 6, 3], which has 6 channels"},
      {"batch_norm one value",
       [] {
         batch_norm(ones({1, 6}));
       },
       "[batch_norm] x [1, 6] has one value a channel, whose variance is 0. Hint: train on larger batches, or eval() "
       "the layer"},
      {"batch_norm_inference statistics",
       [] {
         batch_norm_inference(ones({2, 6}), ones({5}), ones({6}));
       },
       "[batch_norm_inference] mean [5] and variance [6] for x [2, 6], which has 6 channels"},
      {"BatchNorm1d axes",
       [&] {
         batch_norm_layer(ones({2, 3, 4, 5}));
       },
       "[BatchNorm1d] x must be [N, C] or [N, C, L], got [2, 3, 4, 5]"},
      {"GroupNorm channels", [] { nn::GroupNorm(4, 6); }, "[GroupNorm] 6 channels do not fall into 4 equal groups"},
      {"attention ranks",
       [] {
         scaled_dot_product_attention(ones({4}), ones({3, 4}), ones({3, 4}));
       },
       "[scaled_dot_product_attention] queries [4], keys [3, 4] and values [3, 4] must be [..., length, width]"},
      {"attention widths",
       [] {
         scaled_dot_product_attention(ones({2, 4}), ones({3, 5}), ones({3, 4}));
       },
       "[scaled_dot_product_attention] queries [2, 4] and keys [3, 5] must be of one width, the last axis"},
      {"attention values",
       [] {
         scaled_dot_product_attention(ones({2, 4}), ones({3, 4}), ones({6, 4}));
       },
       "[scaled_dot_product_attention] 3 keys [3, 4] and 6 values [6, 4]"},
      {"attention mask",
       [] {
         scaled_dot_product_attention(ones({1, 2, 3, 4}), ones({1, 2, 5, 4}), ones({1, 2, 5, 4}), ones({7, 5}));
       },
       "[scaled_dot_product_attention] mask [7, 5] does not broadcast to the scores [1, 2, 3, 5]. Hint: a mask of keys "
       "[N, S] is reshape({N, 1, 1, S})"},
      {"self_attention width",
       [] {
         self_attention(ones({2, 5, 10}), 2);
       },
       "[self_attention] the last axis of x [2, 5, 10] does not hold queries, keys and values of 2 heads of one width: "
       "it must be a multiple of 6"},
      {"MultiheadAttention heads", [&] { nn::MultiheadAttention(rng, 10, 3); },
       "[MultiheadAttention] a width of 10 is not a multiple of 3 heads"},
      {"MultiheadAttention width", [&] { nn::MultiheadAttention(rng, -4, 2); },
       "[MultiheadAttention] a width of -4 is not a multiple of 2 heads"},
      {"MultiheadAttention shapes",
       [&] {
         attention(ones({2, 5, 7}));
       },
       "[MultiheadAttention] query [2, 5, 7], key [2, 5, 7] and value [2, 5, 7] must be [N, L, E], [N, S, E] and "
       "[N, S, E] with E = 8"},
      {"MultiheadAttention padding",
       [&] {
         attention(ones({2, 5, 8}), {.key_padding_mask = ones({2, 5})});
       },
       "[MultiheadAttention] key_padding_mask must be bool, got f32"},
      {"KvCache shapes",
       [&] {
         cache.append(ones({2, 2, 1, 4}), ones({2, 2, 1, 4}));
       },
       "[KvCache] keys [2, 2, 1, 4] and values [2, 2, 1, 4] do not continue [1, 2, 16, 4] and [1, 2, 16, 4], "
       "[N, H, room, d]. Hint: begin a new sequence with a new cache"},
  };
  for (const Pinned& pinned : all) {
    try {
      pinned.call();
      ADD_FAILURE() << pinned.what << ": no error";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), pinned.text) << pinned.what;
    }
  }
}

}  // namespace
}  // namespace espalier
