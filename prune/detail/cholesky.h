// Dense factorisations in f64 for the second-order methods. Matrices are contiguous [n, n]. The same bytes at any
// thread count.
#pragma once

#include <string>
#include <vector>

#include "espalier/core/tensor.h"

namespace espalier::prune::detail {

/// L with a = L L^T; only the lower triangle of a is read. Returns the first column whose pivot is not above 0, or -1.
/// Cost: n^3 / 3. Golub and Van Loan 2013, algorithm 4.2.1, in blocks.
Index cholesky(Tensor& a);
/// L^-1 of a lower triangle. Cost: n^3 / 3.
Tensor invert_lower(const Tensor& l);
/// Solves a x = b in place for a few unknowns: a is n x n, its lower triangle is overwritten. False if a is not positive
/// definite.
bool solve(std::vector<double>& a, std::vector<double>& x);

/// Errors: ConfigError unless damping >= 0 and finite.
void check_damping(const char* op, double damping);

/// X^T X + lambda I, lambda = damping times the mean of the diagonal. A column that is always 0 is *dead*: its diagonal
/// becomes next to nothing, so that its weights cost next to nothing, whatever their size.
class LayerHessian final {
 public:
  /// Errors: NonFiniteError for NaN or infinity in the Gram matrix; ConfigError if the sum is singular.
  LayerHessian(const char* op, const std::string& name, const Tensor& gram, double damping);
  const Tensor& matrix() const noexcept { return matrix_; }
  Tensor inverse() const;  ///< cost: columns^3
  /// U, upper, with U^T U = H^-1. Row j over its diagonal says how the columns behind j make up for a change of column j
  /// when all before it are settled. Cost: columns^3.
  Tensor inverse_factor() const;
  bool dead(Index column) const noexcept { return dead_[static_cast<std::size_t>(column)]; }

 private:
  Tensor matrix_, factor_;
  std::vector<bool> dead_;
};

}  // namespace espalier::prune::detail
