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
Variable TransformerEncoderLayer::operator()(const Variable& x, const AttentionCall& call) const {
  return forward([&] {
    const Variable seen =
        residual(x, norm1, dropout1, norm_first_, [&](const Variable& v) { return self_attn(v, call); });
    return residual(seen, norm2, dropout2, norm_first_, feed_forward(*this, activation_));
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
Variable TransformerDecoderLayer::operator()(const Variable& x, const Variable& memory, const AttentionCall& call,
                                             const AttentionCall& memory_call) const {
  return forward([&] {
    const Variable own =
        residual(x, norm1, dropout1, norm_first_, [&](const Variable& v) { return self_attn(v, call); });
    const Variable seen = residual(own, norm2, dropout2, norm_first_,
                                   [&](const Variable& v) { return multihead_attn(v, memory, memory, memory_call); });
    return residual(seen, norm3, dropout3, norm_first_, feed_forward(*this, activation_));
  });
}

TransformerEncoder::TransformerEncoder(Rng& rng, Index depth, Index width, Index heads,
                                       const TransformerOptions& options, bool final_norm) {
  for (Index k = 0; k < depth; ++k) layers.emplace_back(rng, width, heads, options);
  if (final_norm) norm.emplace(width, norm_options(options));
}
Variable TransformerEncoder::operator()(const Variable& x, const AttentionCall& call) const {
  return forward([&] {
    Variable y = x;
    for (const TransformerEncoderLayer& layer : layers) y = layer(y, call);
    return norm ? (*norm)(y) : y;
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
    Variable y = x;
    for (const TransformerDecoderLayer& layer : layers) y = layer(y, memory, call, memory_call);
    return norm ? (*norm)(y) : y;
  });
}

}  // namespace espalier::nn
