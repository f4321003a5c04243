// The loops of reductions: a tensor seen as groups of elements, folded by a fixed tree in pieces that stay in the cache.
#pragma once

#include <algorithm>
#include <array>
#include <memory>

#include "espalier/core/kernels/transpose.h"
#include "espalier/core/parallel.h"
#include "espalier/core/tensor.h"

namespace espalier::detail {

constexpr Index grain_elements = Index{1} << 14;  // what a thread takes at a time
constexpr Index strip_columns = 512;              // columns that are folded together
constexpr Index short_row = 64;                   // shorter rows are turned into columns first
constexpr Index tile_elements = Index{1} << 15;

inline Index rows_per_chunk(Index row_length) {
  return std::max<Index>(1, grain_elements / std::max<Index>(1, row_length));
}

/// A contiguous tensor seen as [outer, n, inner]; the groups run over the middle. Or, with repeats, as
/// [repeats, outer, n] of groups that run over both ends, as those of channels in a batch of images.
struct Groups {
  Tensor x;
  Index outer, n, inner;
  Dims order;  ///< of the axes of the original in x; as they are, if empty
  Index repeats = 1;
};

/// Brings `axes` (sorted, as reduced_axes gives them) together: in place where they are neighbours, else by a copy with
/// them last.
Groups gather_groups(const Tensor& x, const Dims& axes);
/// The same for fold_groups, which can do with repeats instead of a copy.
Groups foldable_groups(const Tensor& x, const Dims& axes);
/// One axis; nothing is moved. A scalar is one group of one element.
Groups groups_along(const Tensor& x, int axis);
/// y, in the layout of g.x, as a tensor with the axes of the original.
Tensor scatter_groups(const Groups& g, const Tensor& y);

/// Folds rows [0, rows) of a tile into `into`, one value a column. A tile of few columns is read as one of more, with
/// several rows in each.
template <class T, class How, class A = typename How::Value>
void fold_tile(const How& how, const T* x, Index rows, Index cols, Index stride, A* into) {
  const Index side_by_side = stride == cols && cols <= 32 ? 128 / cols : 1;
  const Index wide_rows = rows / side_by_side;
  if (side_by_side == 1 || wide_rows < 2) {
    how.columns(x, rows, cols, stride, into);
    return;
  }
  std::array<A, strip_columns> wide;
  how.columns(x, wide_rows, side_by_side * cols, side_by_side * cols, wide.data());
  std::copy_n(wide.begin(), cols, into);
  for (Index k = 1; k < side_by_side; ++k)
    for (Index c = 0; c < cols; ++c) into[c] = how.join(into[c], wide[static_cast<std::size_t>(k * cols + c)]);
  const Index done = wide_rows * side_by_side;
  if (done == rows) return;
  how.columns(x + done * cols, rows - done, cols, stride, wide.data());
  for (Index c = 0; c < cols; ++c) into[c] = how.join(into[c], wide[static_cast<std::size_t>(c)]);
}

/// Folds every group (n >= 1) and calls finish(place, value), place = outer index * inner + inner index. `How` is
///
///   using Value = ...;                                                  what a piece of a group gives
///   Value row(const T* x, Index n) const;                               of n neighbours
///   void columns(const T* x, Index rows, Index cols, Index stride, Value* out) const;   of at most 512 columns
///   Value join(Value, Value) const;
///
/// Cuts depend on the shape alone: the same bytes at any thread count.
template <class T, class How, class Finish>
void fold_groups(const Groups& g, const How& how, const Finish& finish) {
  using A = typename How::Value;
  const T* x = g.x.data<T>();
  const auto join = [&](const A& a, const A& b) { return how.join(a, b); };
  if (g.inner == 1) {
    const auto fold_run = [&](Index run) {
      const T* first = x + run * g.n;
      return parallel_reduce<A>(
          g.n, grain_elements, [&](Index begin, Index end) { return how.row(first + begin, end - begin); }, join);
    };
    const auto fold_row = [&](Index r) {
      A value = fold_run(r);
      for (Index k = 1; k < g.repeats; ++k) value = how.join(value, fold_run(k * g.outer + r));
      finish(r, value);
    };
    if (g.repeats == 1 && g.n <= short_row && g.outer >= 16) {  // by blocks of rows that are turned in the cache
      constexpr Index block = 128;
      const Index blocks = (g.outer + block - 1) / block;
      parallel_for(blocks, rows_per_chunk(g.n * block), [&](Index begin, Index end) {
        alignas(64) std::array<T, static_cast<std::size_t>(block * short_row)> turned;
        std::array<A, block> values;
        for (Index b = begin; b < end; ++b) {
          const Index first = b * block, rows = std::min(block, g.outer - first);
          kernels::transpose(x + first * g.n, rows, g.n, g.n, turned.data(), block);
          how.columns(turned.data(), g.n, rows, block, values.data());
          for (Index r = 0; r < rows; ++r) finish(first + r, values[static_cast<std::size_t>(r)]);
        }
      });
    } else if (g.outer < 8 && g.n > grain_elements) {
      for (Index r = 0; r < g.outer; ++r) fold_row(r);
    } else {
      parallel_for(g.outer, rows_per_chunk(g.repeats * g.n), [&](Index begin, Index end) {
        for (Index r = begin; r < end; ++r) fold_row(r);
      });
    }
    return;
  }
  const Index width = std::min(g.inner, strip_columns), strips = (g.inner + width - 1) / width;
  const Index tile_rows = tile_elements / width, cuts = (g.n + tile_rows - 1) / tile_rows, jobs = g.outer * strips;
  const auto columns_of = [&](Index job) { return std::min(width, g.inner - job % strips * width); };
  const auto fold_cut = [&](Index job, Index cut, A* into) {
    const Index first = cut * tile_rows;
    fold_tile(how, x + (job / strips * g.n + first) * g.inner + job % strips * width, std::min(tile_rows, g.n - first),
              columns_of(job), g.inner, into);
  };
  const auto take = [&](Index job, const A* values) {
    const Index place = job / strips * g.inner + job % strips * width;
    for (Index c = 0; c < columns_of(job); ++c) finish(place + c, values[c]);
  };
  if (cuts == 1 || jobs >= 16) {
    parallel_for(jobs, std::max<Index>(1, grain_elements / (g.n * width)), [&](Index begin, Index end) {
      std::array<A, strip_columns> sum, part;
      for (Index job = begin; job < end; ++job) {
        fold_cut(job, 0, sum.data());
        for (Index cut = 1; cut < cuts; ++cut) {
          fold_cut(job, cut, part.data());
          for (Index c = 0; c < columns_of(job); ++c)
            sum[static_cast<std::size_t>(c)] =
                how.join(sum[static_cast<std::size_t>(c)], part[static_cast<std::size_t>(c)]);
        }
        take(job, sum.data());
      }
    });
    return;
  }
  const auto parts = std::make_unique<A[]>(static_cast<std::size_t>(jobs * cuts * width));
  parallel_for(jobs * cuts, 1, [&](Index begin, Index end) {
    for (Index k = begin; k < end; ++k) fold_cut(k / cuts, k % cuts, parts.get() + k * width);
  });
  for (Index job = 0; job < jobs; ++job) {
    A* sum = parts.get() + job * cuts * width;
    for (Index cut = 1; cut < cuts; ++cut)
      for (Index c = 0; c < columns_of(job); ++c) sum[c] = how.join(sum[c], sum[cut * width + c]);
    take(job, sum);
  }
}

/// y = f(x, a of the group, b of the group), a and b with one element for each group in the order of the groups:
/// one(x, a, b, y, n) for a run of one group, each(x, a, b, y, n) for a run across groups.
template <class T, class One, class Each>
void map_groups(const Groups& g, const T* a, const T* b, T* y, const One& one, const Each& each) {
  const T* x = g.x.data<T>();
  constexpr Index wide = 512;
  if (g.inner == 1 && g.n > short_row) {
    const Index pieces = (g.n + grain_elements - 1) / grain_elements;  // long rows are cut
    parallel_for(g.outer * pieces, rows_per_chunk(g.n), [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k) {
        const Index r = k / pieces, first = k % pieces * grain_elements, at = r * g.n + first;
        one(x + at, a[r], b[r], y + at, std::min(grain_elements, g.n - first));
      }
    });
  } else if (g.inner <= 32) {  // what belongs to each element is written out, for several rows at once
    const Index rows = std::max<Index>(1, wide / g.inner), total = g.outer * g.n;
    parallel_for((total + rows - 1) / rows, rows_per_chunk(rows * g.inner), [&](Index begin, Index end) {
      std::array<T, wide> of_a, of_b;
      for (Index k = begin; k < end; ++k) {
        const Index first = k * rows, last = std::min(total, first + rows);
        Index at = 0, group = first / g.n, left = g.n - first % g.n;
        for (Index row = first; row < last; ++row) {
          for (Index c = 0; c < g.inner; ++c, ++at) {
            of_a[static_cast<std::size_t>(at)] = a[group * g.inner + c];
            of_b[static_cast<std::size_t>(at)] = b[group * g.inner + c];
          }
          if (--left == 0) {
            ++group;
            left = g.n;
          }
        }
        each(x + first * g.inner, of_a.data(), of_b.data(), y + first * g.inner, at);
      }
    });
  } else {
    parallel_for(g.outer * g.n, rows_per_chunk(g.inner), [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k) {
        const Index group = k / g.n * g.inner;
        each(x + k * g.inner, a + group, b + group, y + k * g.inner, g.inner);
      }
    });
  }
}

}  // namespace espalier::detail
