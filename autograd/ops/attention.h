// Differentiable attention. f32, f64. Errors of all: ShapeError, DTypeError.
// Settings: scale as bits (see number_of), causal (0, 1), causal_offset; of self_attention, heads before them.
#pragma once

#include <optional>

#include "espalier/autograd/tape.h"
#include "espalier/core/rng.h"

namespace espalier {

struct AttentionOptions {
  bool causal = false;      ///< query i sees keys j <= i + causal_offset only
  Index causal_offset = 0;  ///< the number of keys before the first query, where queries continue a sequence
  std::optional<double> scale = std::nullopt;  ///< of the scores; 1 / sqrt(d) if none is given
  double dropout = 0;  ///< each probability is left out with this one, the others divided by 1 - dropout
  Rng* rng = nullptr;  ///< drawn from if dropout > 0: 16 blocks for each query and 64 keys
};

/// softmax(scale q k^T + mask) v. q [..., L, d], k [..., S, d], v [..., S, e] -> [..., L, e]; leading axes broadcast
/// (one head of keys for many of queries). mask [..., L, S] or what broadcasts to it: bool, true where a query sees a
/// key, or floating, added to the scores; undefined: all are seen. A query that sees nothing gets 0 and no gradient.
///
/// The scores are never stored as a whole: tiles of them are computed, used and forgotten, and again in the backward
/// pass; tiles above the diagonal are left out if causal. Kept are the inputs, the output and two numbers a query. A
/// mask that wants a gradient itself has a backward pass that does store them. What dropout leaves out is drawn tile by
/// tile, and again in the backward pass. Errors: also ConfigError for dropout outside [0, 1], or without an rng.
/// Vaswani et al. 2017, eq. 1; Dao et al. 2022.
/// Cost: 2 L S (d + e) operations a head, 2.5 times that backward.
Variable scaled_dot_product_attention(const Variable& q, const Variable& k, const Variable& v,
                                      const Variable& mask = {}, AttentionOptions options = {});

/// The same for queries, keys and values of one projection: x [..., T, 3 H d], the queries of all heads, the keys, the
/// values -> [..., T, H d], the heads side by side. Nothing is split, permuted or copied on the way; mask [..., H, T, T].
Variable self_attention(const Variable& x, Index heads, const Variable& mask = {}, AttentionOptions options = {});

/// Output, and the probabilities [..., L, S] it is made of (behind dropout), which are stored for it.
struct AttentionResult {
  Variable output, weights;
};
AttentionResult attention_with_weights(const Variable& q, const Variable& k, const Variable& v,
                                       const Variable& mask = {}, AttentionOptions options = {});

}  // namespace espalier
