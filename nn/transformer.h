// Transformer encoder and decoder, layers and stacks. Batch first: [N, T, E]. Names as in PyTorch.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/nn/attention.h"
#include "espalier/nn/dropout.h"
#include "espalier/nn/norm.h"

namespace espalier::nn {

/// A function, lambda or layer of one Variable. Beyond what a std::function takes, the name of an overloaded function:
/// `.activation = tanh` where C's ::tanh is in sight, too. One with more arguments goes in as its layer
/// (`nn::LeakyRelu(0.1)`) or in a lambda.
class UnaryFunction : public std::function<Variable(const Variable&)> {
 public:
  using function::function;
  UnaryFunction(Variable (*f)(const Variable&)) : function(f) {}  // NOLINT: a function is one
};

struct TransformerOptions {
  Index feedforward = 2048;         ///< width of the hidden layer
  UnaryFunction activation = relu;  ///< between linear1 and linear2: relu, gelu, ...
  bool norm_first = false;          ///< norm before each part instead of behind the sum
  double dropout = 0;  ///< of attention weights, behind attention, inside the feed-forward and behind it, in training
  bool bias = true;
  double eps = 1e-5;
  DType dtype = DType::f32;
};

/// x = norm1(x + self_attn(x)); y = norm2(x + linear2(activation(linear1(x)))). With norm_first
/// x = x + self_attn(norm1(x)); y = x + linear2(activation(linear1(norm2(x)))). Vaswani et al. 2017, section 3.1;
/// Xiong et al. 2020 for the other order. With dropout there are the layers dropout, behind the activation, and
/// dropout1, dropout2, ..., behind each part. x [N, T, E], or one sequence [T, E]. Errors: as MultiheadAttention.
class TransformerEncoderLayer final : public Module {
 public:
  TransformerEncoderLayer(Rng& rng, Index width, Index heads, TransformerOptions options = {});
  Variable operator()(const Variable& x, const AttentionCall& call = {}) const;
  /// What (*this)(all, {.causal = true}) gives for new positions x [N, T, E], one or many, whose predecessors are in
  /// the cache, which they join; see MultiheadAttention. An error leaves the cache as it was.
  Variable operator()(const Variable& x, KvCache& cache, const AttentionCall& call = {}) const;
  void members(Visitor& v) override {
    v("self_attn", self_attn)("linear1", linear1)("linear2", linear2)("norm1", norm1)("norm2", norm2);
    v("dropout", dropout)("dropout1", dropout1)("dropout2", dropout2);
  }

  MultiheadAttention self_attn;
  Linear linear1, linear2;
  LayerNorm norm1, norm2;
  std::optional<Dropout> dropout, dropout1, dropout2;

 private:
  template <class Attend>
  Variable block(const Variable& x, const Attend& attend) const;
  UnaryFunction activation_;
  bool norm_first_;
};

/// What a decoder layer keeps while it generates.
struct DecoderCache {
  KvCache self;    ///< the positions seen so far
  KvCache memory;  ///< keys and values of the memory, computed once
};

/// The same with attention to `memory` [N, S, E] between the two: norm2(x + multihead_attn(x, memory, memory)).
class TransformerDecoderLayer final : public Module {
 public:
  TransformerDecoderLayer(Rng& rng, Index width, Index heads, TransformerOptions options = {});
  /// `call` is of the self-attention (causal in a language model), `memory_call` of the other.
  Variable operator()(const Variable& x, const Variable& memory, const AttentionCall& call = {},
                      const AttentionCall& memory_call = {}) const;
  /// What it takes to generate from this memory. Errors: GradError where a tape records.
  DecoderCache start(const Variable& memory) const;
  /// As the encoder layer's: new positions x [N, T, E] behind those in the cache, which came from start(memory).
  Variable operator()(const Variable& x, DecoderCache& cache, const AttentionCall& call = {},
                      const AttentionCall& memory_call = {}) const;
  void members(Visitor& v) override {
    v("self_attn", self_attn)("multihead_attn", multihead_attn)("linear1", linear1)("linear2", linear2);
    v("norm1", norm1)("norm2", norm2)("norm3", norm3);
    v("dropout", dropout)("dropout1", dropout1)("dropout2", dropout2)("dropout3", dropout3);
  }

  MultiheadAttention self_attn, multihead_attn;
  Linear linear1, linear2;
  LayerNorm norm1, norm2, norm3;
  std::optional<Dropout> dropout, dropout1, dropout2, dropout3;

 private:
  template <class Attend, class Recall>
  Variable block(const Variable& x, const Attend& attend, const Recall& recall) const;
  UnaryFunction activation_;
  bool norm_first_;
};

/// `depth` encoder layers, and a norm behind them if `final_norm` (as norm_first wants). Made causal it is a language
/// model's stack, and generates with a cache for each layer:
///
///   std::vector<nn::KvCache> caches = encoder.start();
///   Variable y = encoder(prompt, caches);                   // [N, T, E]
///   while (...) y = encoder(embedded(next), caches);        // [N, 1, E]: one row of attention a layer
///
/// Prompts of several lengths, padded to one: .key_padding_mask says in every call which of all S positions, those in
/// the caches included, hold padding. KvCache::rewind, of every layer, goes back; a copy of the caches branches.
class TransformerEncoder final : public Module {
 public:
  TransformerEncoder(Rng& rng, Index depth, Index width, Index heads, const TransformerOptions& options = {},
                     bool final_norm = false);
  Variable operator()(const Variable& x, const AttentionCall& call = {}) const;
  /// Empty caches, one a layer.
  std::vector<KvCache> start() const { return std::vector<KvCache>(layers.size()); }
  /// What (*this)(all, {.causal = true}) gives for new positions x [N, T, E] behind those in the caches, which they
  /// join. An error leaves the caches as they were. Errors: as MultiheadAttention; ConfigError for another number of
  /// caches.
  Variable operator()(const Variable& x, std::vector<KvCache>& caches, const AttentionCall& call = {}) const;
  void members(Visitor& v) override { v("layers", layers)("norm", norm); }

  std::vector<TransformerEncoderLayer> layers;
  std::optional<LayerNorm> norm;
};

/// The same of decoder layers.
class TransformerDecoder final : public Module {
 public:
  TransformerDecoder(Rng& rng, Index depth, Index width, Index heads, const TransformerOptions& options = {},
                     bool final_norm = false);
  Variable operator()(const Variable& x, const Variable& memory, const AttentionCall& call = {},
                      const AttentionCall& memory_call = {}) const;
  /// Caches that hold keys and values of this memory, one a layer. Errors: GradError where a tape records.
  std::vector<DecoderCache> start(const Variable& memory) const;
  /// As the encoder's: caches come from start(memory). `call` is of all positions, causal; `memory_call` of the memory.
  Variable operator()(const Variable& x, std::vector<DecoderCache>& caches, const AttentionCall& call = {},
                      const AttentionCall& memory_call = {}) const;
  void members(Visitor& v) override { v("layers", layers)("norm", norm); }

  std::vector<TransformerDecoderLayer> layers;
  std::optional<LayerNorm> norm;
};

}  // namespace espalier::nn
