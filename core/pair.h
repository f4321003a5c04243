// IndexPair: a vertical and a horizontal number, as windows over images want them.
#pragma once

#include <array>
#include <type_traits>

#include "espalier/core/error.h"

namespace espalier {

/// One number stands for both: `.stride = 2`, `.stride = {2, 1}`.
struct IndexPair : std::array<Index, 2> {
  constexpr IndexPair(Index both) noexcept : IndexPair(both, both) {}  // NOLINT: a number is a pair
  constexpr IndexPair(Index vertical, Index horizontal) noexcept : std::array<Index, 2>{vertical, horizontal} {}
  constexpr IndexPair(const std::array<Index, 2>& pair) noexcept : std::array<Index, 2>(pair) {}  // NOLINT
};

/// A size of windows over `axes` axes, as layers are told it.
template <int axes>
using WindowExtent = std::conditional_t<axes == 2, IndexPair, Index>;

inline void append(std::string& text, const std::array<Index, 2>& pair) {
  text += "[" + std::to_string(pair[0]) + ", " + std::to_string(pair[1]) + "]";
}

}  // namespace espalier
