// Scaled dot-product attention in tiles: the matrix of scores is never stored.
#pragma once

#include "espalier/core/rng.h"

namespace espalier {

/// Which keys a query sees: those that the mask keeps (bool: true keeps; floating: added to the scores; undefined: all;
/// [..., L, S] or a shape that broadcasts to it) and, if causal, j <= i + offset.
struct AttentionView {
  Tensor mask;
  bool causal = false;
  Index offset = 0;
  double scale = 1;
  double dropout = 0;   ///< each probability is left out with this one, the others divided by 1 - dropout
  Rng random = Rng(0);  ///< drawn from where dropout > 0: a row of key_words(S) words of 64 bits for each query
};
/// Words that hold a bit of each key. See random_bits.
constexpr Index key_words(Index keys) noexcept { return (keys + 63) / 64; }

/// y = softmax(scale q k^T + mask) v. q [..., L, d], k [..., S, d], v [..., S, e], y [..., L, e], all with the same
/// leading axes; views are read, and y is written, where they lie if the last axis is contiguous. A query that sees
/// nothing gets 0. Returns of each query what the backward pass needs: [..., L, 2].
/// Rabe and Staats 2021; Dao et al. 2022, algorithm 1. Cost: 2 L S (d + e) operations, half of it if causal.
Tensor attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionView& view, Tensor& y);

/// Views that the gradients are written to; undefined ones are not wanted. Each last axis is contiguous.
struct AttentionGradients {
  Tensor q, k, v;
};
/// Gradients from g = d loss / d y: scores are computed again, tile by tile. Dao et al. 2022, algorithm 4.
void attention_backward(const Tensor& g, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionView& view,
                        const Tensor& y, const Tensor& softmax, AttentionGradients& out);

/// Uninitialised, of this shape but for the length of the last axis, laid out in memory in the same order of axes, the
/// last one contiguous: so that what is permuted the same way back is contiguous.
Tensor empty_in_order_of(const Tensor& like, Index last);

}  // namespace espalier
