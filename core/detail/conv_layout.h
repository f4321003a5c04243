// How images lie in memory while a convolution reads them.
#pragma once

#include <algorithm>

#include "espalier/core/conv.h"
#include "espalier/core/detail/scratch.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/conv.h"

namespace espalier::detail {

/// Raises ShapeError unless `t` has this shape, DTypeError unless it has the type of `other`.
inline void check_fits(const char* name, const Tensor& t, const Shape& shape, const Tensor& other) {
  check_same_dtype("conv2d", other, t);
  if (t.shape() == shape) [[likely]]
    return;
  fail<ShapeError>("[conv2d] ", name, " ", t.shape(), " does not fit the geometry, which wants ", shape);
}

/// Rows and columns before and behind an image: zeros, or negative for what is left out. With a split of s, pixels
/// s apart lie side by side, in one of s x s planes.
struct ImageLayout {
  Index channels;
  ConvGeometry::Pair size;    ///< of the plain image
  ConvGeometry::Pair before;  ///< zeros
  ConvGeometry::Pair split;
  ConvGeometry::Pair room;  ///< rows and columns of one plane
  bool direct;              ///< the plain image will do

  Index pitch() const noexcept { return room[1]; }
  Index plane() const noexcept { return split[0] * split[1] * room[0] * room[1]; }
  /// Elements of some channels of an image, with a vector more.
  Index elements(Index of_channels, Index lanes) const noexcept { return of_channels * plane() + lanes; }
  /// Where the pixel lies that is `y` rows below and `x` columns right of the first zero.
  Index at(Index y, Index x) const noexcept {
    return ((y % split[0]) * split[1] + x % split[1]) * room[0] * room[1] + y / split[0] * room[1] + x / split[1];
  }
};

/// A layout in which pixels [0, needed) count from the first zero; plain if it may be (nothing is read behind a row).
inline ImageLayout make_layout(Index channels, ConvGeometry::Pair size, ConvGeometry::Pair before,
                               ConvGeometry::Pair split, ConvGeometry::Pair needed, bool may_be_direct) {
  ImageLayout layout{channels, size, before, split, {}, false};
  layout.direct = may_be_direct && before == ConvGeometry::Pair{} && needed[0] <= size[0] && needed[1] <= size[1] &&
                  split == ConvGeometry::Pair{1, 1};
  for (std::size_t a = 0; a < 2; ++a)
    layout.room[a] = layout.direct ? size[a] : std::max<Index>(1, (needed[a] + split[a] - 1) / split[a]);
  return layout;
}

/// Copies channels [first, last) of an image into its layout, whose border is zero already; `to` is where the first of
/// them begins.
template <class T>
void lay_out(const ImageLayout& layout, const T* image, Index first, Index last, T* to) {
  const auto& kernels = kernels::conv<T>();
  ConvGeometry::Pair begin, end;
  for (std::size_t a = 0; a < 2; ++a) {
    begin[a] = std::max<Index>(0, -layout.before[a]);
    end[a] = std::min(layout.size[a], layout.room[a] * layout.split[a] - layout.before[a]);
  }
  const Index height = end[0] - begin[0], width = end[1] - begin[1], line = layout.size[1];
  if (height <= 0 || width <= 0) return;
  const Index top = begin[0] + layout.before[0], left = begin[1] + layout.before[1];
  for (Index c = first; c < last; ++c) {
    const T* from = image + (c * layout.size[0] + begin[0]) * line + begin[1];
    T* plane = to + (c - first) * layout.plane();
    if (layout.split == ConvGeometry::Pair{1, 1}) {
      kernels.copy_rows(from, height, width, line, plane + top * layout.pitch() + left, layout.pitch());
      continue;
    }
    for (Index y = 0; y < height; ++y, from += line) {
      if (layout.split[1] == 1) {
        kernels.copy_rows(from, 1, width, line, plane + layout.at(top + y, left), layout.pitch());
      } else if (layout.split[1] == 2) {
        kernels.split_pairs(from, width, plane + layout.at(top + y, left), plane + layout.at(top + y, left + 1));
      } else {
        for (Index x = 0; x < width; ++x) plane[layout.at(top + y, left + x)] = from[x];
      }
    }
  }
}

/// Channels shared out among registers: groups of at most `most` vectors, as even as can be.
struct VectorGroups {
  VectorGroups(Index channels, Index lanes, Index most)
      : channels_(channels),
        lanes_(lanes),
        vectors((channels + lanes - 1) / lanes),
        count((vectors + most - 1) / most) {}
  Index first_vector(Index group) const noexcept {
    return group * (vectors / count) + std::min(group, vectors % count);
  }
  Index first_channel(Index group) const noexcept { return first_vector(group) * lanes_; }
  Index vectors_of(Index group) const noexcept { return first_vector(group + 1) - first_vector(group); }
  Index channels_of(Index group) const noexcept {
    return std::min(channels_, first_channel(group + 1)) - first_channel(group);
  }

 private:
  Index channels_, lanes_;

 public:
  Index vectors, count;
};

}  // namespace espalier::detail
