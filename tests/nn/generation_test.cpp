// Generation with caches: piece by piece the same numbers as all at once, whatever the pieces, the norm order and the
// padding; and an error leaves every cache as it was.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/transformer.h"
#include "tests/support.h"

namespace espalier::nn {
namespace {

using testing::same_bytes;
using testing::throws;

const std::vector<std::vector<Index>> ways_to_cut_9 = {std::vector<Index>(9, 1), {4, 1, 1, 3}, {9}, {6, 0, 3}};

TransformerOptions options(bool norm_first) {
  return {.feedforward = 16, .activation = gelu, .norm_first = norm_first, .dtype = DType::f64};
}

/// Expects run(from, length) for pieces one behind the other to give `all` piece by piece.
template <class F>
void expect_pieces(const Tensor& all, const std::vector<Index>& pieces, const F& run) {
  Index at = 0;
  for (const Index n : pieces) {
    EXPECT_TRUE(allclose(run(at, n), all.narrow(1, at, n), 0, 1e-12)) << n << " from " << at;
    at += n;
  }
}

TEST(Generation, AnEncoderGivesPieceByPieceWhatItGivesAtOnce) {
  for (const bool norm_first : {false, true}) {
    Rng rng(1);
    const TransformerEncoder encoder(rng, 3, 8, 2, options(norm_first), norm_first);
    const Tensor x = rng.normal({2, 9, 8}, 0, 1, DType::f64);
    const Tensor all = encoder(x, {.causal = true}).value();
    const Tensor of_layer = encoder.layers[0](x, {.causal = true}).value();
    for (const std::vector<Index>& pieces : ways_to_cut_9) {
      std::vector<KvCache> caches = encoder.start();
      expect_pieces(all, pieces, [&](Index at, Index n) { return encoder(x.narrow(1, at, n), caches).value(); });
      for (const KvCache& cache : caches) EXPECT_EQ(cache.length(), 9);
      KvCache cache;
      expect_pieces(of_layer, pieces,
                    [&](Index at, Index n) { return encoder.layers[0](x.narrow(1, at, n), cache).value(); });
    }
  }
}

TEST(Generation, ADecoderLooksAtItsMemoryWithoutProjectingItAgain) {
  for (const bool norm_first : {false, true}) {
    Rng rng(2);
    const TransformerDecoder decoder(rng, 2, 8, 2, options(norm_first), norm_first);
    const Tensor x = rng.normal({2, 9, 8}, 0, 1, DType::f64), memory = rng.normal({2, 5, 8}, 0, 1, DType::f64);
    AttentionCall seen{.key_padding_mask = Tensor::zeros({2, 5}, DType::boolean)};
    seen.key_padding_mask.select(0, 1).narrow(0, 3, 2).fill(1);
    const Tensor all = decoder(x, memory, {.causal = true}, seen).value();
    const Tensor of_layer = decoder.layers[0](x, memory, {.causal = true}).value();
    for (const std::vector<Index>& pieces : ways_to_cut_9) {
      std::vector<DecoderCache> caches = decoder.start(memory);
      expect_pieces(all, pieces,
                    [&](Index at, Index n) { return decoder(x.narrow(1, at, n), caches, {}, seen).value(); });
      EXPECT_EQ(caches[1].self.length(), 9);
      EXPECT_EQ(caches[1].memory.keys().shape(), (Shape{2, 2, 5, 4}));
      DecoderCache cache = decoder.layers[0].start(memory);
      expect_pieces(of_layer, pieces,
                    [&](Index at, Index n) { return decoder.layers[0](x.narrow(1, at, n), cache).value(); });
    }
  }
}

/// Prompts of 4 and 2 tokens side by side, the second filled up on either side: each as if it were alone.
TEST(Generation, PromptsOfSeveralLengthsDoNotSeeTheirPadding) {
  Rng rng(3);
  const TransformerEncoder encoder(rng, 2, 8, 2, options(true), true);
  const Tensor x = rng.normal({2, 9, 8}, 0, 1, DType::f64);  // [4 of prompt, 5 to come]
  for (const Index first : {0, 2}) {                         // of the second row's prompt, which is 2 long
    Tensor padding = Tensor::zeros({2, 9}, DType::boolean);
    padding.select(0, 1).narrow(0, 2 - first, 2).fill(1);
    const Tensor all = encoder(x, {.key_padding_mask = padding, .causal = true}).value();
    std::vector<KvCache> caches = encoder.start();
    expect_pieces(all, {4, 1, 3, 1}, [&](Index at, Index n) {
      return encoder(x.narrow(1, at, n), caches, {.key_padding_mask = padding.narrow(1, 0, at + n)}).value();
    });
    // The second row alone, without what fills it up.
    const Variable row = x.narrow(0, 1, 1);
    std::vector<KvCache> alone = encoder.start();
    encoder(narrow(row, 1, first, 2), alone);
    for (Index at = 4; at < 9; ++at)
      EXPECT_TRUE(
          allclose(encoder(narrow(row, 1, at, 1), alone).value(), all.narrow(0, 1, 1).narrow(1, at, 1), 0, 1e-12));
  }
}

TEST(Generation, AnAddedMaskIsOfAllKeysToo) {
  Rng rng(4);
  const MultiheadAttention layer(rng, 8, 2, {.dtype = DType::f64});
  const Tensor x = rng.normal({2, 9, 8}, 0, 1, DType::f64), bias = rng.normal({9, 9}, 0, 1, DType::f64);
  const Tensor all = layer(x, {.attn_mask = bias, .causal = true}).value();
  KvCache cache;
  expect_pieces(all, {4, 1, 4}, [&](Index at, Index n) {
    return layer(x.narrow(1, at, n), cache, {.attn_mask = bias.narrow(0, at, n).narrow(1, 0, at + n)}).value();
  });
}

TEST(Generation, GoesBackAndBranches) {
  Rng rng(5);
  const TransformerEncoder encoder(rng, 2, 8, 2, options(false));
  const Tensor x = rng.normal({1, 20, 8}, 0, 1, DType::f64), other = rng.normal({1, 20, 8}, 0, 1, DType::f64);
  std::vector<KvCache> caches = encoder.start();
  encoder(x.narrow(1, 0, 5), caches);
  std::vector<KvCache> branch = caches;
  encoder(other, caches);
  for (KvCache& cache : caches) cache.rewind(5);
  const Tensor y = encoder(x.narrow(1, 5, 3), caches).value();
  EXPECT_TRUE(same_bytes(encoder(x.narrow(1, 5, 3), branch).value(), y));
  EXPECT_TRUE(throws<IndexError>([&] { caches[0].rewind(9); }, "9", "8"));
  EXPECT_TRUE(throws<IndexError>([&] { caches[0].rewind(-1); }));
  caches[0].rewind(0);
  caches[0].append(Tensor::ones({3, 1, 2, 5}), Tensor::ones({3, 1, 2, 5}));  // of another shape: nothing is left
}

/// An error in the last layer, behind what others have appended, and in each part of a layer.
TEST(Generation, AnErrorLeavesTheCachesAsTheyWere) {
  Rng rng(6);
  bool fails = false;
  const auto activation = [&](const Variable& v) {
    if (fails) fail<ConfigError>("[the test] no");
    return relu(v);
  };
  TransformerEncoder encoder(rng, 2, 8, 2, {.feedforward = 16, .activation = activation});
  TransformerDecoder decoder(rng, 2, 8, 2, {.feedforward = 16, .activation = activation});
  const Tensor x = rng.normal({2, 6, 8}), memory = rng.normal({2, 3, 8});
  std::vector<KvCache> caches = encoder.start();
  std::vector<DecoderCache> pairs = decoder.start(memory);
  auto unchanged = [&](Index length) {
    for (const KvCache& cache : caches) EXPECT_EQ(cache.length(), length);
    for (const DecoderCache& pair : pairs) EXPECT_EQ(pair.self.length(), length);
  };
  auto all_refuse = [&](const Tensor& next, const AttentionCall& call) {
    EXPECT_THROW(encoder(next, caches, call), Error);
    EXPECT_THROW(encoder.layers[0](next, caches[0], call), Error);
    EXPECT_THROW(encoder.layers[0].self_attn(next, caches[0], call), Error);
    EXPECT_THROW(decoder(next, pairs, call), Error);
    EXPECT_THROW(decoder.layers[0](next, pairs[0], call), Error);
  };
  for (const Index length : {0, 6}) {
    if (length > 0) encoder(x, caches), decoder(x, pairs);
    fails = true;
    EXPECT_THROW(encoder(x, caches), ConfigError);
    EXPECT_THROW(encoder.layers[1](x, caches[1]), ConfigError);
    EXPECT_THROW(decoder(x, pairs), ConfigError);
    fails = false;
    unchanged(length);
    all_refuse(x, {.attn_mask = Tensor::zeros({5, 4})});
    all_refuse(x, {.key_padding_mask = Tensor::zeros({2, 4}, DType::boolean)});
    all_refuse(x.to(DType::f64), {});
    all_refuse(x.narrow(2, 0, 7), {});
    unchanged(length);
  }
  EXPECT_TRUE(throws<ShapeError>(
      [&] {
        decoder(x, pairs, {}, {.key_padding_mask = Tensor::zeros({2, 4}, DType::boolean)});
      },
      "[2, 3]"));
  unchanged(6);
  const Tensor more = rng.normal({2, 2, 8});
  Tensor all = Tensor::empty({2, 8, 8});
  all.narrow(1, 0, 6).copy_from(x);
  all.narrow(1, 6, 2).copy_from(more);
  EXPECT_TRUE(
      allclose(encoder(more, caches).value(), encoder(all, {.causal = true}).value().narrow(1, 6, 2), 1e-4, 1e-5));
}

TEST(Generation, ErrorsSayWhatIsMissing) {
  Rng rng(7);
  const TransformerEncoder encoder(rng, 2, 8, 2, {.feedforward = 16});
  const TransformerDecoder decoder(rng, 2, 8, 2, {.feedforward = 16});
  const Tensor x = rng.normal({2, 3, 8});
  std::vector<KvCache> none;
  EXPECT_TRUE(throws<ConfigError>([&] { encoder(x, none); }, "0 caches for 2 layers", "start()"));
  std::vector<DecoderCache> empty(2);
  EXPECT_TRUE(throws<ConfigError>([&] { decoder(x, empty); }, "no keys", "remember"));
  std::vector<DecoderCache> caches = decoder.start(x);
  EXPECT_TRUE(throws<ShapeError>([&] { decoder(x.narrow(0, 0, 1), caches); }, "N = 2"));
  EXPECT_TRUE(throws<ShapeError>([&] { decoder.start(x.narrow(2, 0, 7)); }, "[2, 3, 7]", "kdim = 8"));
  const Tape tape;
  std::vector<KvCache> own = encoder.start();
  EXPECT_TRUE(throws<GradError>([&] { encoder(x, own); }, "NoTape"));
  EXPECT_TRUE(throws<GradError>([&] { decoder(x, caches); }, "NoTape"));
  EXPECT_TRUE(throws<GradError>([&] { decoder.start(x); }, "NoTape"));
  EXPECT_TRUE(throws<GradError>([&] { decoder.layers[0].multihead_attn.recall(x, caches[0].memory); }, "NoTape"));
}

TEST(Generation, KeysAndValuesOfOtherWidthsAreRememberedToo) {
  Rng rng(8);
  const MultiheadAttention layer(rng, 12, 3, {.kdim = 5, .vdim = 7, .dtype = DType::f64});
  const Tensor x = rng.normal({2, 4, 12}, 0, 1, DType::f64), keys = rng.normal({2, 6, 5}, 0, 1, DType::f64),
               values = rng.normal({2, 6, 7}, 0, 1, DType::f64);
  const KvCache kept = layer.remember(keys, values);
  EXPECT_TRUE(allclose(layer.recall(x, kept).value(), layer(x, keys, values).value(), 0, 1e-14));
}

TEST(Generation, OneSequenceNeedsNoBatch) {
  Rng rng(9);
  const TransformerEncoder encoder(rng, 2, 8, 2, options(true));
  const TransformerDecoder decoder(rng, 2, 8, 2, options(true));
  const Tensor x = rng.normal({9, 8}, 0, 1, DType::f64), memory = rng.normal({5, 8}, 0, 1, DType::f64);
  std::vector<KvCache> caches = encoder.start();
  std::vector<DecoderCache> pairs = decoder.start(memory);
  const Tensor encoded = encoder(x, {.causal = true}).value(), decoded = decoder(x, memory, {.causal = true}).value();
  ASSERT_EQ(encoded.shape(), (Shape{9, 8}));
  EXPECT_TRUE(allclose(encoded, encoder(x.unsqueeze(0), {.causal = true}).value().squeeze(0), 0, 1e-13));
  for (Index at = 0; at < 9; ++at) {
    EXPECT_TRUE(allclose(encoder(x.narrow(0, at, 1), caches).value(), encoded.narrow(0, at, 1), 0, 1e-12));
    EXPECT_TRUE(allclose(decoder(x.narrow(0, at, 1), pairs).value(), decoded.narrow(0, at, 1), 0, 1e-12));
  }
}

}  // namespace
}  // namespace espalier::nn
