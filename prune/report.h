// What is pruned: one row for each parameter, and the rows as text.
#pragma once

#include <string>
#include <vector>

#include "espalier/autograd/macs.h"
#include "espalier/autograd/parameter.h"
#include "espalier/optim/select.h"

namespace espalier::prune {

using espalier::live_weights;

/// Share of weights that are pruned, over the parameters selected: the weights of layers, unless told otherwise.
double sparsity(const ParameterList& parameters, const optim::Select& select = optim::select_rank(2));

struct SparsityRow {
  std::string name;
  Shape shape;
  Index size = 0, live = 0;
  std::string state;  ///< "dense", "hard" or "soft" mask, or how the value is packed
  double sparsity() const noexcept { return size > 0 ? 1 - static_cast<double>(live) / static_cast<double>(size) : 0; }
};
std::vector<SparsityRow> sparsity_rows(const ParameterList& parameters);
/// A row's line each, in aligned columns, and the total.
std::string table(const std::vector<SparsityRow>& rows);

}  // namespace espalier::prune
