#include "espalier/core/sort.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>
#include <utility>

#include "espalier/core/detail/groups.h"
#include "espalier/core/elementwise.h"

namespace espalier {
namespace {

using detail::Groups;
using detail::groups_along;

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

/// Gives every row along `axis` as a Line to arrange(line), and stores the first `kept` of its entries.
template <class Arrange>
MaxResult arranged(const char* op, const Tensor& x, int at, Index kept, bool descending, Arrange arrange) {
  Shape shape = x.shape();
  if (x.rank() > 0) shape[at] = kept;
  MaxResult y{Tensor::empty(shape, x.dtype()), Tensor::empty(shape, DType::i64)};
  if (y.values.size() == 0) return y;
  const Groups g = groups_along(x, at);
  if (g.n > std::numeric_limits<std::uint32_t>::max())
    fail<ShapeError>("[", op, "] axis ", at, " of shape ", x.shape(), " is too long: at most 2^32 - 1 can be ordered");
  dispatch(x.dtype(), [&]<class T>() {
    using E = Entry<T>;
    const T* p = g.x.data<T>();
    T* values = y.values.write<T>(op);
    Index* places = y.indices.write<Index>(op);
    parallel_for(g.outer * g.inner, std::max<Index>(1, 2048 / g.n), [&](Index begin, Index end) {
      Line<E> line(g.n);
      for (Index row = begin; row < end; ++row) {
        const T* from = p + row / g.inner * g.n * g.inner + row % g.inner;
        line.n = g.n;
        for (Index i = 0; i < g.n; ++i) {
          const auto key = key_of(from[i * g.inner]);
          line.entries[i] = E::make(descending ? static_cast<decltype(key)>(~key) : key, i);
        }
        arrange(line);
        const Index to = row / g.inner * kept * g.inner + row % g.inner;
        for (Index i = 0; i < kept; ++i) {
          const Index place = line.entries[i].place();
          places[to + i * g.inner] = place;
          values[to + i * g.inner] = from[place * g.inner];
        }
      }
    });
  });
  return y;
}

MaxResult without_axis(MaxResult y, int at, bool keepdim) {
  if (keepdim || y.values.rank() == 0) return y;
  return {y.values.select(at, 0), y.indices.select(at, 0)};
}

Index length_along(const Tensor& x, int at) { return x.rank() == 0 ? 1 : x.shape()[at]; }

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
  return arranged("sort", x, at, length_along(x, at), descending, [](auto& line) { sort_line(line); });
}

MaxResult topk(const Tensor& x, Index k, int axis, bool largest) {
  const int at = ordered_axis("topk", x, axis);
  check_rank_of("topk", x, k, 0, at);
  if (x.rank() == 0 && k == 0) fail<IndexError>("[topk] k = 0 of a scalar. Hint: reshape({1})");
  return arranged("topk", x, at, k, largest, [k](auto& line) {
    if (k < line.n) std::nth_element(line.begin(), line.begin() + k, line.end());
    line.n = k;
    sort_line(line);
  });
}

MaxResult kthvalue(const Tensor& x, Index k, int axis, bool keepdim) {
  const int at = ordered_axis("kthvalue", x, axis);
  check_rank_of("kthvalue", x, k, 1, at);
  return without_axis(arranged("kthvalue", x, at, 1, false, bring_forward(k - 1)), at, keepdim);
}

MaxResult median(const Tensor& x, int axis, bool keepdim) {
  const int at = ordered_axis("median", x, axis);
  const Index n = length_along(x, at);
  if (n == 0) fail<ShapeError>("[median] axis ", axis, " of shape ", x.shape(), " is empty: there is no middle");
  const Index middle = (n - 1) / 2;
  const bool has_nan = is_floating(x.dtype());  // of an integer the largest key is a number like any other
  MaxResult y = arranged("median", x, at, 1, false, [=](auto& line) {
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
