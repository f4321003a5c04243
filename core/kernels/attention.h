// Row kernels of scaled dot-product attention: what happens to a tile of scores between two products.
#pragma once

#include "espalier/core/error.h"

namespace espalier::kernels {

/// Scores [rows, columns] of some queries and keys. Row r sees its first `visible` + r columns; what is behind them,
/// as what the mask sets to -infinity, gets probability 0.
template <class T>
struct ScoreTile {
  T* scores;
  Index rows, columns, stride, visible;
  const T* mask;  ///< added to the scores; may be null
  Index mask_stride;
};

/// What softmax needs to know of a row: its largest score, and 1 / sum exp(score - largest); 0 and 0 for a row that
/// sees nothing.
template <class T>
struct SoftmaxRow {
  T largest, factor;
};

template <class T>
struct AttentionKernels {
  /// Scores become exp(score - largest), `largest` and `sum` those of this tile and all before it; rescale[r] is what
  /// earlier terms of the row are to be multiplied with. Before the first tile largest is -infinity and sum 0.
  /// Milakov and Gimelshein 2018, algorithm 3.
  void (*softmax)(const ScoreTile<T>& tile, T* largest, double* sum, T* rescale);
  /// Scores become probabilities.
  void (*probabilities)(const ScoreTile<T>& tile, const SoftmaxRow<T>* softmax);
  /// g = scale p (g - mean[r]), p the probabilities: the gradient of the scores from the one of the probabilities.
  void (*gradient)(const T* p, T* g, Index rows, Index columns, Index stride, const T* mean, T scale);
  /// x[r] *= factor[r]
  void (*scale_rows)(T* x, Index rows, Index columns, Index stride, const T* factor);
};

/// The table of the SIMD target in use, for float or double.
template <class T>
const AttentionKernels<T>& attention() noexcept;

}  // namespace espalier::kernels
