#include "espalier/nn/attention.h"

#include <algorithm>
#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/elementwise.h"

namespace espalier::nn {
namespace {

Variable optional(const Parameter& p) { return p.defined() ? Variable(p) : Variable(); }

Tensor negated(const Tensor& hides) {
  return map_with("mask", hides.to(DType::f32), [](auto v) { return static_cast<decltype(v)>(v == 0); })
      .to(DType::boolean);
}
/// 0, and -infinity where `hides` is true.
Tensor added(const Tensor& hides, DType type) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return map_with("mask", hides.to(type), [](auto v) { return static_cast<decltype(v)>(v == 0 ? 0.0 : -infinity); });
}

/// Both masks of a call as the op takes one: bool, true where a key is seen, or added to the scores.
Variable mask_of(const AttentionCall& call, Index batch, Index keys, DType type) {
  Tensor padding = call.key_padding_mask;
  if (padding.defined()) {
    if (padding.dtype() != DType::boolean)
      fail<DTypeError>("[MultiheadAttention] key_padding_mask must be bool, got ", padding.dtype());
    if (!(padding.shape() == Shape{batch, keys}))
      fail<ShapeError>("[MultiheadAttention] key_padding_mask ", padding.shape(), " must be [N, S], here ",
                       Shape{batch, keys});
    padding = padding.reshape({batch, 1, 1, keys});
  }
  const Variable& mask = call.attn_mask;
  if (!mask.defined()) return padding.defined() ? Variable(negated(padding)) : Variable();
  const bool is_bool = mask.dtype() == DType::boolean;
  if (!padding.defined()) return is_bool ? Variable(negated(mask.value())) : mask;
  return add(is_bool ? Variable(added(mask.value(), type)) : mask, added(padding, type));
}

/// [N, H, T, d] -> [N, T, H d]
Variable joined(const Variable& y) {
  return reshape(transpose(y, 1, 2), {y.shape()[0], y.shape()[2], y.shape()[1] * y.shape()[3]});
}

/// Errors: ShapeError unless all are [N, length, width] of one N, with as many keys as values.
void check(const Variable& query, const Variable& key, const Variable& value, Index width) {
  bool fits = true;
  for (const Variable* v : {&query, &key, &value})
    fits = fits && v->rank() == 3 && v->shape()[2] == width && v->shape()[0] == query.shape()[0];
  if (!fits || key.shape()[1] != value.shape()[1]) [[unlikely]]
    fail<ShapeError>("[MultiheadAttention] query ", query.shape(), ", key ", key.shape(), " and value ", value.shape(),
                     " must be [N, L, E], [N, S, E] and [N, S, E] with E = ", width);
}

/// Rows of q, k or v in a weight or bias: part 0, 1 or 2.
Variable rows_of(const Variable& weight, Index part) {
  if (!weight.defined()) return {};
  const Variable dense = weight.value().packed() ? Variable(weight.value().densify()) : weight;
  const Index each = dense.shape()[0] / 3;
  return narrow(dense, 0, part * each, each);
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
  const Index more = keys.shape()[2], room = k_.defined() ? k_.shape()[2] : 0;
  auto grow = [&](Tensor& held, const Tensor& like) {
    Shape shape = like.shape();
    shape[2] = std::max<Index>({16, 2 * room, length_ + more});
    Tensor larger = Tensor::empty(shape, like.dtype());
    if (length_ > 0) larger.narrow(2, 0, length_).copy_from(held.narrow(2, 0, length_));
    held = std::move(larger);
  };
  if (!k_.defined() || length_ + more > room) {
    grow(k_, keys);
    grow(v_, values);
  }
  k_.narrow(2, length_, more).copy_from(keys);
  v_.narrow(2, length_, more).copy_from(values);
  length_ += more;
}

MultiheadAttention::MultiheadAttention(Rng& rng, Index width, Index heads, MultiheadAttentionOptions options)
    : in_proj_weight(init::xavier_uniform(rng, {3 * width, width}, init::gain::linear, options.dtype)),
      out_proj(rng, width, width, {.bias = options.bias, .dtype = options.dtype}),
      head_width_(heads > 0 ? width / heads : 0) {
  if (heads < 1 || width < 1 || width % heads != 0)
    fail<ConfigError>("[MultiheadAttention] a width of ", width, " is not a multiple of ", heads, " heads");
  if (!options.bias) return;
  in_proj_bias = Parameter(Tensor::zeros({3 * width}, options.dtype));
  out_proj.bias.set_value(Tensor::zeros({width}, options.dtype));
}

AttentionResult multi_head_attention(const Variable& query, const Variable& key, const Variable& value,
                                     const Variable& in_proj_weight, const Variable& in_proj_bias, Index heads,
                                     const AttentionCall& call, bool with_weights) {
  check(query, key, value, in_proj_weight.shape()[-1]);
  auto heads_of = [&](const Variable& x, Index part) {  // [N, H, T, d]
    const Variable y = linear(x, rows_of(in_proj_weight, part), rows_of(in_proj_bias, part));
    return transpose(reshape(y, {y.shape()[0], y.shape()[1], heads, y.shape()[2] / std::max<Index>(1, heads)}), 1, 2);
  };
  const Variable q = heads_of(query, 0), k = heads_of(key, 1), v = heads_of(value, 2),
                 mask = mask_of(call, query.shape()[0], key.shape()[1], query.dtype());
  const AttentionOptions options{.causal = call.causal};
  if (!with_weights) return {joined(scaled_dot_product_attention(q, k, v, mask, options)), {}};
  const AttentionResult result = attention_with_weights(q, k, v, mask, options);
  return {joined(result.output), mean(result.weights, {1})};
}

Variable MultiheadAttention::operator()(const Variable& x, const AttentionCall& call) const {
  return forward([&] {
    check(x, x, x, in_proj_weight.shape()[1]);
    return out_proj(self_attention(linear(x, in_proj_weight, optional(in_proj_bias)), heads(),
                                   mask_of(call, x.shape()[0], x.shape()[1], x.dtype()), {.causal = call.causal}));
  });
}

Variable MultiheadAttention::operator()(const Variable& query, const Variable& key, const Variable& value,
                                        const AttentionCall& call) const {
  return forward([&] {
    return out_proj(
        multi_head_attention(query, key, value, in_proj_weight, optional(in_proj_bias), heads(), call).output);
  });
}

AttentionResult MultiheadAttention::with_weights(const Variable& query, const Variable& key, const Variable& value,
                                                 const AttentionCall& call) const {
  return forward([&]() -> AttentionResult {
    const AttentionResult result =
        multi_head_attention(query, key, value, in_proj_weight, optional(in_proj_bias), heads(), call, true);
    return {out_proj(result.output), result.weights};
  });
}

Variable MultiheadAttention::operator()(const Variable& x, KvCache& cache) const {
  return forward([&] {
    check(x, x, x, in_proj_weight.shape()[1]);
    if (Tape::recording())
      fail<GradError>(
          "[MultiheadAttention] a KvCache holds no gradients. Hint: generate without a Tape, or under "
          "NoTape");
    const Index n = x.shape()[0], length = x.shape()[1], before = cache.length();
    const Tensor qkv = linear(x, in_proj_weight, optional(in_proj_bias)).value();
    const Tensor apart = qkv.reshape({n, length, 3, heads(), head_width_}).permute({2, 0, 3, 1, 4});
    cache.append(apart.select(0, 1), apart.select(0, 2));
    return out_proj(joined(scaled_dot_product_attention(apart.select(0, 0), cache.keys(), cache.values(), {},
                                                        {.causal = true, .causal_offset = before})));
  });
}

}  // namespace espalier::nn
