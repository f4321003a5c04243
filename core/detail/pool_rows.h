// Pooling over windows in general a row of outputs at a time: the rows a window sees are reduced each by itself, along
// all windows at once, and then to one another.
#pragma once

#include "espalier/core/pool.h"

namespace espalier::detail {

/// Rows worth their vectors; not for adaptive pools.
template <class T>
bool pools_by_rows(const PoolGeometry& geometry) noexcept;
/// How many rows of the image or of the result a thread takes at least.
Index rows_grain(const PoolGeometry& geometry) noexcept;

/// Rows [begin, end) of all images' results, as max_pool; planes and rows count as one axis.
template <class T, class Place>
void max_pool_rows(const PoolGeometry& geometry, const T* x, Index begin, Index end, T* y, Place* places);
/// As avg_pool.
template <class T>
void avg_pool_rows(const PoolGeometry& geometry, const T* x, Index begin, Index end, T* y);
/// Rows [begin, end) of all images, as avg_pool_spread.
template <class T>
void avg_pool_spread_rows(const PoolGeometry& geometry, const T* g, Index begin, Index end, T* x);

}  // namespace espalier::detail
