#include "espalier/prune/detail/cholesky.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/core/elementwise.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/prune/detail/lanes.h"

namespace espalier::prune::detail {
namespace {

constexpr Index block = 64;

double dot(const double* a, const double* b, Index n) {
  return sum_of(n, [a, b](Index k) { return a[k] * b[k]; });
}

/// Factors columns [first, last) of rows [first, n); what the columns before first contribute is subtracted already.
Index factor_panel(double* a, Index n, Index first, Index last) {
  for (Index j = first; j < last; ++j) {
    double* row = a + j * n;
    const double pivot = row[j] - dot(row + first, row + first, j - first);
    if (!(pivot > 0)) return j;
    row[j] = std::sqrt(pivot);
    for (Index i = j + 1; i < last; ++i) {
      double* below = a + i * n;
      below[j] = (below[j] - dot(below + first, row + first, j - first)) / row[j];
    }
  }
  parallel_for(n - last, 16, [&](Index begin, Index end) {
    for (Index i = last + begin; i < last + end; ++i) {
      double* below = a + i * n;
      for (Index j = first; j < last; ++j)
        below[j] = (below[j] - dot(below + first, a + j * n + first, j - first)) / a[j * n + j];
    }
  });
  return -1;
}

/// Rows and columns in reverse order.
Tensor reversed(const Tensor& a) {
  const Index n = a.dim(0);
  Tensor result = Tensor::empty({n, n}, DType::f64);
  const double* from = a.data<double>();
  std::reverse_copy(from, from + n * n, result.write<double>("reverse"));
  return result;
}

}  // namespace

Index cholesky(Tensor& matrix) {
  const Index n = matrix.dim(0);
  double* a = matrix.write<double>("cholesky");
  for (Index first = 0; first < n; first += block) {
    const Index last = std::min(n, first + block), rest = n - last;
    if (const Index bad = factor_panel(a, n, first, last); bad >= 0) return bad;
    if (rest == 0) break;
    const Tensor panel = matrix.narrow(0, last, rest).narrow(1, first, last - first);
    const Tensor product = matmul(panel, panel.t());
    const double* p = product.data<double>();
    parallel_for(rest, 16, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        for (Index j = 0; j <= i; ++j) a[(last + i) * n + last + j] -= p[i * rest + j];
    });
  }
  for (Index i = 0; i < n; ++i) std::fill(a + i * n + i + 1, a + (i + 1) * n, 0.0);
  return -1;
}

Tensor invert_lower(const Tensor& lower) {
  const Index n = lower.dim(0);
  Tensor result = Tensor::zeros({n, n}, DType::f64);
  if (n > block) {  // by halves, so that the work is in matrix products
    const Index half = n / 2 / block * block + (n / 2 < block ? n / 2 : 0), rest = n - half;
    const Tensor top = invert_lower(lower.narrow(0, 0, half).narrow(1, 0, half));
    const Tensor bottom = invert_lower(lower.narrow(0, half, rest).narrow(1, half, rest));
    const Tensor corner = matmul(bottom, matmul(lower.narrow(0, half, rest).narrow(1, 0, half), top));
    Tensor views[] = {result.narrow(0, 0, half).narrow(1, 0, half), result.narrow(0, half, rest).narrow(1, half, rest),
                      result.narrow(0, half, rest).narrow(1, 0, half)};
    views[0].copy_from(top);
    views[1].copy_from(bottom);
    views[2].copy_from(map_with("invert", corner, [](auto v) { return -v; }));
    return result;
  }
  const Tensor dense = lower.contiguous();
  const double* l = dense.data<double>();
  double* inverse = result.write<double>("invert");
  std::vector<double> y(static_cast<std::size_t>(n));  // column j solves L y = e_j; it begins at j
  for (Index j = 0; j < n; ++j)
    for (Index i = j; i < n; ++i) {
      double& v = y[static_cast<std::size_t>(i)];
      v = ((i == j ? 1 : 0) - dot(l + i * n + j, y.data() + j, i - j)) / l[i * n + i];
      inverse[i * n + j] = v;
    }
  return result;
}

bool solve(std::vector<double>& a, std::vector<double>& x) {
  const Index n = static_cast<Index>(x.size());
  if (factor_panel(a.data(), n, 0, n) >= 0) return false;
  for (Index i = 0; i < n; ++i) {
    double& v = x[static_cast<std::size_t>(i)];
    v = (v - dot(a.data() + i * n, x.data(), i)) / a[static_cast<std::size_t>(i * n + i)];
  }
  for (Index i = n - 1; i >= 0; --i) {
    double& v = x[static_cast<std::size_t>(i)];
    v /= a[static_cast<std::size_t>(i * n + i)];
    for (Index k = 0; k < i; ++k) x[static_cast<std::size_t>(k)] -= a[static_cast<std::size_t>(i * n + k)] * v;
  }
  return true;
}

void check_damping(const char* op, double damping) {
  if (!(damping >= 0 && damping <= std::numeric_limits<double>::max()))
    fail<ConfigError>("[", op, "] damping must be at least 0 and finite, got ", damping);
}

LayerHessian::LayerHessian(const char* op, const std::string& name, const Tensor& gram, double damping)
    : matrix_(gram.clone()), dead_(static_cast<std::size_t>(gram.dim(0))) {
  const Index n = gram.dim(0);
  double* h = matrix_.write<double>(op);
  double trace = 0;
  for (Index j = 0; j < n; ++j) trace += h[j * n + j];
  for (Index k = 0; k < n * n; ++k)
    if (!std::isfinite(h[k])) fail<NonFiniteError>("[", op, "] the inputs that '", name, "' multiplies are not finite");
  const double mean = n == 0 ? 0 : trace / static_cast<double>(n), lambda = damping * mean;
  const double nothing = trace > 0 ? 1e-30 * mean : 1e-30;
  for (Index j = 0; j < n; ++j) {
    double& diagonal = h[j * n + j];
    dead_[static_cast<std::size_t>(j)] = diagonal == 0;
    diagonal = diagonal == 0 ? nothing : diagonal + lambda;
  }
  factor_ = matrix_.clone();
  Index singular = cholesky(factor_);
  const double* l = factor_.data<double>();
  // What is left of a diagonal may be rounding error alone.
  const double noise = static_cast<double>(n) * std::numeric_limits<double>::epsilon();
  for (Index j = 0; singular < 0 && j < n; ++j)
    if (!(l[j * n + j] * l[j * n + j] > noise * h[j * n + j])) singular = j;
  if (singular >= 0)
    fail<ConfigError>("[", op, "] X^T X + ", lambda, " I of '", name, "' is singular: column ", singular,
                      " follows from those before it. Hint: more batches, or a larger damping");
}

Tensor LayerHessian::inverse() const {
  const Tensor l = invert_lower(factor_);
  return matmul(l.t(), l);
}

Tensor LayerHessian::inverse_factor() const {
  // With rows and columns reversed, a lower factor is an upper one: H = R R^T, and H^-1 = (R^-1)^T R^-1.
  Tensor l = reversed(matrix_);
  cholesky(l);
  return reversed(invert_lower(l));
}

}  // namespace espalier::prune::detail
