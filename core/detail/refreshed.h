// A sparse layout whose values are read anew from a dense weight: what training with a mask needs.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "espalier/core/kernels/sparse.h"
#include "espalier/core/parallel.h"

namespace espalier::detail {

/// value[at[k]] = weight[from[k]].
template <class T>
struct Refreshed {
  kernels::SparseMatrix<T> matrix;
  std::vector<std::uint32_t> at, from;

  /// `source(r, c)`: where entry (r, c) of the matrix lies in the weight, or -1.
  template <class Source>
  void build(Index rows, Index columns, const Source& source) {
    // Laid out once with the number of each entry, from 1, for its value; f64 holds all of them.
    std::vector<double> numbers(static_cast<std::size_t>(rows * columns));
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; ++c)
        numbers[static_cast<std::size_t>(r * columns + c)] = static_cast<double>(source(r, c) + 1);
    kernels::SparseMatrix<double> s = kernels::to_sparse(numbers.data(), rows, columns);
    for (std::size_t k = 0; k < s.value.size(); ++k) {
      if (s.value[k] == 0) continue;
      at.push_back(static_cast<std::uint32_t>(k));
      from.push_back(static_cast<std::uint32_t>(s.value[k] - 1));
    }
    matrix = {rows,
              columns,
              s.pattern,
              s.live,
              s.width,
              s.blocks,
              s.window,
              std::move(s.begin),
              std::move(s.order),
              std::move(s.column),
              std::move(s.place),
              std::vector<T>(s.value.size())};
  }
  void refresh(const T* weight) {
    parallel_for(static_cast<Index>(at.size()), 1 << 15, [&](Index begin, Index end) {
      for (auto k = static_cast<std::size_t>(begin); k < static_cast<std::size_t>(end); ++k)
        matrix.value[at[k]] = weight[from[k]];
    });
  }
};

}  // namespace espalier::detail
