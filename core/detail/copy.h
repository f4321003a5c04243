// Copies between strided views, whatever they hold.
#pragma once

#include <cstddef>

#include "espalier/core/dims.h"

namespace espalier::detail {

/// to <- from, both of `shape`, strides in elements of `element_size` (1, 4 or 8) bytes; they do not overlap.
/// Cost: one pass over memory, in parallel; where the last axis of one side is another axis of the other, by blocks that
/// are transposed in the cache.
void copy_elements(const std::byte* from, const Dims& from_strides, std::byte* to, const Dims& to_strides,
                   const Shape& shape, std::size_t element_size);

}  // namespace espalier::detail
