#include "espalier/nn/transformer.h"

#include <utility>

namespace espalier::nn {
namespace {

LinearOptions linear_options(const TransformerOptions& o) { return {.bias = o.bias, .dtype = o.dtype}; }
LayerNormOptions norm_options(const TransformerOptions& o) { return {.eps = o.eps, .bias = o.bias, .dtype = o.dtype}; }
MultiheadAttentionOptions attention_options(const TransformerOptions& o) {
  return {.bias = o.bias, .dropout = o.dropout, .dtype = o.dtype};
}
std::optional<Dropout> dropout_layer(Rng& rng, const TransformerOptions& o) {
  return o.dropout > 0 ? std::optional<Dropout>(std::in_place, rng, o.dropout) : std::nullopt;
}
Variable dropped(const std::optional<Dropout>& layer, const Variable& x) { return layer ? (*layer)(x) : x; }

/// One part of a layer, with its dropout, its residual and its norm in either order.
template <class F>
Variable residual(const Variable& x, const LayerNorm& norm, const std::optional<Dropout>& dropout, bool norm_first,
                  const F& part) {
  return norm_first ? add(x, dropped(dropout, part(norm(x)))) : norm(add(x, dropped(dropout, part(x))));
}
/// linear2(dropout(activation(linear1(x)))) of a layer
template <class Layer, class F>
auto feed_forward(const Layer& layer, const F& activation) {
  return [&](const Variable& v) { return layer.linear2(dropped(layer.dropout, activation(layer.linear1(v)))); };
}

/// run(x, k), run(that, k + 1), ... for all layers of a stack, and its norm.
template <class Stack, class F>
Variable through(const Stack& stack, const Variable& x, const F& run) {
  Variable y = x;
  for (std::size_t k = 0; k < stack.layers.size(); ++k) y = run(y, k);
  return stack.norm ? (*stack.norm)(y) : y;
}

KvCache& own(KvCache& cache) { return cache; }
KvCache& own(DecoderCache& cache) { return cache.self; }
/// The same with a cache for each layer: run(x, k).
template <class Stack, class Cache, class F>
Variable through(const Stack& stack, const Variable& x, std::vector<Cache>& caches, const F& run) {
  if (caches.size() != stack.layers.size())
    fail<ConfigError>("[transformer] ", caches.size(), " caches for ", stack.layers.size(),
                      " layers. Hint: start() makes as many as there are");
  detail::CacheGuard guard;
  for (Cache& cache : caches) guard.watch(own(cache));
  return through(stack, x, run);
}

}  // namespace

TransformerEncoderLayer::TransformerEncoderLayer(Rng& rng, Index width, Index heads, TransformerOptions options)
    : self_attn(rng, width, heads, attention_options(options)),
      linear1(rng, width, options.feedforward, linear_options(options)),
      linear2(rng, options.feedforward, width, linear_options(options)),
      norm1(width, norm_options(options)),
      norm2(width, norm_options(options)),
      dropout(dropout_layer(rng, options)),
      dropout1(dropout_layer(rng, options)),
      dropout2(dropout_layer(rng, options)),
      activation_(std::move(options.activation)),
      norm_first_(options.norm_first) {}

template <class Attend>
Variable TransformerEncoderLayer::block(const Variable& x, const Attend& attend) const {
  const Variable seen = residual(x, norm1, dropout1, norm_first_, attend);
  return residual(seen, norm2, dropout2, norm_first_, feed_forward(*this, activation_));
}
Variable TransformerEncoderLayer::operator()(const Variable& x, const AttentionCall& call) const {
  return forward([&] { return block(x, [&](const Variable& v) { return self_attn(v, call); }); });
}
Variable TransformerEncoderLayer::operator()(const Variable& x, KvCache& cache, const AttentionCall& call) const {
  return forward([&] {
    const detail::CacheGuard guard(cache);
    return block(x, [&](const Variable& v) { return self_attn(v, cache, call); });
  });
}

TransformerDecoderLayer::TransformerDecoderLayer(Rng& rng, Index width, Index heads, TransformerOptions options)
    : self_attn(rng, width, heads, attention_options(options)),
      multihead_attn(rng, width, heads, attention_options(options)),
      linear1(rng, width, options.feedforward, linear_options(options)),
      linear2(rng, options.feedforward, width, linear_options(options)),
      norm1(width, norm_options(options)),
      norm2(width, norm_options(options)),
      norm3(width, norm_options(options)),
      dropout(dropout_layer(rng, options)),
      dropout1(dropout_layer(rng, options)),
      dropout2(dropout_layer(rng, options)),
      dropout3(dropout_layer(rng, options)),
      activation_(std::move(options.activation)),
      norm_first_(options.norm_first) {}

template <class Attend, class Recall>
Variable TransformerDecoderLayer::block(const Variable& x, const Attend& attend, const Recall& recall) const {
  const Variable own = residual(x, norm1, dropout1, norm_first_, attend);
  const Variable seen = residual(own, norm2, dropout2, norm_first_, recall);
  return residual(seen, norm3, dropout3, norm_first_, feed_forward(*this, activation_));
}
Variable TransformerDecoderLayer::operator()(const Variable& x, const Variable& memory, const AttentionCall& call,
                                             const AttentionCall& memory_call) const {
  return forward([&] {
    return block(
        x, [&](const Variable& v) { return self_attn(v, call); },
        [&](const Variable& v) { return multihead_attn(v, memory, memory, memory_call); });
  });
}
DecoderCache TransformerDecoderLayer::start(const Variable& memory) const {
  return forward([&]() -> DecoderCache { return {{}, multihead_attn.remember(memory, memory)}; });
}
Variable TransformerDecoderLayer::operator()(const Variable& x, DecoderCache& cache, const AttentionCall& call,
                                             const AttentionCall& memory_call) const {
  return forward([&] {
    const detail::CacheGuard guard(cache.self);
    return block(
        x, [&](const Variable& v) { return self_attn(v, cache.self, call); },
        [&](const Variable& v) { return multihead_attn.recall(v, cache.memory, memory_call); });
  });
}

TransformerEncoder::TransformerEncoder(Rng& rng, Index depth, Index width, Index heads,
                                       const TransformerOptions& options, bool final_norm) {
  for (Index k = 0; k < depth; ++k) layers.emplace_back(rng, width, heads, options);
  if (final_norm) norm.emplace(width, norm_options(options));
}
Variable TransformerEncoder::operator()(const Variable& x, const AttentionCall& call) const {
  return forward(
      [&] { return through(*this, x, [&](const Variable& v, std::size_t k) { return layers[k](v, call); }); });
}
Variable TransformerEncoder::operator()(const Variable& x, std::vector<KvCache>& caches,
                                        const AttentionCall& call) const {
  return forward([&] {
    return through(*this, x, caches, [&](const Variable& v, std::size_t k) { return layers[k](v, caches[k], call); });
  });
}

TransformerDecoder::TransformerDecoder(Rng& rng, Index depth, Index width, Index heads,
                                       const TransformerOptions& options, bool final_norm) {
  for (Index k = 0; k < depth; ++k) layers.emplace_back(rng, width, heads, options);
  if (final_norm) norm.emplace(width, norm_options(options));
}
Variable TransformerDecoder::operator()(const Variable& x, const Variable& memory, const AttentionCall& call,
                                        const AttentionCall& memory_call) const {
  return forward([&] {
    return through(*this, x, [&](const Variable& v, std::size_t k) { return layers[k](v, memory, call, memory_call); });
  });
}
std::vector<DecoderCache> TransformerDecoder::start(const Variable& memory) const {
  return forward([&] {
    std::vector<DecoderCache> caches;
    for (const TransformerDecoderLayer& layer : layers) caches.push_back(layer.start(memory));
    return caches;
  });
}
Variable TransformerDecoder::operator()(const Variable& x, std::vector<DecoderCache>& caches, const AttentionCall& call,
                                        const AttentionCall& memory_call) const {
  return forward([&] {
    return through(*this, x, caches,
                   [&](const Variable& v, std::size_t k) { return layers[k](v, caches[k], call, memory_call); });
  });
}

}  // namespace espalier::nn
