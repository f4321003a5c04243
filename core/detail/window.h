// What the numbers of convolutions, pools and patches have in common.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>

#include "espalier/core/error.h"

namespace espalier::detail {

/// Kernel sizes, strides, padding and dilation of a window: a product of two of them, and the sum of a few and of a
/// length, stay within an Index. Errors: ConfigError.
inline void check_window(const char* op, std::initializer_list<std::array<Index, 2>> numbers) {
  constexpr Index most = Index{1} << 30;
  for (const auto& pair : numbers)
    if (const Index n = std::max(pair[0], pair[1]); n > most)
      fail<ConfigError>("[", op, "] kernel size, stride, padding and dilation must be at most 2^30, got ", n);
}

}  // namespace espalier::detail
