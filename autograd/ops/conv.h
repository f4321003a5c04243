// Differentiable convolutions, of images and of sequences. f32, f64.
//
// x is [N, C, H, W] (sequences [N, C, L]) or the same without N. All can be differentiated as often as one likes: the
// gradients of a convolution are a transposed convolution and a convolution, and so on.
// Errors of all: ShapeError, DTypeError; ConfigError for options without meaning.
// Settings of all: of each spatial axis its stride, then of each its zeros in front, its dilation, its output_padding (0
// but for transposed ones); then groups. 9 numbers for images, 5 for sequences.
#pragma once

#include <string_view>

#include "espalier/autograd/tape.h"
#include "espalier/core/pair.h"

namespace espalier {

/// Zeros around an image: a number, a pair, "valid" (none) or "same" (as many as keep the size; needs stride 1; if the
/// sum is odd, the last side gets the one more).
struct ConvPadding {
  constexpr ConvPadding(Index both) : zeros(both) {}  // NOLINT: a number is a padding
  constexpr ConvPadding(Index vertical, Index horizontal) : zeros(vertical, horizontal) {}
  constexpr ConvPadding(const std::array<Index, 2>& pair) : zeros(pair) {}  // NOLINT
  template <std::size_t n>
  constexpr ConvPadding(const char (&name)[n]) : mode(name, n - 1) {}  // NOLINT: so is its name

  IndexPair zeros = 0;
  std::string_view mode = "";  ///< "", "same" or "valid"
};

/// Extent: IndexPair for images, Index for sequences.
template <class Extent>
struct ConvOptions {
  Extent stride = 1;
  ConvPadding padding = 0;
  Extent dilation = 1;
  Index groups = 1;
};
using Conv2dOptions = ConvOptions<IndexPair>;
using Conv1dOptions = ConvOptions<Index>;

template <class Extent>
struct ConvTransposeOptions {
  Extent stride = 1;
  Extent padding = 0;
  Extent output_padding = 0;  ///< less than stride or dilation
  Extent dilation = 1;
  Index groups = 1;
};
using ConvTranspose2dOptions = ConvTransposeOptions<IndexPair>;
using ConvTranspose1dOptions = ConvTransposeOptions<Index>;

/// y[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] x[n, c', i s + a d - p, j s + b d - p].
/// weight [out, in / groups, kh, kw], bias [out] or undefined -> y [N, out, H', W'], H' = (H + 2 p - d (kh - 1) - 1) / s
/// + 1, rounded down. Gradient: dx is the transposed convolution of g, dweight the correlation of x with g.
Variable conv2d(const Variable& x, const Variable& weight, const Variable& bias = {},
                const Conv2dOptions& options = {});
/// The same over sequences: weight [out, in / groups, k]. The padding is one number, of both ends.
Variable conv1d(const Variable& x, const Variable& weight, const Variable& bias = {},
                const Conv1dOptions& options = {});
/// The adjoint of conv2d in x: x [N, in, H, W], weight [in, out / groups, kh, kw] -> [N, out, H', W'],
/// H' = (H - 1) s - 2 p + d (kh - 1) + output_padding + 1.
Variable conv_transpose2d(const Variable& x, const Variable& weight, const Variable& bias = {},
                          const ConvTranspose2dOptions& options = {});
/// The same over sequences.
Variable conv_transpose1d(const Variable& x, const Variable& weight, const Variable& bias = {},
                          const ConvTranspose1dOptions& options = {});

}  // namespace espalier
