#include "espalier/nn/attention.h"

#include <algorithm>
#include <array>
#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/compare.h"
#include "espalier/core/elementwise.h"

namespace espalier::nn {
namespace {

Variable optional(const Parameter& p) { return p.defined() ? Variable(p) : Variable(); }

/// 0, and -infinity where `hides` is true.
Tensor added(const Tensor& hides, DType type) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return where(hides, Tensor::scalar(-infinity, type), Tensor::scalar(0, type));
}

/// Shape of the scores.
struct Scores {
  Index batch, heads, queries, keys;
};

/// attn_mask as one that broadcasts to the scores. Errors: ShapeError.
Variable fitted(const Variable& mask, const Scores& s) {
  auto fits = [&](int axis, Index length) {
    return mask.rank() < -axis || mask.shape()[axis] == 1 || mask.shape()[axis] == length;
  };
  const bool plane = fits(-1, s.keys) && fits(-2, s.queries);
  if (mask.rank() == 3 && plane && mask.shape()[0] == s.batch * s.heads)
    return reshape(mask, {s.batch, s.heads, mask.shape()[1], mask.shape()[2]});
  const bool open = mask.rank() == 3 && mask.shape()[0] == 1;
  if (plane && (open || mask.rank() <= 2 || (mask.rank() == 4 && fits(-3, s.heads) && fits(-4, s.batch)))) return mask;
  fail<ShapeError>("[MultiheadAttention] attn_mask ", mask.shape(),
                   " must be [L, S], [N, 1, L, S] with a mask of each "
                   "sample, [1, H, L, S] with one of each head, or [N * H, L, S], here N = ",
                   s.batch, ", H = ", s.heads, ", L = ", s.queries, ", S = ", s.keys,
                   ". Hint: mask.unsqueeze(1) for one of each sample; keys to hide from all queries go to "
                   "key_padding_mask [N, S]");
}

/// Both masks of a call as the op takes one: bool, true where a key is seen, or added to the scores.
Variable mask_of(const AttentionCall& call, const Scores& scores, DType type) {
  const Index batch = scores.batch, keys = scores.keys;
  Tensor padding = call.key_padding_mask;
  if (padding.defined()) {
    if (padding.dtype() != DType::boolean)
      fail<DTypeError>("[MultiheadAttention] key_padding_mask must be bool, got ", padding.dtype());
    if (!(padding.shape() == Shape{batch, keys}))
      fail<ShapeError>("[MultiheadAttention] key_padding_mask ", padding.shape(), " must be [N, S], here ",
                       Shape{batch, keys});
    padding = padding.reshape({batch, 1, 1, keys});
  }
  if (!call.attn_mask.defined()) return padding.defined() ? Variable(logical_not(padding)) : Variable();
  const Variable mask = fitted(call.attn_mask, scores);
  const bool is_bool = mask.dtype() == DType::boolean;
  if (!padding.defined()) return is_bool ? Variable(logical_not(mask.value())) : mask;
  return add(is_bool ? Variable(added(mask.value(), type)) : mask, added(padding, type));
}

/// [N, H, T, d] -> [N, T, H d]
Variable joined(const Variable& y) {
  return reshape(transpose(y, 1, 2), {y.shape()[0], y.shape()[2], y.shape()[1] * y.shape()[3]});
}

/// [N, T, H d] -> [N, H, T, d]
Variable split(const Variable& y, Index heads) {
  return transpose(reshape(y, {y.shape()[0], y.shape()[1], heads, y.shape()[2] / std::max<Index>(1, heads)}), 1, 2);
}

/// One sequence [T, E] as a batch of one, as `query` is.
Variable batched(const Variable& x, const Variable& query) { return query.rank() == 2 ? unsqueeze(x, 0) : x; }
AttentionCall batched(AttentionCall call, const Variable& query) {
  if (Tensor& padding = call.key_padding_mask; query.rank() == 2 && padding.defined()) padding = padding.unsqueeze(0);
  return call;
}
/// And back. Weights of attention have an axis more, or two.
Variable unbatched(const Variable& y, const Variable& query) {
  return query.rank() == 2 && y.defined() ? squeeze(y, 0) : y;
}

void refuse_to_record() {
  if (Tape::recording())
    fail<GradError>(
        "[MultiheadAttention] a KvCache holds no gradients. Hint: generate without a Tape, or under NoTape");
}

/// Last axes that query, key and value must have.
struct Widths {
  Index query, key, value;
};
/// Errors: ShapeError unless all are [N, length, width] of one N, with as many keys as values.
void check(const Variable& query, const Variable& key, const Variable& value, const Widths& widths) {
  auto fits = [&](const Variable& v, Index width) {
    return v.rank() == 3 && v.shape()[2] == width && v.shape()[0] == key.shape()[0];
  };
  if (fits(key, widths.key) && fits(query, widths.query) && fits(value, widths.value) &&
      key.shape()[1] == value.shape()[1]) [[likely]]
    return;
  if (widths.key == widths.query && widths.value == widths.query)
    fail<ShapeError>("[MultiheadAttention] query ", query.shape(), ", key ", key.shape(), " and value ", value.shape(),
                     " must be [N, L, E], [N, S, E] and [N, S, E] with E = ", widths.query);
  fail<ShapeError>("[MultiheadAttention] query ", query.shape(), ", key ", key.shape(), " and value ", value.shape(),
                   " must be [N, L, E], [N, S, kdim] and [N, S, vdim] with E = ", widths.query, ", kdim = ", widths.key,
                   " and vdim = ", widths.value);
}

/// Rows of q, k or v in a weight or bias: part 0, 1 or 2.
Variable rows_of(const Variable& weight, Index part) {
  if (!weight.defined()) return {};
  const Variable dense = weight.value().packed() ? Variable(weight.value().densify()) : weight;
  const Index each = dense.shape()[0] / 3;
  return narrow(dense, 0, part * each, each);
}

/// Attention of the projected [N, T, H d].
AttentionResult attention_of(const std::array<Variable, 3>& projected, Index heads, const Variable& mask,
                             const AttentionOptions& options, const AttentionCall& call, bool with_weights) {
  const Variable q = split(projected[0], heads), k = split(projected[1], heads), v = split(projected[2], heads);
  if (!with_weights) return {joined(scaled_dot_product_attention(q, k, v, mask, options)), {}};
  const AttentionResult result = attention_with_weights(q, k, v, mask, options);
  return {joined(result.output), call.average_attn_weights ? mean(result.weights, {1}) : result.weights};
}

bool one_width(Index width, const MultiheadAttentionOptions& o) {
  return o.kdim.value_or(width) == width && o.vdim.value_or(width) == width;
}
/// Undefined where not wanted.
Parameter projection(Rng& rng, Index rows, Index columns, bool wanted, const MultiheadAttentionOptions& o) {
  return wanted ? Parameter(init::xavier_uniform(rng, {rows, columns}, init::gain::linear, o.dtype)) : Parameter();
}

/// q, k and v; the bias holds the three of them.
std::array<Variable, 3> project(const Variable& query, const Variable& key, const Variable& value,
                                const std::array<Variable, 3>& weights, const Variable& bias) {
  return {linear(query, weights[0], rows_of(bias, 0)), linear(key, weights[1], rows_of(bias, 1)),
          linear(value, weights[2], rows_of(bias, 2))};
}
std::array<Variable, 3> parts_of(const Variable& weight) {
  return {rows_of(weight, 0), rows_of(weight, 1), rows_of(weight, 2)};
}

}  // namespace

KvCache::KvCache(const KvCache& other)
    : k_(other.k_.defined() ? other.k_.clone() : Tensor()),
      v_(other.v_.defined() ? other.v_.clone() : Tensor()),
      length_(other.length_) {}

KvCache& KvCache::operator=(KvCache other) noexcept {
  std::swap(k_, other.k_);
  std::swap(v_, other.v_);
  std::swap(length_, other.length_);
  return *this;
}

void KvCache::append(const Tensor& keys, const Tensor& values) {
  auto fits = [](const Tensor& held, const Tensor& more) {
    const Shape &a = held.shape(), &b = more.shape();
    return b.rank() == 4 && (!held.defined() || (a[0] == b[0] && a[1] == b[1] && a[3] == b[3]));
  };
  if (!fits(k_, keys) || !fits(v_, values) || keys.shape()[2] != values.shape()[2])
    fail<ShapeError>("[KvCache] keys ", keys.shape(), " and values ", values.shape(), " do not continue ", k_.shape(),
                     " and ", v_.shape(), ", [N, H, room, d]. Hint: begin a new sequence with a new cache");
  check_same_dtype("KvCache", keys, values);
  if (k_.defined() && k_.dtype() != keys.dtype())
    fail<DTypeError>("[KvCache] keys and values are ", keys.dtype(), ", and those before them ", k_.dtype(),
                     ". Hint: begin a new sequence with a new cache");
  const Index more = keys.shape()[2], room = k_.defined() ? k_.shape()[2] : 0;
  auto grown = [&](const Tensor& held, const Tensor& like) {
    Shape shape = like.shape();
    shape[2] = std::max<Index>({16, 2 * room, length_ + more});
    Tensor larger = Tensor::empty(shape, like.dtype());
    if (length_ > 0) larger.narrow(2, 0, length_).copy_from(held.narrow(2, 0, length_));
    return larger;
  };
  if (!k_.defined() || length_ + more > room) {
    Tensor k = grown(k_, keys), v = grown(v_, values);
    k_ = std::move(k);
    v_ = std::move(v);
  }
  k_.narrow(2, length_, more).copy_from(keys);
  v_.narrow(2, length_, more).copy_from(values);
  length_ += more;
}

Tensor KvCache::seen(const Tensor& held) const {
  if (!held.defined())
    fail<ShapeError>(
        "[KvCache] is empty, and what shape its keys and values will have is not known yet. Hint: ask "
        "length() first");
  return held.narrow(2, 0, length_);
}

void KvCache::rewind(Index length) {
  if (length < 0 || length > length_)
    fail<IndexError>("[KvCache] cannot go back to ", length, " positions, it holds ", length_);
  if (length == 0)
    *this = {};  // a sequence of any shape may begin
  else
    length_ = length;
}

namespace {
Index checked_width(Index width, Index heads) {
  if (heads < 1 || width < 1 || width % heads != 0)
    fail<ConfigError>("[MultiheadAttention] a width of ", width, " is not a multiple of ", heads, " heads");
  return width;
}
}  // namespace

MultiheadAttention::MultiheadAttention(Rng& rng, Index width, Index heads, MultiheadAttentionOptions options)
    : in_proj_weight(projection(rng, 3 * checked_width(width, heads), width, one_width(width, options), options)),
      q_proj_weight(projection(rng, width, width, !one_width(width, options), options)),
      k_proj_weight(projection(rng, width, options.kdim.value_or(width), !one_width(width, options), options)),
      v_proj_weight(projection(rng, width, options.vdim.value_or(width), !one_width(width, options), options)),
      out_proj(rng, width, width, {.bias = options.bias, .dtype = options.dtype}),
      head_width_(width / heads),
      dropout_(options.dropout) {
  if (!(dropout_ >= 0 && dropout_ <= 1))
    fail<ConfigError>("[MultiheadAttention] dropout must be in [0, 1], got ", dropout_);
  if (dropout_ > 0) rng_.emplace(rng);
  if (!options.bias) return;
  in_proj_bias = Parameter(Tensor::zeros({3 * width}, options.dtype));
  out_proj.bias.set_value(Tensor::zeros({width}, options.dtype));
}

AttentionResult multi_head_attention(const Variable& query, const Variable& key, const Variable& value,
                                     const Variable& in_proj_weight, const Variable& in_proj_bias, Index heads,
                                     const AttentionCall& call, bool with_weights) {
  const Index width = in_proj_weight.shape()[-1];
  check(query, key, value, {width, width, width});
  return attention_of(project(query, key, value, parts_of(in_proj_weight), in_proj_bias), heads,
                      mask_of(call, {query.shape()[0], heads, query.shape()[1], key.shape()[1]}, query.dtype()),
                      {.causal = call.causal}, call, with_weights);
}

template <class F>
auto MultiheadAttention::with_options(AttentionOptions options, const F& f) const {
  if (!rng_ || !training()) return f(options);
  return rng_->use([&](Rng& rng) {
    options.dropout = dropout_;
    options.rng = &rng;
    return f(options);
  });
}

std::array<Variable, 3> MultiheadAttention::weights() const {
  return joint() ? parts_of(in_proj_weight) : std::array<Variable, 3>{q_proj_weight, k_proj_weight, v_proj_weight};
}

AttentionResult MultiheadAttention::attend(const Variable& query, const Variable& key, const Variable& value,
                                           const AttentionCall& call, bool with_weights) const {
  const std::array<Variable, 3> w = weights();
  const Variable q = batched(query, query), k = batched(key, query), v = batched(value, query);
  check(q, k, v, {w[0].shape()[1], w[1].shape()[1], w[2].shape()[1]});
  const Variable mask = mask_of(batched(call, query), {q.shape()[0], heads(), q.shape()[1], k.shape()[1]}, q.dtype());
  const AttentionResult result = with_options({.causal = call.causal}, [&](const AttentionOptions& options) {
    return attention_of(project(q, k, v, w, optional(in_proj_bias)), heads(), mask, options, call, with_weights);
  });
  return {unbatched(result.output, query), unbatched(result.weights, query)};
}

Variable MultiheadAttention::operator()(const Variable& x, const AttentionCall& call) const {
  return forward([&] {
    if (!joint()) return out_proj(attend(x, x, x, call, false).output);
    const Index width = in_proj_weight.shape()[1];
    const Variable in = batched(x, x);
    check(in, in, in, {width, width, width});
    const Variable mask = mask_of(batched(call, x), {in.shape()[0], heads(), in.shape()[1], in.shape()[1]}, x.dtype());
    return with_options({.causal = call.causal}, [&](const AttentionOptions& options) {
      const Variable projected = linear(in, in_proj_weight, optional(in_proj_bias));
      return out_proj(unbatched(self_attention(projected, heads(), mask, options), x));
    });
  });
}

Variable MultiheadAttention::operator()(const Variable& query, const Variable& key, const Variable& value,
                                        const AttentionCall& call) const {
  return forward([&] { return out_proj(attend(query, key, value, call, false).output); });
}

AttentionResult MultiheadAttention::with_weights(const Variable& query, const Variable& key, const Variable& value,
                                                 const AttentionCall& call) const {
  return forward([&]() -> AttentionResult {
    const AttentionResult result = attend(query, key, value, call, true);
    return {out_proj(result.output), result.weights};
  });
}

Variable MultiheadAttention::operator()(const Variable& x, KvCache& cache, const AttentionCall& call) const {
  return forward([&] {
    if (!joint())
      fail<ConfigError>(
          "[MultiheadAttention] a KvCache is of self-attention, and here keys and values have widths of their own");
    const Index width = in_proj_weight.shape()[1];
    const Variable in = batched(x, x);
    check(in, in, in, {width, width, width});
    refuse_to_record();
    const Index n = in.shape()[0], length = in.shape()[1], before = cache.length();
    const Variable mask = mask_of(batched(call, x), {n, heads(), length, before + length}, x.dtype());
    const Tensor qkv = linear(in, in_proj_weight, optional(in_proj_bias)).value();
    const Tensor apart = qkv.reshape({n, length, 3, heads(), head_width_}).permute({2, 0, 3, 1, 4});
    const detail::CacheGuard guard(cache);
    cache.append(apart.select(0, 1), apart.select(0, 2));
    return with_options({.causal = true, .causal_offset = before}, [&](const AttentionOptions& options) {
      const Variable y = scaled_dot_product_attention(apart.select(0, 0), cache.keys(), cache.values(), mask, options);
      return out_proj(unbatched(joined(y), x));
    });
  });
}

KvCache MultiheadAttention::remember(const Variable& key, const Variable& value) const {
  return forward([&] {
    refuse_to_record();
    const std::array<Variable, 3> w = weights();
    const Variable k = batched(key, key), v = batched(value, key);
    const Index kdim = w[1].shape()[1], vdim = w[2].shape()[1];
    if (k.rank() != 3 || v.rank() != 3 || k.shape()[0] != v.shape()[0] || k.shape()[1] != v.shape()[1] ||
        k.shape()[2] != kdim || v.shape()[2] != vdim)
      fail<ShapeError>("[MultiheadAttention] key ", key.shape(), " and value ", value.shape(),
                       " must be [N, S, kdim] and [N, S, vdim] with kdim = ", kdim, " and vdim = ", vdim);
    const Variable bias = optional(in_proj_bias);
    KvCache kept;
    kept.append(split(linear(k, w[1], rows_of(bias, 1)), heads()).value(),
                split(linear(v, w[2], rows_of(bias, 2)), heads()).value());
    return kept;
  });
}

Variable MultiheadAttention::recall(const Variable& query, const KvCache& kept, const AttentionCall& call) const {
  return forward([&] {
    refuse_to_record();
    if (kept.length() == 0)
      fail<ConfigError>("[MultiheadAttention] the cache holds no keys. Hint: recall(query, remember(key, value))");
    const std::array<Variable, 3> w = weights();
    const Variable q = batched(query, query);
    const Index n = kept.keys().shape()[0], width = w[0].shape()[1];
    if (q.rank() != 3 || q.shape()[0] != n || q.shape()[2] != width)
      fail<ShapeError>("[MultiheadAttention] query ", query.shape(), " must be [N, L, E] with E = ", width,
                       " and N = ", n, " as the keys it is to see");
    const Variable mask = mask_of(batched(call, query), {n, heads(), q.shape()[1], kept.length()}, q.dtype());
    return with_options({.causal = call.causal}, [&](const AttentionOptions& options) {
      const Variable projected = split(linear(q, w[0], rows_of(optional(in_proj_bias), 0)), heads());
      const Variable y = scaled_dot_product_attention(projected, kept.keys(), kept.values(), mask, options);
      return out_proj(unbatched(joined(y), query));
    });
  });
}

}  // namespace espalier::nn
