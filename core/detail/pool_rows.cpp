#include "espalier/core/detail/pool_rows.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "espalier/core/kernels/conv.h"
#include "espalier/core/kernels/pool.h"

namespace espalier::detail {
namespace {

using Window = PoolGeometry::Window;

std::size_t cells(Index n) { return static_cast<std::size_t>(n); }

/// A row of an image, padded and split by the stride of its windows: value v is cell (v + before) / stride of part
/// (v + before) % stride.
template <class T>
class SplitRow {
 public:
  SplitRow(const PoolGeometry& g, Index pitch, T padding)
      : stride_(g.stride[1]),
        before_(g.before[1]),
        size_(g.size[1]),
        pitch_(std::max(pitch, (size_ - 1 + before_) / stride_ + 1)),
        cells_(cells(stride_ * pitch_), padding) {}

  T* part(Index k) { return cells_.data() + k * pitch_; }
  void load(const T* row) {
    walk([&](T* cell, Index v) { *cell = row[v]; },
         [&](T* even, T* odd, Index v, Index n) { kernels::conv<T>().split_pairs(row + v, 2 * n, even, odd); });
  }
  void store(T* row) {
    walk([&](const T* cell, Index v) { row[v] = *cell; },
         [&](const T* even, const T* odd, Index v, Index n) {
           kernels::conv<T>().join_pairs(even, odd, 2 * n, row + v);
         });
  }

 private:
  /// Calls one(cell, v) for every value, but pairs(cell, next cell, v, n) for n pairs of a stride of 2.
  template <class One, class Pairs>
  void walk(One&& one, Pairs&& pairs) {
    Index v = 0, k = before_ % stride_, at = before_ / stride_;
    auto step = [&] {
      one(part(k) + at, v++);
      if (++k == stride_) k = 0, ++at;
    };
    if (stride_ == 2) {
      if (k == 1) step();
      const Index n = (size_ - v) / 2;
      pairs(part(0) + at, part(1) + at, v, n);
      v += 2 * n;
      at += n;
    }
    while (v < size_) step();
  }

  Index stride_, before_, size_, pitch_;
  std::vector<T> cells_;
};

/// A padded row as windows see it.
template <class T>
class TapRow {
 public:
  TapRow(const PoolGeometry& g, Index columns, T padding)
      : row_(g, columns + (g.kernel[1] - 1) * g.dilation[1] / g.stride[1], padding) {
    for (Index t = 0; t < g.kernel[1]; ++t) {
      const Index at = t * g.dilation[1];
      taps_.push_back(row_.part(at % g.stride[1]) + at / g.stride[1]);
    }
  }
  TapRow(const TapRow&) = delete;
  TapRow& operator=(const TapRow&) = delete;

  /// [t][j]: value t of window j.
  const T* const* load(const T* row) {
    row_.load(row);
    return taps_.data();
  }

 private:
  SplitRow<T> row_;
  std::vector<const T*> taps_;
};

/// The last rows that were computed, found by their numbers; `room` of them in turn.
class Recent {
 public:
  explicit Recent(Index room) : room_(room), rows_(cells(room), -1) {}
  Index slot(Index row) const { return row % room_; }
  /// Whether its slot must be filled; from now on it counts as filled.
  bool misses(Index row) { return std::exchange(rows_[cells(slot(row))], row) != row; }

 private:
  Index room_;
  std::vector<Index> rows_;
};

/// Lengths of the windows of a row, to be multiplied by their height; all 1 where a divisor stands for both.
std::vector<double> lengths_of(const PoolGeometry& g) {
  std::vector<double> lengths(cells(g.result[1]), 1.0);
  for (Index j = 0; g.divisor == 0 && j < g.result[1]; ++j)
    lengths[cells(j)] = static_cast<double>(g.window(1, j).length);
  return lengths;
}
double height_of(const PoolGeometry& g, const Window& rows) {
  return g.divisor != 0 ? g.divisor : static_cast<double>(rows.length);
}

}  // namespace

template <class T>
bool pools_by_rows(const PoolGeometry& g) noexcept {
  // Narrow rows leave vectors empty; places are counted in T.
  return !g.adaptive && 2 * g.result[1] >= kernels::pool<T>().lanes && g.kernel[0] * g.kernel[1] < (Index{1} << 20);
}

Index rows_grain(const PoolGeometry& g) noexcept {
  const Index reach = (g.kernel[0] - 1) * g.dilation[0] + 1;  // what a thread may have to begin with
  return std::max((Index{1} << 15) / std::max(g.size[1], g.result[1]), 2 * reach);
}

template <class T, class Place>
void max_pool_rows(const PoolGeometry& g, const T* x, Index begin, Index end, T* y, Place* places) {
  const auto& kernel = kernels::pool<T>();
  const Index n = g.result[1], pitch = (n + kernel.lanes - 1) / kernel.lanes * kernel.lanes;
  const Index room = std::min((g.kernel[0] - 1) * g.dilation[0] + 1, g.size[0]);
  TapRow<T> row(g, pitch, -std::numeric_limits<T>::infinity());
  std::vector<T> start(cells(pitch)), best(cells(room * pitch)), place(best.size()), row_place(cells(n));
  for (Index j = 0; j < n; ++j)  // the first place of each window that is not padding
    start[cells(j)] = static_cast<T>((g.window(1, j).begin - g.begin(1, j)) / g.dilation[1]);
  std::vector<const T*> bests, its_places;
  Recent recent(room);
  for (Index k = begin; k < end; ++k) {
    const Index i = k % g.result[0], plane = k / g.result[0] * g.size[0];
    const Window rows = g.window(0, i);
    bests.clear();
    its_places.clear();
    for (Index u = plane + rows.begin; u < plane + rows.end; u += g.dilation[0]) {
      const Index slot = recent.slot(u) * pitch;
      bests.push_back(best.data() + slot);
      its_places.push_back(place.data() + slot);
      if (recent.misses(u))
        kernel.max_of_taps(row.load(x + u * g.size[1]), g.kernel[1], start.data(), pitch, best.data() + slot,
                           place.data() + slot);
    }
    const Index first = (rows.begin - g.begin(0, i)) / g.dilation[0];
    kernel.max_of_rows(bests.data(), its_places.data(), static_cast<Index>(bests.size()), first, g.kernel[1], n,
                       y + k * n, row_place.data());
    for (Index j = 0; j < n; ++j) places[k * n + j] = static_cast<Place>(row_place[cells(j)]);
  }
}

template <class T>
void avg_pool_rows(const PoolGeometry& g, const T* x, Index begin, Index end, T* y) {
  const auto& kernel = kernels::pool<T>();
  const Index n = g.result[1];
  TapRow<double> row(g, n, 0);
  const std::vector<double> lengths = lengths_of(g);
  std::vector<double> sum(cells(g.size[1]));
  for (Index k = begin; k < end; ++k) {
    const Window rows = g.window(0, k % g.result[0]);
    kernel.add_image_rows(x + (k / g.result[0] * g.size[0] + rows.begin) * g.size[1], rows.end - rows.begin, g.size[1],
                          sum.data());
    kernel.mean_of_taps(row.load(sum.data()), g.kernel[1], lengths.data(), height_of(g, rows), n, y + k * n);
  }
}

template <class T>
void avg_pool_spread_rows(const PoolGeometry& g, const T* gradient, Index begin, Index end, T* x) {
  const auto& kernel = kernels::pool<T>();
  const Index n = g.result[1], stride = g.stride[1], most = (g.kernel[1] - 1) / stride;
  const Index room = (g.kernel[0] - 1) / g.stride[0] + 1, parts = (g.size[1] - 1 + g.before[1]) / stride + 1;
  const std::vector<double> lengths = lengths_of(g);
  std::vector<T> shares(cells(room * n));
  // Window j - e for all windows j at once: what lies before and behind them is 0.
  std::vector<T> sum(cells(most + std::max(parts, n)));
  T* const sums = sum.data() + most;
  SplitRow<T> row(g, parts, 0);
  std::vector<const T*> from(cells(std::max(room, most + 1)));
  Recent recent(room);
  std::pair<Index, Index> seen(-1, -1);
  for (Index k = begin; k < end; ++k) {
    const Index at = k % g.size[0] + g.before[0], last = std::min(at / g.stride[0], g.result[0] - 1);
    Index first = std::max<Index>(0, (at - g.kernel[0]) / g.stride[0]), count = 0;
    if (first * g.stride[0] + g.kernel[0] <= at) ++first;
    T* const to = x + k * g.size[1];
    const Index base = k / g.size[0] * g.result[0];
    const std::pair windows(base + first, base + last);
    if (std::exchange(seen, windows) == windows) {  // no others than the row before
      std::copy_n(to - g.size[1], g.size[1], to);
      continue;
    }
    for (Index i = first; i <= last; ++i) {
      const Index which = base + i;
      T* share = shares.data() + recent.slot(which) * n;
      from[cells(count++)] = share;
      if (recent.misses(which))
        kernel.share_row(gradient + which * n, lengths.data(), height_of(g, g.window(0, i)), n, share);
    }
    kernel.add_rows(from.data(), count, n, sums);
    for (Index part = 0; part < stride; ++part) {
      Index taps = 0;
      for (Index t = part; t < g.kernel[1]; t += stride, ++taps) from[cells(taps)] = sums - taps;
      if (stride == 1) {  // nothing to put together
        for (Index t = 0; t < taps; ++t) from[cells(t)] += g.before[1];
        kernel.add_rows(from.data(), taps, g.size[1], to);
      } else {
        kernel.add_rows(from.data(), taps, parts, row.part(part));
      }
    }
    if (stride > 1) row.store(to);
  }
}

template bool pools_by_rows<float>(const PoolGeometry&) noexcept;
template void max_pool_rows(const PoolGeometry&, const float*, Index, Index, float*, std::uint8_t*);
template void max_pool_rows(const PoolGeometry&, const float*, Index, Index, float*, std::int32_t*);
template void avg_pool_rows(const PoolGeometry&, const float*, Index, Index, float*);
template void avg_pool_spread_rows(const PoolGeometry&, const float*, Index, Index, float*);
template bool pools_by_rows<double>(const PoolGeometry&) noexcept;
template void max_pool_rows(const PoolGeometry&, const double*, Index, Index, double*, std::uint8_t*);
template void max_pool_rows(const PoolGeometry&, const double*, Index, Index, double*, std::int32_t*);
template void avg_pool_rows(const PoolGeometry&, const double*, Index, Index, double*);
template void avg_pool_spread_rows(const PoolGeometry&, const double*, Index, Index, double*);

}  // namespace espalier::detail
