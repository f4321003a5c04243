#include "espalier/core/kernels/sparse.h"

#include <algorithm>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#include "espalier/core/parallel.h"
#include "espalier/core/storage.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/sparse.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "espalier/core/kernels/transpose-inl.h"
#include "hwy/highway.h"

#ifndef ESPALIER_SPARSE_ONCE
#define ESPALIER_SPARSE_ONCE
namespace espalier::kernels {

template <class T>
struct SparseKernels {
  Index lanes;
  void (*one)(const SparseMatrix<T>& w, Index window, const T* x, T* y);  // adds to y
  void (*panel)(const SparseMatrix<T>& w, Index window, const T* panel, Index length, T* y);
  void (*dots)(const T* a, const T* x, const std::uint32_t* column, Index count, Index length, T* to);
  void (*transpose)(const T* from, Index from_stride, Index rows, Index columns, T* to, Index to_stride);
};

}  // namespace espalier::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

/// One slice, as its steps are read.
template <class T>
struct Slice {
  Index first, steps;
  const std::uint16_t *order, *column;
  const std::uint8_t* place;
  const T* value;
};
template <class T>
HWY_INLINE Slice<T> SliceAt(const SparseMatrix<T>& w, Index block, Index slice) {
  const Index at = block * w.slices() + slice;
  const Index first = w.begin[static_cast<std::size_t>(at)], last = w.begin[static_cast<std::size_t>(at) + 1];
  return {first,
          last - first,
          w.order.data() + at * slice_rows,
          w.column.data() + first * (slice_rows / w.pattern.height),
          w.place.data() + first * slice_rows,
          w.value.data() + first * slice_rows * w.pattern.breadth};
}

// --- panels: `rows` rows of a slice from lane `lane` on, times `vectors` vectors of samples ----------------------------
// Entries are added in order for each element, so bits do not depend on how rows and samples are shared out.

template <class T>
constexpr Index panel_lanes = static_cast<Index>(hn::MaxLanes(hn::ScalableTag<T>()));
template <class V, int n>
using Several = V[static_cast<std::size_t>(n)];

template <int vectors, class T>
struct PanelRows {
  static constexpr int rows = 8 / vectors;
  static constexpr Index lanes = panel_lanes<T>, length = vectors * lanes;
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  using Sums = Several<Several<V, vectors>, rows>;

  static HWY_INLINE void AddRow(V (&sum)[static_cast<std::size_t>(vectors)], T factor, const T* x) {
    const V f = hn::Set(D(), factor);
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[v] = hn::MulAdd(f, hn::LoadU(D(), x + v * lanes), sum[v]);
  }

  struct Single {
    static HWY_INLINE void Run(const SparseMatrix<T>&, const Slice<T>& s, Index lane, const T* x, Sums& sum) {
      const std::uint16_t* column = s.column + lane;
      const T* value = s.value + lane;
      for (Index q = 0; q < s.steps; ++q, column += slice_rows, value += slice_rows)
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) AddRow(sum[r], value[r], x + column[r] * length);
    }
  };
  struct Tall {  // rows of one block share what they read
    static HWY_INLINE void Run(const SparseMatrix<T>& w, const Slice<T>& s, Index lane, const T* x, Sums& sum) {
      constexpr int shared = rows < 4 ? rows : 4;
      const Index each = slice_rows / w.pattern.height;
      const std::uint16_t* column = s.column;
      const T* value = s.value + lane;
      for (Index q = 0; q < s.steps; ++q, column += each, value += slice_rows) {
#pragma GCC unroll 2
        for (int g = 0; g < rows; g += shared) {
          const T* from = x + column[(lane + g) / w.pattern.height] * length;
          V xs[static_cast<std::size_t>(vectors)];
#pragma GCC unroll 4
          for (int v = 0; v < vectors; ++v) xs[v] = hn::LoadU(D(), from + v * lanes);
#pragma GCC unroll 4
          for (int r = g; r < g + shared; ++r) {
            const V f = hn::Set(D(), value[r]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(f, xs[v], sum[r][v]);
          }
        }
      }
    }
  };
  struct Wide {
    static HWY_INLINE void Run(const SparseMatrix<T>& w, const Slice<T>& s, Index lane, const T* x, Sums& sum) {
      const Index breadth = w.pattern.breadth;
      const std::uint16_t* column = s.column + lane;
      const T* value = s.value + lane * breadth;
      for (Index q = 0; q < s.steps; ++q, column += slice_rows, value += slice_rows * breadth) {
        const T* from[static_cast<std::size_t>(rows)];
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) from[r] = x + column[r] * length;
        for (Index k = 0; k < breadth; ++k)
#pragma GCC unroll 8
          for (int r = 0; r < rows; ++r) AddRow(sum[r], value[r * breadth + k], from[r] + k * length);
      }
    }
  };
  struct Grouped {
    static HWY_INLINE void Run(const SparseMatrix<T>& w, const Slice<T>& s, Index lane, const T* x, Sums& sum) {
      const Index keep = w.pattern.keep, group = w.pattern.of * length;
      const std::uint8_t* place = s.place + lane;
      const T* value = s.value + lane;
      for (Index q = 0; q < s.steps; q += keep, x += group)
        for (Index k = 0; k < keep; ++k, place += slice_rows, value += slice_rows)
#pragma GCC unroll 8
          for (int r = 0; r < rows; ++r) AddRow(sum[r], value[r], x + place[r] * length);
    }
  };

  template <class Kind>
  static void Window(const SparseMatrix<T>& w, Index window, const T* panel, T* y) {
    const Index slices = w.window / slice_rows, first = window * slices, last = std::min(first + slices, w.slices());
    for (Index b = 0; b < w.blocks; ++b, panel += (w.width + panel_padding) * length) {
      for (Index at = first; at < last; ++at) {
        const Slice<T> s = SliceAt(w, b, at);
        if (s.steps == 0) continue;
        for (Index lane = 0; lane < slice_rows; lane += rows) {
          Sums sum;
#pragma GCC unroll 8
          for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sum[r][v] = hn::LoadU(D(), y + s.order[lane + r] * length + v * lanes);
          Kind::Run(w, s, lane, panel, sum);
#pragma GCC unroll 8
          for (int r = 0; r < rows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) hn::StoreU(sum[r][v], D(), y + s.order[lane + r] * length + v * lanes);
        }
      }
    }
  }
  static void Run(const SparseMatrix<T>& w, Index window, const T* panel, T* y) {
    if (w.pattern.grouped()) return Window<Grouped>(w, window, panel, y);
    if (w.pattern.height > 1) return Window<Tall>(w, window, panel, y);
    if (w.pattern.breadth > 1) return Window<Wide>(w, window, panel, y);
    Window<Single>(w, window, panel, y);
  }
};

template <class T>
void Panel(const SparseMatrix<T>& w, Index window, const T* panel, Index length, T* y) {
  if (length == panel_lanes<T>) return PanelRows<1, T>::Run(w, window, panel, y);
  if (length == 2 * panel_lanes<T>) return PanelRows<2, T>::Run(w, window, panel, y);
  PanelRows<4, T>::Run(w, window, panel, y);
}

// --- one sample: the lanes are the rows of a slice --------------------------------------------------------------------

template <class T>
using RowTag = hn::CappedTag<T, 8>;
template <class T>
using RowLanes = hn::Vec<RowTag<T>>;
template <class T>
constexpr int row_lanes = static_cast<int>(hn::MaxLanes(RowTag<T>()));
template <class T>
constexpr int row_parts = 8 / row_lanes<T>;  // vectors that hold a slice
template <class T>
using RowSums = Several<RowLanes<T>, row_parts<T>>;

/// Lane l holds x[place(l)]. Plain loads and inserts are faster than gathers on processors that split those.
template <class T, class F>
HWY_INLINE RowLanes<T> Pick(const T* x, const F& place) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  RowLanes<T> v;
  using Raw = decltype(v.raw);
  if constexpr (row_lanes<T> == 8)
    v.raw = Raw{x[place(0)], x[place(1)], x[place(2)], x[place(3)], x[place(4)], x[place(5)], x[place(6)], x[place(7)]};
  else if constexpr (row_lanes<T> == 4)
    v.raw = Raw{x[place(0)], x[place(1)], x[place(2)], x[place(3)]};
  else
    v.raw = Raw{x[place(0)], x[place(1)]};
  return v;
#else
  HWY_ALIGN T lane[8];
  for (int l = 0; l < row_lanes<T>; ++l) lane[l] = x[place(l)];
  return hn::Load(RowTag<T>(), lane);
#endif
}

template <class T>
struct OneSample {
  static constexpr RowTag<T> d{};

  struct Single {
    static HWY_INLINE void Run(const SparseMatrix<T>&, const Slice<T>& s, const T* x, RowSums<T>& sum) {
      const std::uint16_t* column = s.column;
      const T* value = s.value;
      for (Index q = 0; q < s.steps; ++q, column += slice_rows, value += slice_rows)
#pragma GCC unroll 4
        for (int p = 0; p < row_parts<T>; ++p)
          sum[p] = hn::MulAdd(Pick<T>(x, [&](int l) HWY_ATTR { return column[p * row_lanes<T> + l]; }),
                              hn::LoadU(d, value + p * row_lanes<T>), sum[p]);
    }
  };
  struct Tall {  // four chains of sums
    static HWY_INLINE void Run(const SparseMatrix<T>& w, const Slice<T>& s, const T* x, RowSums<T>& sum) {
      const Index height = w.pattern.height, each = slice_rows / height;
      RowSums<T> chain[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k)
#pragma GCC unroll 4
        for (int p = 0; p < row_parts<T>; ++p) chain[k][p] = hn::Zero(d);
      const auto add = [&](Index q, RowSums<T>& to) HWY_ATTR {
        const std::uint16_t* column = s.column + q * each;
        const T* value = s.value + q * slice_rows;
        const T first = x[column[0]], second = x[column[each - 1]];
#pragma GCC unroll 4
        for (int p = 0; p < row_parts<T>; ++p) {
          RowLanes<T> xs;
          if constexpr (row_parts<T> == 1)
            xs = height == 8 ? hn::Set(d, first)
                             : hn::IfThenElse(hn::FirstN(d, 4), hn::Set(d, first), hn::Set(d, second));
          else
            xs = hn::Set(d, 2 * p < row_parts<T> ? first : second);
          to[p] = hn::MulAdd(xs, hn::LoadU(d, value + p * row_lanes<T>), to[p]);
        }
      };
      Index q = 0;
      for (; q + 4 <= s.steps; q += 4)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) add(q + k, chain[k]);
      for (; q < s.steps; ++q) add(q, chain[0]);
#pragma GCC unroll 4
      for (int p = 0; p < row_parts<T>; ++p)
        sum[p] = hn::Add(sum[p], hn::Add(hn::Add(chain[0][p], chain[1][p]), hn::Add(chain[2][p], chain[3][p])));
    }
  };
  template <std::size_t breadth>
  struct Wide {  // the lanes are a block's columns
    static HWY_INLINE void Run(const SparseMatrix<T>&, const Slice<T>& s, const T* x, RowSums<T>& sum) {
      using B = hn::CappedTag<T, breadth>;
      constexpr int lanes = static_cast<int>(hn::MaxLanes(B())), parts = static_cast<int>(breadth) / lanes;
      HWY_ALIGN T total[8];
#pragma GCC unroll 2
      for (int half = 0; half < 8; half += 4) {  // sums of four rows fit the registers
        hn::Vec<B> rows[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) rows[r] = hn::Zero(B());
        const std::uint16_t* column = s.column + half;
        const T* value = s.value + static_cast<std::size_t>(half) * breadth;
        for (Index q = 0; q < s.steps; ++q, column += slice_rows, value += slice_rows * breadth)
#pragma GCC unroll 4
          for (int p = 0; p < parts; ++p)
#pragma GCC unroll 4
            for (int r = 0; r < 4; ++r)
              rows[r] = hn::MulAdd(hn::LoadU(B(), value + static_cast<std::size_t>(r) * breadth + p * lanes),
                                   hn::LoadU(B(), x + column[r] + p * lanes), rows[r]);
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) total[half + r] = hn::GetLane(hn::SumOfLanes(B(), rows[r]));
      }
#pragma GCC unroll 4
      for (int p = 0; p < row_parts<T>; ++p) sum[p] = hn::Add(sum[p], hn::Load(d, total + p * row_lanes<T>));
    }
  };
  struct Grouped {
    static HWY_INLINE void Run(const SparseMatrix<T>& w, const Slice<T>& s, const T* x, RowSums<T>& sum) {
      const std::uint8_t* place = s.place;
      const T* value = s.value;
      for (Index q = 0; q < s.steps; q += w.pattern.keep, x += w.pattern.of)
        for (Index k = 0; k < w.pattern.keep; ++k, place += slice_rows, value += slice_rows)
#pragma GCC unroll 4
          for (int p = 0; p < row_parts<T>; ++p)
            sum[p] = hn::MulAdd(Pick<T>(x, [&](int l) HWY_ATTR { return place[p * row_lanes<T> + l]; }),
                                hn::LoadU(d, value + p * row_lanes<T>), sum[p]);
    }
  };

  template <class Kind>
  static void Window(const SparseMatrix<T>& w, Index window, const T* x, T* y) {
    const Index slices = w.window / slice_rows, first = window * slices, last = std::min(first + slices, w.slices());
    for (Index b = 0; b < w.blocks; ++b, x += w.width + panel_padding) {
      for (Index at = first; at < last; ++at) {
        const Slice<T> s = SliceAt(w, b, at);
        if (s.steps == 0) continue;
        RowSums<T> sum;
#pragma GCC unroll 4
        for (int p = 0; p < row_parts<T>; ++p)
          sum[p] = Pick<T>(y, [&](int l) HWY_ATTR { return s.order[p * row_lanes<T> + l]; });
        Kind::Run(w, s, x, sum);
        HWY_ALIGN T lane[8];
#pragma GCC unroll 4
        for (int p = 0; p < row_parts<T>; ++p) hn::Store(sum[p], d, lane + p * row_lanes<T>);
#pragma GCC unroll 8
        for (int l = 0; l < 8; ++l) y[s.order[l]] = lane[l];
      }
    }
  }

  // Groups that fit a vector of their own length are looked up in registers, several slices at once: their rows stand
  // as they stood, and all have as many steps.
  template <std::size_t of, int count>
  static HWY_INLINE void LookUp(const SparseMatrix<T>& w, Index block, Index at, const T* x, T* y) {
    using G = hn::CappedTag<T, of>;
    using U = hn::RebindToUnsigned<G>;
    constexpr G g{};
    constexpr int lanes = static_cast<int>(of), parts = 8 / lanes, vectors = count * parts;
    const Slice<T> s = SliceAt(w, block, at);
    const Index keep = w.pattern.keep, next = s.steps * slice_rows;
    hn::Vec<G> sum[static_cast<std::size_t>(vectors)];
#pragma GCC unroll 8
    for (int n = 0; n < vectors; ++n) sum[n] = hn::LoadU(g, y + n * lanes);
    const std::uint8_t* place = s.place;
    const T* value = s.value;
    for (Index q = 0; q < s.steps; q += keep, x += of) {
      const auto table = hn::LoadU(g, x);
      for (Index k = 0; k < keep; ++k, place += slice_rows, value += slice_rows) {
#pragma GCC unroll 8
        for (int n = 0; n < vectors; ++n) {
          const Index from = n / parts * next + n % parts * lanes;
          const auto words =
              hn::PromoteTo(hn::Rebind<std::uint32_t, U>(), hn::LoadU(hn::Rebind<std::uint8_t, U>(), place + from));
          hn::Vec<U> index;
          if constexpr (sizeof(T) == 4)
            index = words;
          else
            index = hn::PromoteTo(U(), words);
          sum[n] =
              hn::MulAdd(hn::TableLookupLanes(table, hn::IndicesFromVec(g, index)), hn::LoadU(g, value + from), sum[n]);
        }
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < vectors; ++n) hn::StoreU(sum[n], g, y + n * lanes);
  }
  template <std::size_t of>
  static void LookUpWindow(const SparseMatrix<T>& w, Index window, const T* x, T* y) {
    const Index slices = w.window / slice_rows, first = window * slices, last = std::min(first + slices, w.slices());
    for (Index b = 0; b < w.blocks; ++b, x += w.width + panel_padding) {
      Index at = first;
      for (; at + 4 <= last; at += 4) LookUp<of, 4>(w, b, at, x, y + (at - first) * slice_rows);
      for (; at < last; ++at) LookUp<of, 1>(w, b, at, x, y + (at - first) * slice_rows);
    }
  }

  static void Run(const SparseMatrix<T>& w, Index window, const T* x, T* y) {
    if (w.pattern.grouped()) {
      if constexpr (row_lanes<T> >= 4)
        if (w.pattern.of == 4) return LookUpWindow<4>(w, window, x, y);
      if constexpr (row_lanes<T> == 8)
        if (w.pattern.of == 8) return LookUpWindow<8>(w, window, x, y);
      return Window<Grouped>(w, window, x, y);
    }
    if (w.pattern.height > 1) return Window<Tall>(w, window, x, y);
    if (w.pattern.breadth == 4) return Window<Wide<4>>(w, window, x, y);
    if (w.pattern.breadth == 8) return Window<Wide<8>>(w, window, x, y);
    Window<Single>(w, window, x, y);
  }
};

// --- dot products of rows of panels: what training with few live weights needs ----------------------------------------

template <int vectors, class T>
void DotRows(const T* a, const T* x, const std::uint32_t* column, Index count, T* to) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<hn::ScalableTag<T>>;
  constexpr Index lanes = panel_lanes<T>, length = vectors * lanes;
  V factor[static_cast<std::size_t>(vectors)];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) factor[v] = hn::LoadU(d, a + v * lanes);
  const auto dot = [&](Index k) HWY_ATTR {
    const T* row = x + column[k] * length;
    V sum = hn::Mul(factor[0], hn::LoadU(d, row));
#pragma GCC unroll 4
    for (int v = 1; v < vectors; ++v) sum = hn::MulAdd(factor[v], hn::LoadU(d, row + v * lanes), sum);
    return sum;
  };
  for (Index k = 0; k < count; ++k) to[k] += hn::GetLane(hn::SumOfLanes(d, dot(k)));
}
template <class T>
void Dots(const T* a, const T* x, const std::uint32_t* column, Index count, Index length, T* to) {
  if (length == panel_lanes<T>) return DotRows<1>(a, x, column, count, to);
  if (length == 2 * panel_lanes<T>) return DotRows<2>(a, x, column, count, to);
  DotRows<4>(a, x, column, count, to);
}

template <class T>
constexpr SparseKernels<T> Kernels() {
  return {panel_lanes<T>, OneSample<T>::Run, Panel<T>, Dots<T>, Transpose<T>};
}

}  // namespace

const Both<SparseKernels>& SparseTable() {
  static constexpr Both<SparseKernels> table{Kernels<float>(), Kernels<double>()};
  return table;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {
HWY_EXPORT(SparseTable);

namespace {

template <class T>
const SparseKernels<T>& sparse() noexcept {
  return HWY_DYNAMIC_DISPATCH(SparseTable)().template get<T>();
}

/// Room from the cache of freed blocks.
template <class T>
struct Room {
  explicit Room(Index n)
      : storage(Storage::take(static_cast<std::uint64_t>(n) * sizeof(T))),
        data(reinterpret_cast<T*>(storage->data())) {}
  StoragePtr storage;
  T* data;
};

template <class T>
void one_sample(const SparseMatrix<T>& w, const T* x, const T* bias, T* y) {
  const Room<T> panel(w.panel_rows());
  clear_padding(w, panel.data, 1);
  for (Index c = 0; c < w.columns; c += w.width)
    std::copy_n(x + c, std::min(w.width, w.columns - c), panel.data + panel_row(w, c));
  const Index each = static_cast<Index>(w.value.size()) / w.windows();
  const Index grain = std::clamp<Index>((Index{1} << 15) / std::max<Index>(1, each), 1, w.windows());
  parallel_for(w.windows(), grain, [&](Index begin, Index end) {
    alignas(64) T sums[256];
    for (Index window = begin; window < end; ++window) {
      const Index first = window * w.window, rows = std::min(w.window, w.rows - first);
      if (bias)
        std::copy_n(bias + first, rows, sums);
      else
        std::fill_n(sums, rows, T(0));
      std::fill(sums + rows, sums + (rows + slice_rows - 1) / slice_rows * slice_rows, T(0));
      sparse<T>().one(w, window, panel.data, sums);
      std::copy_n(sums, rows, y + first);
    }
  });
}

/// Columns [begin, end) of x [samples, columns] into the panel.
template <class T>
void fill_panel(const SparseMatrix<T>& w, const T* x, Index samples, Index begin, Index end, T* panel, Index length) {
  for (Index c = begin; c < end;) {
    const Index next = std::min(end, (c / w.width + 1) * w.width);
    T* to = panel + panel_row(w, c) * length;
    if (samples < length) std::fill_n(to, (next - c) * length, T(0));
    sparse<T>().transpose(x + c, w.columns, samples, next - c, to, length);
    c = next;
  }
}

template <class T>
void panel_to_rows(const SparseMatrix<T>& w, Index window, const T* panel, Index length, Index samples, const T* bias,
                   T* sums, T* y) {
  sparse_panel(w, window, panel, length, bias, sums);
  const Index first = window * w.window, rows = std::min(w.window, w.rows - first);
  sparse<T>().transpose(sums, length, rows, samples, y + first, w.rows);
}

template <class T>
void samples(const SparseMatrix<T>& w, const T* x, Index batch, const T* bias, T* y) {
  const Index most = 4 * sparse<T>().lanes, tiles = detail::chunk_count(batch, most), rows = w.panel_rows();
  const auto length_of = [&](Index tile) { return panel_length<T>(batch - tile * most); };
  const auto samples_of = [&](Index tile) { return std::min(most, batch - tile * most); };
  // A thread takes whole tiles where they are many, or short work: a panel that another thread has laid out is read at the
  // speed of memory.
  if (tiles >= 8 || (tiles > 1 && static_cast<Index>(w.value.size()) < (Index{1} << 17))) {
    parallel_for(tiles, 1, [&](Index begin, Index end) {
      const Room<T> panel(rows * most), sums(w.window * most);
      for (Index tile = begin; tile < end; ++tile) {
        const Index length = length_of(tile), from = tile * most;
        clear_padding(w, panel.data, length);
        fill_panel(w, x + from * w.columns, samples_of(tile), 0, w.columns, panel.data, length);
        for (Index window = 0; window < w.windows(); ++window)
          panel_to_rows(w, window, panel.data, length, samples_of(tile), bias, sums.data, y + from * w.rows);
      }
    });
    return;
  }
  const Room<T> panels(rows * (tiles - 1) * most + rows * length_of(tiles - 1));
  const Index part = std::max<Index>(64, 32768 / most), parts = detail::chunk_count(w.columns, part);
  const auto panel_of = [&](Index tile) { return panels.data + tile * rows * most; };
  for (Index tile = 0; tile < tiles; ++tile) clear_padding(w, panel_of(tile), length_of(tile));
  parallel_for(tiles * parts, std::max<Index>(1, 4 * most / std::min(most, batch)), [&](Index begin, Index end) {
    for (Index q = begin; q < end; ++q) {
      const Index tile = q / parts, first = q % parts * part;
      fill_panel(w, x + tile * most * w.columns, samples_of(tile), first, std::min(w.columns, first + part),
                 panel_of(tile), length_of(tile));
    }
  });
  const Index work = static_cast<Index>(w.value.size()) * batch + tiles * w.windows() * 1000;
  const Index chunks = work < 1000000 ? 1 : std::min(work / 100000, tiles * w.windows());
  parallel_for(tiles * w.windows(), detail::chunk_count(tiles * w.windows(), chunks), [&](Index begin, Index end) {
    const Room<T> sums(w.window * most);
    for (Index q = begin; q < end; ++q) {
      const Index tile = q / w.windows();
      panel_to_rows(w, q % w.windows(), panel_of(tile), length_of(tile), samples_of(tile), bias, sums.data,
                    y + tile * most * w.rows);
    }
  });
}

}  // namespace

template <class T>
Index panel_length(Index left) {
  const Index lanes = sparse<T>().lanes;
  return left <= lanes ? lanes : left <= 2 * lanes ? 2 * lanes : 4 * lanes;
}

template <class T>
void clear_padding(const SparseMatrix<T>& w, T* panel, Index length) {
  for (Index b = 0; b < w.blocks; ++b) {
    const Index used = std::min(w.width, w.columns - b * w.width), rows = w.width + panel_padding;
    std::fill_n(panel + (b * rows + used) * length, (rows - used) * length, T(0));
  }
}

template <class T>
void sparse_panel(const SparseMatrix<T>& w, Index window, const T* panel, Index length, const T* bias, T* y) {
  const Index first = window * w.window, rows = std::min(w.window, w.rows - first);
  for (Index r = 0; r < rows; ++r) std::fill_n(y + r * length, length, bias ? bias[first + r] : T(0));
  std::fill(y + rows * length, y + (rows + slice_rows - 1) / slice_rows * slice_rows * length, T(0));
  sparse<T>().panel(w, window, panel, length, y);
}

template <class T>
void sparse_linear(const SparseMatrix<T>& w, const T* x, Index batch, const T* bias, T* y) {
  if (batch <= 0 || w.rows == 0) return;
  if (batch == 1)
    one_sample(w, x, bias, y);
  else
    samples(w, x, batch, bias, y);
}

template <class T>
void add_dots(const T* a, const T* x, const std::uint32_t* column, Index count, Index length, T* to) {
  sparse<T>().dots(a, x, column, count, length, to);
}
template <class T>
void to_panel(const T* from, Index from_stride, Index rows, Index columns, T* to, Index to_stride) {
  sparse<T>().transpose(from, from_stride, rows, columns, to, to_stride);
}

template void add_dots(const float*, const float*, const std::uint32_t*, Index, Index, float*);
template void add_dots(const double*, const double*, const std::uint32_t*, Index, Index, double*);
template void to_panel(const float*, Index, Index, Index, float*, Index);
template void to_panel(const double*, Index, Index, Index, double*, Index);
template Index panel_length<float>(Index);
template Index panel_length<double>(Index);
template void clear_padding(const SparseMatrix<float>&, float*, Index);
template void clear_padding(const SparseMatrix<double>&, double*, Index);
template void sparse_panel(const SparseMatrix<float>&, Index, const float*, Index, const float*, float*);
template void sparse_panel(const SparseMatrix<double>&, Index, const double*, Index, const double*, double*);
template void sparse_linear(const SparseMatrix<float>&, const float*, Index, const float*, float*);
template void sparse_linear(const SparseMatrix<double>&, const double*, Index, const double*, double*);

}  // namespace espalier::kernels
#endif
