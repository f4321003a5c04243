// Attention: long sequences, masks, views, the layer, the cache.
#include "espalier/nn/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "tests/support.h"

namespace espalier::nn {
namespace {

using testing::same_bytes;
using testing::throws;

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

struct Result {
  Tensor y, q, k, v;
};
template <class F>
Result run(const Tensor& q, const Tensor& k, const Tensor& v, const F& f) {
  Tape tape;
  const Variable in[] = {tape.watch(q), tape.watch(k), tape.watch(v)};
  const Variable y = f(in[0], in[1], in[2]);
  Rng rng(9);
  const Variable weights(rng.normal(y.shape(), 0, 1, y.dtype()));
  const std::vector<Variable> g = tape.gradient({&y, 1}, {&weights, 1}, in);
  return {y.value(), g[0].value(), g[1].value(), g[2].value()};
}
void expect_close(const Result& a, const Result& b, double tolerance) {
  EXPECT_TRUE(allclose(a.y, b.y, 0, tolerance));
  EXPECT_TRUE(allclose(a.q, b.q, 0, tolerance));
  EXPECT_TRUE(allclose(a.k, b.k, 0, tolerance));
  EXPECT_TRUE(allclose(a.v, b.v, 0, tolerance));
}

/// Lengths around and beyond what a tile holds, one head (whose queries are shared out) and several.
TEST(TiledAttention, AgreesWithTheOneThatStoresTheScores) {
  Rng rng(1);
  for (const auto& [heads, L, S, d] : std::vector<std::array<Index, 4>>{
           {1, 1, 1, 1}, {2, 1, 700, 8}, {1, 49, 513, 3}, {9, 48, 48, 16}, {3, 100, 1030, 5}, {1, 600, 600, 7}})
    for (bool causal : {false, true}) {
      const Tensor q = rng.normal({heads, L, d}, 0, 1, DType::f64), k = rng.normal({heads, S, d}, 0, 1, DType::f64),
                   v = rng.normal({heads, S, d + 1}, 0, 1, DType::f64);
      const AttentionOptions options{.causal = causal, .causal_offset = S - L};
      auto tiled = [&](auto&... x) { return scaled_dot_product_attention(x..., {}, options); };
      auto plain = [&](auto&... x) { return attention_with_weights(x..., {}, options).output; };
      const Result one = run(q, k, v, tiled);
      expect_close(one, run(q, k, v, plain), 1e-12);
      const testing::Threads use(3);
      const Result three = run(q, k, v, tiled);
      EXPECT_TRUE(same_bytes(one.y, three.y));
      EXPECT_TRUE(same_bytes(one.k, three.k));
    }
}

TEST(TiledAttention, StandsLargeScoresAndReordersNothing) {
  Rng rng(2);
  const Tensor q = rng.normal({2, 5, 4}, 0, 1000), k = rng.normal({2, 600, 4}, 0, 1000), v = rng.normal({2, 600, 3});
  const Tensor y = scaled_dot_product_attention(q, k, v).value();
  for (float x : y.to_vector<float>()) EXPECT_TRUE(std::isfinite(x));
  EXPECT_TRUE(allclose(y, attention_with_weights(q, k, v).output.value(), 1e-4, 1e-5));
}

TEST(TiledAttention, GivesNothingToAQueryThatSeesNothing) {
  Rng rng(3);
  const Tensor q = rng.normal({3, 4, 6}), k = rng.normal({3, 700, 6}), v = rng.normal({3, 700, 2});
  Tensor keep = Tensor::full({4, 700}, 1, DType::boolean);
  keep.select(0, 2).fill(0);
  keep.select(0, 1).narrow(0, 0, 650).fill(0);  // sees nothing in the first tile of keys
  const Result r = run(q, k, v, [&](auto&... x) { return scaled_dot_product_attention(x..., Variable(keep)); });
  expect_close(r, run(q, k, v, [&](auto&... x) { return attention_with_weights(x..., Variable(keep)).output; }), 1e-5);
  for (float x : r.y.select(1, 2).to_vector<float>()) EXPECT_EQ(x, 0);
  for (float x : r.q.select(1, 2).to_vector<float>()) EXPECT_EQ(x, 0);
  Tensor added = Tensor::zeros({4, 700});
  added.select(0, 2).fill(-infinity);
  added.select(0, 1).narrow(0, 0, 650).fill(-infinity);
  EXPECT_TRUE(same_bytes(r.y, scaled_dot_product_attention(q, k, v, Variable(added)).value()));
}

TEST(TiledAttention, PassesNaNOn) {
  Tensor q = Tensor::ones({2, 3, 4}), k = Tensor::ones({2, 5, 4}), v = Tensor::ones({2, 5, 1});
  q.select(0, 1).select(0, 2).fill(nan);
  const std::vector<float> y = scaled_dot_product_attention(q, k, v).value().to_vector<float>();
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(std::isnan(y[i]), i == 5) << i;
  k.select(0, 0).select(0, 4).fill(nan);
  for (float x : scaled_dot_product_attention(q, k, v).value().select(0, 0).to_vector<float>())
    EXPECT_TRUE(std::isnan(x));
  const Tensor causal = scaled_dot_product_attention(q, k, v, {}, {.causal = true}).value();
  for (float x : causal.select(0, 0).to_vector<float>()) EXPECT_EQ(x, 1);  // key 4 is not seen
}

TEST(TiledAttention, OfOneProjectionIsTheOneOfItsParts) {
  Rng rng(4);
  const Index H = 3, d = 5;
  const Tensor x = rng.normal({2, 70, 3 * H * d});
  const Tensor parts = x.reshape({2, 70, 3, H, d}).permute({2, 0, 3, 1, 4});
  const Tensor y =
      scaled_dot_product_attention(parts.select(0, 0), parts.select(0, 1), parts.select(0, 2), {}, {.causal = true})
          .value();
  EXPECT_TRUE(y.transpose(1, 2).is_contiguous()) << "what is joined again should need no copy";
  const Tensor joined = self_attention(x, H, {}, {.causal = true}).value();
  EXPECT_TRUE(same_bytes(joined, y.transpose(1, 2).reshape({2, 70, H * d})));
}

TEST(TiledAttention, TakesMasksOfAnyShapeThatBroadcasts) {
  Rng rng(5);
  const Tensor q = rng.normal({2, 3, 4, 5}), k = rng.normal({2, 3, 6, 5}), v = rng.normal({2, 3, 6, 5});
  for (const Shape& shape :
       {Shape{4, 6}, Shape{6}, Shape{4, 1}, Shape{3, 1, 6}, Shape{2, 1, 1, 6}, Shape{2, 3, 4, 6}}) {
    const Variable mask(rng.normal(shape)), keep(rng.bernoulli(shape, 0.7));
    EXPECT_TRUE(allclose(scaled_dot_product_attention(q, k, v, mask).value(),
                         attention_with_weights(q, k, v, mask).output.value(), 1e-5, 1e-6));
    EXPECT_TRUE(allclose(scaled_dot_product_attention(q, k, v, keep).value(),
                         attention_with_weights(q, k, v, keep).output.value(), 1e-5, 1e-6));
  }
  EXPECT_THROW(scaled_dot_product_attention(q, k, v, Variable(Tensor::zeros({5, 6}))), ShapeError);
  EXPECT_THROW(scaled_dot_product_attention(q, k, v, Variable(Tensor::zeros({1, 2, 3, 4, 6}))), ShapeError);
}

TEST(MultiheadAttention, HasPyTorchsNamesAndShapes) {
  Rng rng(6);
  const MultiheadAttention layer(rng, 12, 3);
  std::vector<std::string> all;
  for (const NamedParameter& p : layer.parameters()) all.push_back(join(p.name, " ", p.parameter->value().shape()));
  EXPECT_EQ(all, (std::vector<std::string>{"in_proj_weight [36, 12]", "in_proj_bias [36]", "out_proj.weight [12, 12]",
                                           "out_proj.bias [12]"}));
  EXPECT_EQ(layer.heads(), 3);
  EXPECT_EQ(MultiheadAttention(rng, 12, 3, {.bias = false}).parameters().size(), 2u);
  EXPECT_TRUE(throws<ConfigError>([&] { MultiheadAttention(rng, 10, 3); }, "10", "3 heads"));
}

TEST(MultiheadAttention, TakesKeysAndValuesOfOtherWidths) {
  Rng rng(14);
  MultiheadAttention layer(rng, 12, 3, {.kdim = 5, .vdim = 7, .dtype = DType::f64});
  std::vector<std::string> all;
  for (const NamedParameter& p : layer.parameters()) all.push_back(join(p.name, " ", p.parameter->value().shape()));
  EXPECT_EQ(all, (std::vector<std::string>{"q_proj_weight [12, 12]", "k_proj_weight [12, 5]", "v_proj_weight [12, 7]",
                                           "in_proj_bias [36]", "out_proj.weight [12, 12]", "out_proj.bias [12]"}));
  EXPECT_EQ(layer.heads(), 3);
  layer.in_proj_bias.set_value(rng.normal({36}, 0, 1, DType::f64));
  const Tensor x = rng.normal({2, 4, 12}, 0, 1, DType::f64), keys = rng.normal({2, 6, 5}, 0, 1, DType::f64),
               values = rng.normal({2, 6, 7}, 0, 1, DType::f64);
  auto heads = [&](const Tensor& in, const Parameter& weight, Index part) {
    const Variable y = linear(in, weight, layer.in_proj_bias.value().narrow(0, 12 * part, 12));
    return transpose(reshape(y, {2, in.shape()[1], 3, 4}), 1, 2);
  };
  const Variable y = scaled_dot_product_attention(heads(x, layer.q_proj_weight, 0), heads(keys, layer.k_proj_weight, 1),
                                                  heads(values, layer.v_proj_weight, 2));
  const Variable expected = layer.out_proj(reshape(transpose(y, 1, 2), {2, 4, 12}));
  EXPECT_TRUE(allclose(layer(x, keys, values).value(), expected.value(), 0, 1e-14));
  EXPECT_TRUE(allclose(layer.with_weights(x, keys, values).output.value(), expected.value(), 0, 1e-14));
  {
    Tape tape;
    tape.backward(mean(square(layer(x, keys, values))));
  }
  for (const NamedParameter& p : layer.parameters()) EXPECT_TRUE(p.parameter->grad().defined()) << p.name;
  EXPECT_TRUE(throws<ShapeError>([&] { layer(x, values, keys); }, "kdim = 5 and vdim = 7"));
  EXPECT_TRUE(throws<ShapeError>([&] { layer(x); }, "kdim = 5"));
  KvCache cache;
  EXPECT_TRUE(throws<ConfigError>([&] { layer(x, cache); }, "KvCache"));
  EXPECT_EQ(MultiheadAttention(rng, 4, 1, {.kdim = 4, .vdim = 4}).in_proj_weight.shape(), (Shape{12, 4}));
}

TEST(MultiheadAttention, DropsWeightsInTrainingOnly) {
  Rng rng(15);
  MultiheadAttention layer(rng, 12, 3, {.dropout = 0.4, .dtype = DType::f64});
  const Tensor x = rng.normal({2, 70, 12}, 0, 1, DType::f64);
  const Tensor still = multi_head_attention(x, x, x, layer.in_proj_weight, layer.in_proj_bias, 3).output.value();
  EXPECT_TRUE(allclose(layer(x).value(), layer.out_proj(still).value(), 0, 1e-13));
  const Tensor evaluated = layer(x).value();
  layer.train();
  const MultiheadAttention one = layer, other = layer, third = layer;  // with the generator where it stands
  const Tensor y = one(x).value();
  EXPECT_FALSE(allclose(y, evaluated, 0, 1e-3));
  EXPECT_TRUE(allclose(other(x, x, x).value(), y, 0, 1e-13));
  const AttentionResult both = third.with_weights(x, x, x);
  EXPECT_TRUE(allclose(both.output.value(), y, 0, 1e-13));
  const double total = sum(both.weights).item() / 140;  // a mean of 1, deviation about 0.01
  EXPECT_NEAR(total, 1, 0.05);
  EXPECT_FALSE(same_bytes(one(x).value(), y)) << "the generator moves on";
  layer.eval();
  EXPECT_TRUE(same_bytes(layer(x).value(), evaluated));
  EXPECT_TRUE(throws<ConfigError>([&] { MultiheadAttention(rng, 4, 2, {.dropout = 1.5}); }, "1.5"));
  EXPECT_TRUE(MultiheadAttention(rng, 4, 2).buffers().empty()) << "as PyTorch's, without a generator";
}

/// Several tiles of keys and of queries: what a tile draws is what the whole matrix draws there.
TEST(TiledAttention, DropsTheSameInEveryTileAndAtAnyThreadCount) {
  Rng data(16);
  const Tensor q = data.normal({2, 100, 8}, 0, 1, DType::f64), k = data.normal({2, 1100, 8}, 0, 1, DType::f64),
               v = data.normal({2, 1100, 3}, 0, 1, DType::f64);
  auto drop = [](const auto& f) {
    Rng rng(3);
    return f(AttentionOptions{.causal = true, .causal_offset = 950, .dropout = 0.5, .rng = &rng});
  };
  auto tiled = [&](auto&... x) {
    return drop([&](const AttentionOptions& o) { return scaled_dot_product_attention(x..., {}, o); });
  };
  auto plain = [&](auto&... x) {
    return drop([&](const AttentionOptions& o) { return attention_with_weights(x..., {}, o).output; });
  };
  const Result one = run(q, k, v, tiled);
  expect_close(one, run(q, k, v, plain), 1e-12);
  for (const int threads : {2, 4}) {
    const testing::Threads use(threads);
    const Result many = run(q, k, v, tiled);
    EXPECT_TRUE(same_bytes(one.y, many.y) && same_bytes(one.q, many.q) && same_bytes(one.k, many.k) &&
                same_bytes(one.v, many.v));
  }
  EXPECT_TRUE(throws<ConfigError>([&] { scaled_dot_product_attention(q, k, v, {}, {.dropout = 0.5}); }, "generator"));
  EXPECT_TRUE(throws<ConfigError>([&] { scaled_dot_product_attention(q, k, v, {}, {.dropout = -1}); }, "-1"));
  Rng rng(4);
  const Tensor nothing = scaled_dot_product_attention(q, k, v, {}, {.dropout = 1, .rng = &rng}).value();
  EXPECT_TRUE(same_bytes(nothing, Tensor::zeros({2, 100, 3}, DType::f64)));
}

TEST(MultiheadAttention, ToItselfIsTheSameByEitherPath) {
  Rng rng(7);
  const MultiheadAttention layer(rng, 12, 3, {.dtype = DType::f64});
  const Tensor x = rng.normal({2, 9, 12}, 0, 1, DType::f64);
  AttentionCall call{.key_padding_mask = Tensor::zeros({2, 9}, DType::boolean), .causal = true};
  call.key_padding_mask.select(0, 1).narrow(0, 6, 3).fill(1);
  const Tensor self = layer(x, call).value(), cross = layer(x, x, x, call).value();
  const AttentionResult both = layer.with_weights(x, x, x, call);
  EXPECT_TRUE(allclose(self, cross, 0, 1e-14));
  EXPECT_TRUE(allclose(self, both.output.value(), 0, 1e-14));
  EXPECT_EQ(both.weights.shape(), (Shape{2, 9, 9}));
  EXPECT_TRUE(allclose(sum(both.weights, {-1}).value(), Tensor::ones({2, 9}, DType::f64), 1e-14, 0));
  EXPECT_EQ(both.weights.value().at({1, 8, 7}), 0);  // padding
  EXPECT_EQ(both.weights.value().at({0, 3, 4}), 0);  // the future
  EXPECT_GT(both.weights.value().at({0, 8, 7}), 0);
}

/// Numbers of PyTorch 1.13, average_attn_weights=False.
TEST(MultiheadAttention, GivesTheWeightsOfEachHeadOfOneSequence) {
  using Function = double (*)(double);
  auto wave = [](const Shape& shape, double step, Function f) {
    Tensor t = Tensor::empty(shape, DType::f64);
    double* values = t.write<double>("test");
    for (Index i = 0; i < t.size(); ++i) values[i] = f(step * static_cast<double>(i));
    return t;
  };
  const Function sine = [](double v) { return std::sin(v); }, cosine = [](double v) { return std::cos(v); };
  Rng rng(17);
  MultiheadAttention layer(rng, 4, 2, {.dtype = DType::f64});
  layer.in_proj_weight.set_value(wave({12, 4}, 0.37, sine));
  layer.in_proj_bias.set_value((Variable(wave({12}, 0.5, cosine)) * 0.1).value());
  layer.out_proj.weight.set_value(wave({4, 4}, 0.23, cosine));
  layer.out_proj.bias.set_value(Tensor::from({0.0, 0.1, 0.2, 0.3}));
  const Tensor x = wave({3, 4}, 0.7, sine), hidden = Tensor::from(std::vector<bool>{false, false, true}, {3});
  AttentionCall call{.key_padding_mask = hidden, .average_attn_weights = false};
  const AttentionResult each = layer.with_weights(x, x, x, call);
  const Tensor output = Tensor::from({0.923162, 1.249866, 0.670062, -0.28032, -0.715714, -1.049504, -0.477071, 0.629137,
                                      0.925628, 1.18159, 0.58487, -0.315266},
                                     {3, 4});
  const Tensor weights = Tensor::from({0.999662, 0.000338, 0.0, 0.004919, 0.995081, 0.0, 0.971496, 0.028504, 0.0,
                                       0.99939, 0.00061, 0.0, 0.00332, 0.99668, 0.0, 0.95549, 0.04451, 0.0},
                                      {2, 3, 3});
  EXPECT_TRUE(allclose(each.output.value(), output, 0, 1e-6));
  EXPECT_TRUE(allclose(each.weights.value(), weights, 0, 1e-6));
  EXPECT_TRUE(allclose(layer(x, call).value(), output, 0, 1e-6));
  EXPECT_TRUE(allclose(layer(x, x, x, call).value(), output, 0, 1e-6));
  call.average_attn_weights = true;
  EXPECT_TRUE(allclose(layer.with_weights(x, x, x, call).weights.value(), mean(each.weights, {0}).value(), 0, 1e-15));
  const Tensor batch = Tensor::zeros({2, 3, 4}, DType::f64);
  EXPECT_EQ(layer.with_weights(batch, batch, batch, {.average_attn_weights = false}).weights.shape(),
            (Shape{2, 2, 3, 3}));
  EXPECT_TRUE(throws<ShapeError>([&] { layer(x, batch, batch); }, "[MultiheadAttention]"));
}

TEST(MultiheadAttention, ReadsMasksAsPyTorchsModuleDoes) {
  Rng rng(8);
  const MultiheadAttention layer(rng, 4, 2, {.dtype = DType::f64});
  const Tensor x = rng.normal({2, 5, 4}, 0, 1, DType::f64);
  Tensor hides = Tensor::zeros({5, 5}, DType::boolean), added = Tensor::zeros({5, 5}, DType::f64);
  for (Index i = 0; i < 5; ++i)
    for (Index j = i + 1; j < 5; ++j) {
      hides.select(0, i).select(0, j).fill(1);
      added.select(0, i).select(0, j).fill(-infinity);
    }
  const Tensor expected = layer(x, {.causal = true}).value();
  EXPECT_TRUE(allclose(layer(x, {.attn_mask = hides}).value(), expected, 0, 1e-14));
  EXPECT_TRUE(allclose(layer(x, {.attn_mask = added}).value(), expected, 0, 1e-14));
  const Tensor padding = Tensor::zeros({2, 5}, DType::boolean);
  EXPECT_TRUE(allclose(layer(x, {.attn_mask = hides, .key_padding_mask = padding}).value(), expected, 0, 1e-14));
}

TEST(MultiheadAttention, AMaskOfThreeAxesIsOfEachSampleAndHead) {
  Rng rng(8);
  const MultiheadAttention layer(rng, 4, 2, {.dtype = DType::f64});
  const Tensor x = rng.normal({2, 5, 4}, 0, 1, DType::f64);
  const Tensor each = Rng(3).normal({4, 5, 5}, 0, 1, DType::f64);
  const Tensor expected = layer(x, {.attn_mask = each.reshape({2, 2, 5, 5})}).value();
  EXPECT_TRUE(same_bytes(layer(x, {.attn_mask = each}).value(), expected));
  EXPECT_TRUE(same_bytes(layer(x, x, x, {.attn_mask = each}).value(),
                         layer(x, x, x, {.attn_mask = each.reshape({2, 2, 5, 5})}).value()));
  const Tensor samples = each.narrow(0, 0, 2);  // as many as there are heads, too
  EXPECT_TRUE(throws<ShapeError>([&] { layer(x, {.attn_mask = samples}); }, "[N, 1, L, S]", "key_padding_mask"));
  EXPECT_NO_THROW(layer(x, {.attn_mask = samples.unsqueeze(1)}));
  EXPECT_NO_THROW(layer(x, {.attn_mask = samples.unsqueeze(0)}));
  EXPECT_NO_THROW(layer(x, {.attn_mask = each.narrow(0, 0, 1)}));
  EXPECT_THROW(layer(x, {.attn_mask = each.unsqueeze(0)}), ShapeError);
}

TEST(MultiheadAttention, ReadsItsHeadsOffTheWeight) {
  Rng rng(9);
  MultiheadAttention layer(rng, 8, 4, {.bias = false, .dtype = DType::f64});
  const Tensor x = rng.normal({2, 5, 8}, 0, 1, DType::f64);
  auto kept = [](const Tensor& w) { return w.reshape({3, 4, 2, 8}).narrow(1, 1, 2).reshape({12, 8}); };
  const Tensor all = multi_head_attention(x, x, x, layer.in_proj_weight, {}, 4).output.value();
  const Tensor fewer = multi_head_attention(x, x, x, kept(layer.in_proj_weight.value()), {}, 2).output.value();
  EXPECT_TRUE(allclose(fewer, all.narrow(2, 2, 4), 0, 1e-14));
  layer.in_proj_weight = Parameter(kept(layer.in_proj_weight.value()));
  layer.out_proj.weight = Parameter(layer.out_proj.weight.value().narrow(1, 2, 4).clone());
  EXPECT_EQ(layer.heads(), 2);
  EXPECT_TRUE(allclose(layer(x).value(), matmul(Variable(fewer), layer.out_proj.weight.value().t()).value(), 0, 1e-14));
}

TEST(MultiheadAttention, GeneratesWithACacheWhatItGivesAtOnce) {
  Rng rng(11);
  const MultiheadAttention layer(rng, 12, 3, {.dtype = DType::f64});
  const Tensor x = rng.normal({2, 40, 12}, 0, 1, DType::f64);
  const Tensor all = layer(x, {.causal = true}).value();
  for (const std::vector<Index>& pieces : {std::vector<Index>(40, 1), {7, 1, 20, 12}, {40}}) {
    KvCache cache;
    Index at = 0;
    for (Index n : pieces) {
      const Tensor y = layer(x.narrow(1, at, n), cache).value();
      EXPECT_TRUE(allclose(y, all.narrow(1, at, n), 0, 1e-13));
      at += n;
      EXPECT_EQ(cache.length(), at);
    }
    EXPECT_EQ(cache.keys().shape(), (Shape{2, 3, 40, 4}));
  }
}

TEST(KvCache, ACallThatFailsLeavesItAsItWas) {
  Rng rng(4);
  const MultiheadAttention layer(rng, 4, 2);
  MultiheadAttention wide = layer;
  wide.to(DType::f64);
  KvCache cache;
  EXPECT_THROW(cache.keys(), ShapeError);
  layer(rng.normal({1, 3, 4}), cache);
  const Tensor keys = cache.keys().clone();
  for (const Index more : {1, 40})  // within its room and beyond
    EXPECT_THROW(wide(rng.normal({1, more, 4}, 0, 1, DType::f64), cache), DTypeError);
  EXPECT_THROW(cache.append(Tensor::ones({1, 2, 1, 2}), Tensor::ones({1, 2, 1, 2}, DType::f64)), DTypeError);
  EXPECT_EQ(cache.length(), 3);
  EXPECT_TRUE(same_bytes(cache.keys(), keys));
}

TEST(KvCache, IsAValue) {
  KvCache cache;
  cache.append(Tensor::ones({1, 2, 3, 4}), Tensor::ones({1, 2, 3, 4}));
  KvCache branch = cache;
  branch.append(Tensor::zeros({1, 2, 5, 4}), Tensor::zeros({1, 2, 5, 4}));
  cache.append(Tensor::full({1, 2, 5, 4}, 7), Tensor::full({1, 2, 5, 4}, 7));
  EXPECT_EQ(branch.keys().at({0, 1, 7, 3}), 0);
  EXPECT_EQ(cache.values().at({0, 1, 7, 3}), 7);
  EXPECT_EQ(cache.keys().at({0, 1, 2, 3}), 1);
  cache.append(Tensor::full({1, 2, 50, 4}, 9), Tensor::full({1, 2, 50, 4}, 9));  // beyond its room
  EXPECT_EQ(cache.keys().at({0, 0, 2, 0}), 1);
  EXPECT_EQ(cache.keys().at({0, 0, 57, 0}), 9);
  EXPECT_TRUE(throws<ShapeError>(
      [&] {
        cache.append(Tensor::ones({2, 2, 1, 4}), Tensor::ones({2, 2, 1, 4}));
      },
      "[2, 2, 1, 4]", "[1, 2,"));
  cache = {};
  EXPECT_EQ(cache.length(), 0);
}

TEST(MultiheadAttention, RefusesACacheWhereATapeRecords) {
  Rng rng(12);
  const MultiheadAttention layer(rng, 4, 2);
  KvCache cache;
  const Tape tape;
  EXPECT_TRUE(throws<GradError>([&] { layer(Tensor::ones({1, 1, 4}), cache); }, "NoTape"));
  const NoTape quiet;
  EXPECT_EQ(layer(Tensor::ones({1, 1, 4}), cache).shape(), (Shape{1, 1, 4}));
}

TEST(MultiheadAttention, FillsTheGradientsOfAllItsParameters) {
  Rng rng(13);
  MultiheadAttention layer(rng, 8, 2);
  const Tensor x = rng.normal({2, 5, 8}), memory = rng.normal({2, 7, 8});
  Tape tape;
  tape.backward(mean(square(layer(x, memory, memory))));
  for (const NamedParameter& p : layer.parameters()) {
    ASSERT_TRUE(p.parameter->grad().defined()) << p.name;
    EXPECT_EQ(p.parameter->grad().shape(), p.parameter->value().shape());
  }
  EXPECT_THROW(layer(Tensor::ones({2, 5, 7})), ShapeError);
  EXPECT_THROW(layer(x, memory.narrow(0, 0, 1), memory), ShapeError);
}

}  // namespace
}  // namespace espalier::nn
