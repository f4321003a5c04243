// Multi-head attention, with a cache for generation.
#pragma once

#include <array>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "espalier/autograd/ops/attention.h"
#include "espalier/nn/dropout.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// Keys and values of the positions seen so far, so that generating the next one costs one row of attention. A value:
/// copy it to branch, assign {} to begin anew. Not differentiable.
class KvCache final {
 public:
  /// Adds keys and values [N, H, T, d] behind those it holds. Errors: ShapeError if N, H or d change, DTypeError if the
  /// element type does; then it is as it was. Cost: a copy of T rows; what is held is copied only when the room is
  /// doubled.
  void append(const Tensor& keys, const Tensor& values);
  /// Forgets all but the first `length` positions: back to before a guess, or to a prompt that many answers share.
  /// Errors: IndexError for more than it holds.
  void rewind(Index length);
  Index length() const noexcept { return length_; }
  /// [N, H, length, d], a view. Errors: ShapeError before the first append().
  Tensor keys() const { return seen(k_); }
  Tensor values() const { return seen(v_); }
  /// A copy has room of its own.
  KvCache() = default;
  KvCache(const KvCache& other);
  KvCache(KvCache&&) noexcept = default;
  KvCache& operator=(KvCache other) noexcept;
  ~KvCache() = default;

 private:
  Tensor seen(const Tensor& held) const;
  Tensor k_, v_;
  Index length_ = 0;
};

/// What a call sees. In all of them true, or -infinity, hides: PyTorch's meaning in this module, the opposite of
/// scaled_dot_product_attention's.
struct AttentionCall {
  /// [L, S], or with four axes what broadcasts to [N, H, L, S] (of each sample: [N, 1, L, S]), or PyTorch's
  /// [N * H, L, S]: bool, true where a query must not see a key; or added to the scores. No other mask of three axes is
  /// taken: [N, L, S] and [H, L, S] cannot be told apart where N is H.
  Variable attn_mask = {};
  /// bool [N, S], true at keys that nobody sees; [S] of one sequence. S counts what a cache holds, too.
  Tensor key_padding_mask = {};
  bool causal = false;               ///< query i sees keys j <= i
  bool average_attn_weights = true;  ///< of with_weights: the mean over the heads [N, L, S], else [N, H, L, S]
};

/// The layer below without its last projection, as a function: of in_proj_weight [3 H d, E] and in_proj_bias [3 H d] or
/// undefined. Output [N, L, H d]; `weights`, see average_attn_weights, only where asked for. Errors: ShapeError,
/// DTypeError.
AttentionResult multi_head_attention(const Variable& query, const Variable& key, const Variable& value,
                                     const Variable& in_proj_weight, const Variable& in_proj_bias, Index heads,
                                     const AttentionCall& call = {}, bool with_weights = false);

struct MultiheadAttentionOptions {
  bool bias = true;
  double dropout = 0;                        ///< of the attention weights, in training
  std::optional<Index> kdim = std::nullopt;  ///< width of the keys; E if none is given
  std::optional<Index> vdim = std::nullopt;  ///< width of the values; E if none is given
  DType dtype = DType::f32;
};

/// out_proj(concat_h softmax(q_h k_h^T / sqrt(d)) v_h), [q k v] = x in_proj_weight^T + in_proj_bias. Batch first: query
/// [N, L, E], key and value [N, S, E] -> [N, L, E]; one sequence may do without N. in_proj_weight [3 E, E] (the rows of
/// q, k, v; Glorot uniform), in_proj_bias 0, out_proj a Linear with bias 0. Heads are rows / width of a head, read off
/// the weight: a layer whose heads were pruned is simply one with fewer. Vaswani et al. 2017, section 3.2.2.
///
/// Keys [N, S, kdim] or values [N, S, vdim] of another width than E: q_proj_weight [E, E], k_proj_weight [E, kdim] and
/// v_proj_weight [E, vdim], each Glorot uniform, stand in the place of in_proj_weight, which is undefined; as they are
/// in the other case. With dropout the layer has a generator, the buffer "rng" of nn/dropout.h. Attention stays tiled.
/// Errors: ShapeError, DTypeError; ConfigError if the heads do not divide E, for dropout outside [0, 1], and for
/// self-attention with a KvCache where widths differ.
class MultiheadAttention final : public Module {
 public:
  MultiheadAttention(Rng& rng, Index width, Index heads, MultiheadAttentionOptions options = {});

  /// Self-attention: query, key and value are x.
  Variable operator()(const Variable& x, const AttentionCall& call = {}) const;
  Variable operator()(const Variable& query, const Variable& key, const Variable& value,
                      const AttentionCall& call = {}) const;
  /// Output, and weights [N, L, S], or those of each head; see average_attn_weights.
  AttentionResult with_weights(const Variable& query, const Variable& key, const Variable& value,
                               const AttentionCall& call = {}) const;
  /// Causal self-attention of new positions x [N, T, E] to themselves and to all in the cache, which they join: piece
  /// by piece the same as all at once. The masks are of all S = cache.length() + T keys. An error leaves the cache as
  /// it was. Errors: GradError where a tape records.
  Variable operator()(const Variable& x, KvCache& cache, const AttentionCall& call = {}) const;
  /// Projected keys and values of a memory that many queries will look at: key [N, S, kdim], value [N, S, vdim].
  /// Errors: GradError where a tape records.
  KvCache remember(const Variable& key, const Variable& value) const;
  /// (*this)(query, key, value, call) with what remember(key, value) gave. Errors: GradError where a tape records.
  Variable recall(const Variable& query, const KvCache& kept, const AttentionCall& call = {}) const;

  Index heads() const { return (joint() ? in_proj_weight.shape()[0] / 3 : q_proj_weight.shape()[0]) / head_width_; }
  void members(Visitor& v) override {
    v("in_proj_weight", in_proj_weight)("q_proj_weight", q_proj_weight)("k_proj_weight", k_proj_weight);
    v("v_proj_weight", v_proj_weight)("in_proj_bias", in_proj_bias)("out_proj", out_proj);
    if (rng_) v("rng", rng_->state);
  }

  Parameter in_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight, in_proj_bias;
  Linear out_proj;

 private:
  bool joint() const { return in_proj_weight.defined(); }
  /// Of queries, keys and values.
  std::array<Variable, 3> weights() const;
  AttentionResult attend(const Variable& query, const Variable& key, const Variable& value, const AttentionCall& call,
                         bool with_weights) const;
  /// f(options) with what of dropout and generator is in use now.
  template <class F>
  auto with_options(AttentionOptions options, const F& f) const;

  Index head_width_;
  double dropout_;
  std::optional<RngCell> rng_;  // only with dropout
};

namespace detail {

/// Takes caches back to where they stood if the scope is left by an error.
class CacheGuard final {
 public:
  CacheGuard() = default;
  explicit CacheGuard(KvCache& cache) { watch(cache); }
  ~CacheGuard() {
    if (std::uncaught_exceptions() > errors_)
      for (const auto& [cache, length] : stood_) cache->rewind(length);
  }
  CacheGuard(const CacheGuard&) = delete;
  CacheGuard& operator=(const CacheGuard&) = delete;
  void watch(KvCache& cache) { stood_.emplace_back(&cache, cache.length()); }

 private:
  int errors_ = std::uncaught_exceptions();
  std::vector<std::pair<KvCache*, Index>> stood_;
};

}  // namespace detail
}  // namespace espalier::nn
