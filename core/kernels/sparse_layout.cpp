// How a weight becomes a SparseMatrix, and back.
#include <algorithm>
#include <array>
#include <limits>

#include "espalier/core/kernels/sparse.h"

namespace espalier::kernels {

std::string SparsePattern::describe() const {
  if (grouped()) return join(keep, ":", of);
  return blocked() ? join(height, "x", breadth, " blocks") : "entries";
}

namespace {

/// Entries that blocks of height x breadth store.
template <class T>
Index stored_in_blocks(const T* w, Index rows, Index columns, Index height, Index breadth) {
  Index blocks = 0;
  for (Index r = 0; r < rows; r += height)
    for (Index c = 0; c < columns; c += breadth) {
      bool any = false;
      for (Index i = r; i < std::min(rows, r + height) && !any; ++i)
        for (Index j = c; j < std::min(columns, c + breadth) && !any; ++j) any = w[i * columns + j] != T(0);
      blocks += any;
    }
  return blocks * height * breadth;
}

/// Most entries of any group of `of`.
template <class T>
Index most_in_groups(const T* w, Index rows, Index columns, Index of) {
  Index most = 0;
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; c += of) {
      const T* first = w + r * columns + c;
      const Index length = std::min(of, columns - c);
      most = std::max(most, length - static_cast<Index>(std::count(first, first + length, T(0))));
    }
  return most;
}

}  // namespace

template <class T>
SparsePattern find_pattern(const T* w, Index rows, Index columns) {
  const Index size = rows * columns, live = size - std::count(w, w + size, T(0));
  if (live == 0 || live == size) return {};
  const auto fits = [&](Index stored) { return static_cast<double>(stored) <= 1.15 * static_cast<double>(live); };
  for (const SparsePattern blocks : {SparsePattern{8, 1}, {4, 1}, {1, 8}, {1, 4}})
    if (fits(stored_in_blocks(w, rows, columns, blocks.height, blocks.breadth))) return blocks;
  SparsePattern best;
  for (const Index of : {4, 8, 16}) {
    const Index keep = most_in_groups(w, rows, columns, of);
    if (keep * 4 > of * 3 || !fits(keep * rows * ((columns + of - 1) / of))) continue;
    if (!best.grouped() || keep * best.of < best.keep * of) best = {.keep = keep, .of = of};
  }
  return best;
}

namespace {

constexpr Index none = -1;  // instead of a column: filled up

/// Blocks narrow enough that a panel of their columns stays near L1, wide enough that a row has about 20 entries in
/// each: below that, entering and leaving a row costs more than the cache misses of a wider block. (Measured, 50 to 98
/// % zeros.)
Index block_width(Index rows, Index columns, Index live) {
  constexpr Index narrowest = 128, widest = 32768, whole = 16;
  if (columns <= 2 * narrowest || rows == 0) return std::max((columns + whole - 1) / whole * whole, whole);
  const double per_column = static_cast<double>(live) / static_cast<double>(rows * columns);
  Index width = narrowest;
  while (width < widest && width < columns && static_cast<double>(width) * per_column < 20) width *= 2;
  return std::min(width, (columns + whole - 1) / whole * whole);
}

/// The steps of eight rows in one block of columns, lane by lane: where each begins.
using Lane = std::vector<Index>;

/// Steps of single entries and blocks: the columns (from the block's first) in which a band of `height` rows has
/// something, at multiples of `breadth`.
template <class T>
Lane block_steps(const SparseMatrix<T>& s, const T* w, Index row, Index first) {
  const Index last = std::min(s.columns, first + s.width), bottom = std::min(s.rows, row + s.pattern.height);
  Lane steps;
  for (Index c = first; c < last; c += s.pattern.breadth) {
    bool any = false;
    for (Index r = row; r < bottom; ++r)
      for (Index k = c; k < std::min(last, c + s.pattern.breadth); ++k) any = any || w[r * s.columns + k] != T(0);
    if (any) steps.push_back(c - first);
  }
  return steps;
}

/// Steps of N:M: `keep` of each group, filled up with `none`.
template <class T>
Lane group_steps(const SparseMatrix<T>& s, const T* w, Index row, Index first) {
  const Index last = std::min(s.columns, first + s.width);
  Lane steps;
  for (Index group = first; group < last; group += s.pattern.of) {
    Index kept = 0;
    for (Index c = group; row < s.rows && c < std::min(last, group + s.pattern.of); ++c)
      if (w[row * s.columns + c] != T(0)) {
        steps.push_back(c - first);
        ++kept;
      }
    if (kept > s.pattern.keep)
      fail<ConfigError>("[sparse] row ", row, " has ", kept, " entries in columns ", group, " to ",
                        group + s.pattern.of - 1, ", more than ", s.pattern.describe());
    steps.insert(steps.end(), static_cast<std::size_t>(s.pattern.keep - kept), none);
  }
  return steps;
}

template <class T>
void append_slice(SparseMatrix<T>& s, const T* w, Index block, Index window, const std::array<Index, 8>& rows,
                  const std::array<const Lane*, 8>& lanes) {
  const Index first = block * s.width, top = window * s.window, height = s.pattern.height, breadth = s.pattern.breadth;
  std::size_t steps = 0;
  for (std::size_t l = 0; l < 8; ++l) {
    s.order.push_back(static_cast<std::uint16_t>(rows[l]));
    steps = std::max(steps, lanes[l]->size());
  }
  const auto at = [&](std::size_t l, std::size_t q) { return q < lanes[l]->size() ? (*lanes[l])[q] : none; };
  for (std::size_t q = 0; q < steps; ++q) {
    for (std::size_t l = 0; l < 8 && !s.pattern.grouped(); l += static_cast<std::size_t>(height))
      s.column.push_back(static_cast<std::uint16_t>(at(l, q) == none ? s.width : at(l, q)));
    for (std::size_t l = 0; l < 8; ++l) {
      const Index row = top + rows[l], column = at(l, q);
      if (s.pattern.grouped()) s.place.push_back(static_cast<std::uint8_t>(column == none ? 0 : column % s.pattern.of));
      for (Index k = 0; k < breadth; ++k) {
        const bool there = column != none && row < s.rows && first + column + k < s.columns;
        const T v = there ? w[row * s.columns + first + column + k] : T(0);
        s.live += v != T(0);
        s.value.push_back(v);
      }
    }
  }
  const std::uint64_t end = s.begin.back() + steps;
  if (end > std::numeric_limits<std::uint32_t>::max()) fail<ConfigError>("[sparse] more than 2^32 - 1 steps");
  s.begin.push_back(static_cast<std::uint32_t>(end));
}

}  // namespace

template <class T>
SparseMatrix<T> to_sparse(const T* w, Index rows, Index columns, const SparsePattern& pattern) {
  const Index live = rows * columns - std::count(w, w + rows * columns, T(0));
  SparseMatrix<T> s;
  s.rows = rows;
  s.columns = columns;
  s.pattern = pattern;
  s.width = block_width(rows, columns, live);
  s.blocks = (columns + s.width - 1) / s.width;
  s.window = std::clamp<Index>(((rows + 1) / 2 + 7) / 8 * 8, 64, 256);  // two chunks of work at least
  s.begin.push_back(0);
  s.value.reserve(static_cast<std::size_t>(live + live / 16));
  if (!pattern.grouped())
    s.column.reserve(static_cast<std::size_t>((live + live / 16) / pattern.height / pattern.breadth));
  std::vector<Lane> steps;
  std::vector<Index> bands;
  for (Index b = 0; b < s.blocks; ++b) {
    for (Index window = 0; window < s.windows(); ++window) {
      const Index top = window * s.window, height = pattern.height;
      const Index count = (std::min(s.window, rows - top) + 7) / 8 * 8 / height;  // bands of rows that stay together
      steps.clear();
      bands.clear();
      for (Index band = 0; band < count; ++band) {
        bands.push_back(band);
        steps.push_back(pattern.grouped() ? group_steps(s, w, top + band * height, b * s.width)
                                          : block_steps(s, w, top + band * height, b * s.width));
      }
      const auto steps_of = [&](Index band) -> const Lane& { return steps[static_cast<std::size_t>(band)]; };
      std::stable_sort(bands.begin(), bands.end(),
                       [&](Index i, Index j) { return steps_of(i).size() > steps_of(j).size(); });
      for (Index first = 0; first < count; first += 8 / height) {
        std::array<Index, 8> lane_rows;
        std::array<const Lane*, 8> lanes;
        for (Index l = 0; l < 8; ++l) {
          const Index band = bands[static_cast<std::size_t>(first + l / height)];
          lane_rows[static_cast<std::size_t>(l)] = band * height + l % height;
          lanes[static_cast<std::size_t>(l)] = &steps_of(band);
        }
        append_slice(s, w, b, window, lane_rows, lanes);
      }
    }
  }
  return s;
}

template <class T>
void to_dense(const SparseMatrix<T>& s, T* dense) {
  std::fill_n(dense, s.rows * s.columns, T(0));
  const Index height = s.pattern.height, breadth = s.pattern.breadth, slices = s.slices();
  for (Index at = 0; at < s.blocks * slices; ++at) {
    const Index first = at / slices * s.width, top = at % slices * 8 / s.window * s.window;
    const Index begin = s.begin[static_cast<std::size_t>(at)], end = s.begin[static_cast<std::size_t>(at) + 1];
    for (Index q = begin; q < end; ++q) {
      for (Index l = 0; l < 8; ++l) {
        Index column;
        if (s.pattern.grouped()) {
          const Index group = (q - begin) / s.pattern.keep;
          column = group * s.pattern.of + s.place[static_cast<std::size_t>(q * 8 + l)];
        } else {
          column = s.column[static_cast<std::size_t>((q * 8 + l) / height)];
        }
        const Index row = top + s.order[static_cast<std::size_t>(at * 8 + l)];
        for (Index k = 0; k < breadth; ++k) {
          const T v = s.value[static_cast<std::size_t>((q * 8 + l) * breadth + k)];
          if (v != T(0)) dense[row * s.columns + first + column + k] = v;
        }
      }
    }
  }
}

template SparsePattern find_pattern(const float*, Index, Index);
template SparsePattern find_pattern(const double*, Index, Index);
template SparseMatrix<float> to_sparse(const float*, Index, Index, const SparsePattern&);
template SparseMatrix<double> to_sparse(const double*, Index, Index, const SparsePattern&);
template void to_dense(const SparseMatrix<float>&, float*);
template void to_dense(const SparseMatrix<double>&, double*);

}  // namespace espalier::kernels
