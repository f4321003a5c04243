#include "espalier/core/sort.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>
#include <utility>

#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/search.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

/// An unsigned number that orders as the value does; NaN last, -0 as 0.
template <class T>
auto key_of(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    using U = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr U sign = U{1} << (8 * sizeof(U) - 1);
    if (std::isnan(value)) return ~U{0};
    const U bits = std::bit_cast<U>(value == T(0) ? T(0) : value);
    return bits & sign ? ~bits : bits | sign;
  } else {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(value)) ^ (std::uint64_t{1} << 63);
  }
}

/// A key and the place it came from. Entries differ, so any sort of them is stable.
struct WideEntry {
  std::uint64_t high;
  std::uint32_t low;
  static WideEntry make(std::uint64_t key, Index place) { return {key, static_cast<std::uint32_t>(place)}; }
  std::uint64_t key() const { return high; }
  Index place() const { return low; }
  auto operator<=>(const WideEntry&) const = default;
};
struct NarrowEntry {
  std::uint64_t both;  // in one word, which compares in one instruction
  static NarrowEntry make(std::uint32_t key, Index place) {
    return {std::uint64_t{key} << 32 | static_cast<std::uint32_t>(place)};
  }
  std::uint64_t key() const { return both >> 32; }
  Index place() const { return static_cast<Index>(both & 0xffffffffu); }
  auto operator<=>(const NarrowEntry&) const = default;
};
template <class T>
using Entry = std::conditional_t<std::is_same_v<T, float>, NarrowEntry, WideEntry>;

/// A line to be ordered, and as much room beside it; both from the caching allocator.
template <class E>
class Line {
 public:
  explicit Line(Index length)
      : n(length),
        memory_(Tensor::empty({2 * length * static_cast<Index>(sizeof(E))}, DType::u8)),
        entries(reinterpret_cast<E*>(memory_.write_bytes("sort"))),
        spare(entries + length) {}
  E* begin() const { return entries; }
  E* end() const { return entries + n; }

  Index n;

 private:
  Tensor memory_;

 public:
  E *entries, *spare;
};

/// Least significant byte first.
template <class E, std::size_t bytes>
void radix_sort(Line<E>& line) {
  std::array<std::array<std::uint32_t, 256>, bytes> count{};
  for (const E& e : line)
    for (std::size_t b = 0; b < bytes; ++b) ++count[b][e.key() >> (8 * b) & 255];
  for (std::size_t b = 0; b < bytes; ++b) {
    auto& places = count[b];
    const std::size_t shift = 8 * b;
    if (places[line.entries[0].key() >> shift & 255] == static_cast<std::uint64_t>(line.n)) continue;  // all alike
    std::uint32_t before = 0;
    for (std::uint32_t& c : places) before += std::exchange(c, before);
    for (const E& e : line) line.spare[places[e.key() >> shift & 255]++] = e;
    std::swap(line.entries, line.spare);
  }
}

template <class E>
void sort_line(Line<E>& line) {
  if (line.n < 128)
    std::sort(line.begin(), line.end());
  else
    radix_sort<E, std::is_same_v<E, NarrowEntry> ? 4 : 8>(line);
}

int ordered_axis(const char* op, const Tensor& x, int axis) {
  return x.rank() == 0 && (axis == 0 || axis == -1) ? 0 : checked_axis(op, axis, x.rank());
}

Index length_along(const Tensor& x, int at) { return x.rank() == 0 ? 1 : x.shape()[at]; }

template <class T>
Entry<T> entry_of(T value, Index place, bool descending) {
  const auto key = key_of(value);
  return Entry<T>::make(descending ? static_cast<decltype(key)>(~key) : key, place);
}

/// Every element of a row. The usual way to load a Line.
struct LoadAll {
  template <class T>
  void operator()(Line<Entry<T>>& line, const T* from, bool descending) const {
    for (Index i = 0; i < line.n; ++i) line.entries[i] = entry_of(from[i], i, descending);
  }
};

/// The first i < n whose x[i] may come before `bound`; NaN is let through, whatever its place.
template <bool descending, class T>
Index first_better(const T* x, Index n, T bound) {
  if constexpr (std::is_floating_point_v<T>)
    return descending ? kernels::first_not_below(x, n, bound) : kernels::first_not_above(x, n, bound);
  else
    return std::find_if(x, x + n, [bound](T v) { return descending ? v > bound : v < bound; }) - x;
}

/// Of a row at least its first k elements and few others: whatever is better than the k-th best so far. Most of a row in
/// no particular order is passed over by comparing vectors, and no row costs more than O(n).
struct LoadBest {
  Index k;

  template <class T>
  void operator()(Line<Entry<T>>& line, const T* from, bool descending) const {
    descending ? load<true>(line, from) : load<false>(line, from);
  }

 private:
  template <bool descending, class T>
  void load(Line<Entry<T>>& line, const T* from) const {
    const Index n = std::exchange(line.n, 0), room = std::min(n, 4 * k + 32);
    const auto take = [&](const Entry<T>& e) { line.entries[line.n++] = e; };
    Index i = 0;
    for (; i < room; ++i) take(entry_of(from[i], i, descending));
    while (i < n) {
      std::nth_element(line.begin(), line.begin() + k - 1, line.end());
      line.n = k;
      const Entry<T> last = line.entries[k - 1];
      const T bound = from[last.place()];
      while (line.n < room && (i += first_better<descending>(from + i, n - i, bound)) < n) {
        const Entry<T> e = entry_of(from[i], i, descending);
        if (e < last) take(e);
        ++i;
      }
    }
  }
};

/// x with `axis` and the last one exchanged, contiguous; x itself if that is the same.
Tensor with_axis_last(const Tensor& x, int axis) {
  return x.rank() < 2 || axis == x.rank() - 1 ? x.contiguous() : x.transpose(axis, -1).contiguous();
}

/// Loads every row along `axis` into a Line, gives it to arrange(line), and stores the first `kept` of its entries.
template <class Load, class Arrange>
MaxResult arranged(const char* op, const Tensor& x, int at, Index kept, bool descending, Load load, Arrange arrange) {
  const Tensor rows = with_axis_last(x, at);
  Shape shape = rows.shape();
  if (x.rank() > 0) shape[-1] = kept;
  MaxResult y{Tensor::empty(shape, x.dtype()), Tensor::empty(shape, DType::i64)};
  const Index n = length_along(x, at);
  if (n > std::numeric_limits<std::uint32_t>::max() && y.values.size() > 0)
    fail<ShapeError>("[", op, "] axis ", at, " of shape ", x.shape(), " is too long: at most 2^32 - 1 can be ordered");
  if (y.values.size() > 0)
    dispatch(x.dtype(), [&]<class T>() {
      const T* p = rows.data<T>();
      T* values = y.values.write<T>(op);
      Index* places = y.indices.write<Index>(op);
      parallel_for(y.values.size() / kept, std::max<Index>(1, 2048 / n), [&](Index begin, Index end) {
        Line<Entry<T>> line(n);
        for (Index row = begin; row < end; ++row) {
          const T* from = p + row * n;
          line.n = n;
          load(line, from, descending);
          arrange(line);
          for (Index i = 0; i < kept; ++i) {
            const Index place = line.entries[i].place();
            places[row * kept + i] = place;
            values[row * kept + i] = from[place];
          }
        }
      });
    });
  return {with_axis_last(y.values, at), with_axis_last(y.indices, at)};
}

MaxResult without_axis(MaxResult y, int at, bool keepdim) {
  if (keepdim || y.values.rank() == 0) return y;
  return {y.values.select(at, 0), y.indices.select(at, 0)};
}

void check_rank_of(const char* op, const Tensor& x, Index k, Index least, int at) {
  if (k < least || k > length_along(x, at))
    fail<IndexError>("[", op, "] k = ", k, " on axis ", at, " of shape ", x.shape(), "; it must be from ", least,
                     " to ", length_along(x, at));
}

/// Puts the entry of rank k (from 0 on) first.
auto bring_forward(Index k) {
  return [k](auto& line) {
    std::nth_element(line.begin(), line.begin() + k, line.end());
    std::swap(line.entries[0], line.entries[k]);
  };
}

}  // namespace

MaxResult sort(const Tensor& x, int axis, bool descending) {
  const int at = ordered_axis("sort", x, axis);
  return arranged("sort", x, at, length_along(x, at), descending, LoadAll(), [](auto& line) { sort_line(line); });
}

MaxResult topk(const Tensor& x, Index k, int axis, bool largest) {
  const int at = ordered_axis("topk", x, axis);
  check_rank_of("topk", x, k, 0, at);
  if (x.rank() == 0 && k == 0) fail<IndexError>("[topk] k = 0 of a scalar. Hint: reshape({1})");
  const auto cut_and_sort = [k](auto& line) {
    if (k < line.n) std::nth_element(line.begin(), line.begin() + k, line.end());
    line.n = k;
    sort_line(line);
  };
  if (k > 0 && k <= length_along(x, at) / 8) return arranged("topk", x, at, k, largest, LoadBest{k}, cut_and_sort);
  return arranged("topk", x, at, k, largest, LoadAll(), cut_and_sort);
}

MaxResult kthvalue(const Tensor& x, Index k, int axis, bool keepdim) {
  const int at = ordered_axis("kthvalue", x, axis);
  check_rank_of("kthvalue", x, k, 1, at);
  return without_axis(arranged("kthvalue", x, at, 1, false, LoadAll(), bring_forward(k - 1)), at, keepdim);
}

MaxResult median(const Tensor& x, int axis, bool keepdim) {
  const int at = ordered_axis("median", x, axis);
  const Index n = length_along(x, at);
  if (n == 0) fail<ShapeError>("[median] axis ", axis, " of shape ", x.shape(), " is empty: there is no middle");
  const Index middle = (n - 1) / 2;
  const bool has_nan = is_floating(x.dtype());  // of an integer the largest key is a number like any other
  MaxResult y = arranged("median", x, at, 1, false, LoadAll(), [=](auto& line) {
    using E = std::decay_t<decltype(line.entries[0])>;
    constexpr std::uint64_t not_a_number = std::is_same_v<E, NarrowEntry> ? 0xffffffffu : ~std::uint64_t{0};
    const auto bad = std::find_if(line.begin(), line.end(), [](const E& e) { return e.key() == not_a_number; });
    if (has_nan && bad != line.end())
      std::swap(line.entries[0], *bad);
    else
      bring_forward(middle)(line);
  });
  return without_axis(y, at, keepdim);
}

}  // namespace espalier
