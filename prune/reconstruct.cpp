#include "espalier/prune/reconstruct.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <queue>
#include <vector>

#include "espalier/core/elementwise.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/core/reduce.h"
#include "espalier/prune/detail/cholesky.h"
#include "espalier/prune/select.h"

namespace espalier::prune {
namespace {

using Doubles = std::vector<double>;
using detail::LayerHessian;
std::size_t at(Index i) { return static_cast<std::size_t>(i); }

/// A layer as rows of columns, in f64, and what is to become of it.
struct Layer {
  const char* op;
  const std::string& name;
  Shape shape;
  DType type;
  Index groups, rows, columns;     // rows: of one group
  Tensor before, after;            // [groups * rows, columns]
  std::vector<std::uint8_t> live;  // by flat index; bytes, so that threads may write their rows

  Layer(const char* o, const std::string& n, const Tensor& weight, const Tensor& gram, const Mask& mask)
      : op(o), name(n), shape(weight.shape()), type(weight.dtype()) {
    if (gram.rank() != 3 || gram.dim(1) != gram.dim(2) || gram.dtype() != DType::f64 || weight.rank() < 2 ||
        gram.dim(0) < 1 || weight.dim(0) % gram.dim(0) != 0 || gram.dim(1) * weight.dim(0) != weight.size())
      fail<ShapeError>("[", op, "] a Gram matrix ", gram.shape(), " for the weight '", name, "' of shape ", shape,
                       "; it must be f64 [groups, columns, columns]");
    if (mask.defined() && mask.size() != weight.size())
      fail<ShapeError>("[", op, "] a mask of ", mask.size(), " for the weight '", name, "' of shape ", shape);
    groups = gram.dim(0);
    rows = shape[0] / groups;
    columns = gram.dim(1);
    before = weight.to(DType::f64).contiguous().reshape({groups * rows, columns});
    after = before.clone();
    live.resize(at(weight.size()), 1);
    const double* w = before.data<double>();
    for (Index k = 0; k < weight.size(); ++k) {
      if (!std::isfinite(w[k])) fail<NonFiniteError>("[", op, "] '", name, "' is not finite at flat index ", k);
      live[at(k)] = !mask.defined() || mask[k];
    }
  }

  Reconstruction result(const Tensor& gram) const {
    Reconstruction r;
    Mask mask(static_cast<Index>(live.size()));
    Tensor weight = after.clone();
    double* w = weight.write<double>(op);
    for (Index k = 0; k < weight.size(); ++k)
      if (!live[at(k)]) {
        w[k] = 0;
        mask.set(k, false);
      }
    if (mask.size() > 0 && mask.live() < mask.size()) r.mask = mask;
    r.weight = weight.to(type).reshape(shape);
    const double all = squared_outputs(before, gram);
    if (all > 0)
      r.error = squared_outputs(zip_with(op, before, weight, [](auto a, auto b) { return a - b; }), gram) / all;
    return r;
  }

 private:
  /// ||X w^T||^2
  double squared_outputs(const Tensor& w, const Tensor& gram) const {
    const Tensor by_group = w.reshape({groups, rows, columns});
    const Tensor product = matmul(by_group, gram);
    return sum(zip_with(op, product, by_group, [](auto a, auto b) { return a * b; })).item();
  }
};

// --- the optimal brain surgeon ---------------------------------------------------------------------------------------

/// One row from which weights are taken one by one.
class Surgeon final {
 public:
  Surgeon(const Tensor& inverse, double* w, Index n)
      : n_(n), p_(inverse.data<double>(), inverse.data<double>() + n * n), w_(w), live_(at(n), true) {}

  /// Takes out column j, and lets the others make up for it.
  void take(Index j) {
    const double* row = p_.data() + j * n_;
    const Doubles column(row, row + n_);
    const double pivot = column[at(j)], step = w_[j] / pivot;
    live_[at(j)] = false;
    for (Index k = 0; k < n_; ++k) w_[k] -= live_[at(k)] ? step * column[at(k)] : 0;
    w_[j] = 0;
    for (Index i = 0; i < n_; ++i) {
      const double factor = column[at(i)] / pivot;
      if (!live_[at(i)] || factor == 0) continue;
      double* to = p_.data() + i * n_;
      for (Index k = 0; k < n_; ++k) to[k] -= factor * column[at(k)];
    }
  }
  double cost(Index j) const { return w_[j] * w_[j] / (2 * p_[at(j * n_ + j)]); }
  /// The live column that costs least, the first among equals; -1 if none is left.
  Index cheapest() const {
    Index best = -1;
    for (Index j = 0; j < n_; ++j)
      if (live_[at(j)] && (best < 0 || cost(j) < cost(best))) best = j;
    return best;
  }

 private:
  Index n_;
  Doubles p_;  // inverse of H over the live columns; what belongs to the others is not read
  double* w_;
  std::vector<bool> live_;
};

/// Takes out of row r what is pruned already, then up to `most` more, which it may mark; returns what each cost.
Doubles operate(Layer& layer, const Tensor& inverse, Index r, double* w, Index most, bool mark) {
  Surgeon surgeon(inverse, w, layer.columns);
  for (Index j = 0; j < layer.columns; ++j)
    if (!layer.live[at(r * layer.columns + j)]) surgeon.take(j);
  Doubles costs;
  for (Index k = 0; k < most; ++k) {
    const Index j = surgeon.cheapest();
    if (j < 0) break;
    costs.push_back(surgeon.cost(j));
    surgeon.take(j);
    if (mark) layer.live[at(r * layer.columns + j)] = 0;
  }
  return costs;
}

// --- SparseGPT ---------------------------------------------------------------------------------------------------------

/// Marks what goes of columns [first, last) of one group by w^2 / U_jj^2, `goes(length of the run)` of each run of columns
/// in each of `sets` of rows.
void choose(Layer& layer, const Tensor& factor, Index group, Index first, Index last, bool each_row, Index count) {
  const Index n = layer.columns, width = last - first;
  const double *u = factor.data<double>(), *w = layer.after.data<double>();
  const Index set = each_row ? 1 : layer.rows;
  for (Index begin = 0; begin < layer.rows; begin += set) {
    Tensor scores = Tensor::empty({set, width}, DType::f64);
    double* s = scores.write<double>(layer.op);
    Mask pruned(set * width);
    for (Index i = 0; i < set; ++i)
      for (Index j = 0; j < width; ++j) {
        const Index flat = (group * layer.rows + begin + i) * n + first + j;
        const double d = u[(first + j) * n + first + j], root = w[flat] / d;
        s[i * width + j] = root * root;
        if (!layer.live[at(flat)]) pruned.set(i * width + j, false);
      }
    const Candidate candidate{layer.name, scores, pruned};
    const Mask kept = prune_lowest({&candidate, 1}, count)[0];
    for (Index i = 0; i < set && kept.defined(); ++i)
      for (Index j = 0; j < width; ++j)
        if (!kept[i * width + j]) layer.live[at((group * layer.rows + begin + i) * n + first + j)] = 0;
  }
}

/// Settles columns [first, last) of one group: the errors of what is pruned go to the columns behind.
void settle(Layer& layer, const Tensor& factor, Index group, Index first, Index last) {
  const Index n = layer.columns;
  const double* u = factor.data<double>();
  double* all = layer.after.write<double>(layer.op) + group * layer.rows * n;
  Tensor errors = Tensor::zeros({layer.rows, last - first}, DType::f64);
  double* e = errors.write<double>(layer.op);
  parallel_for(layer.rows, 8, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      double* w = all + i * n;
      for (Index j = first; j < last; ++j) {
        if (layer.live[at((group * layer.rows + i) * n + j)]) continue;
        const double error = w[j] / u[j * n + j];
        e[i * (last - first) + j - first] = error;
        w[j] = 0;
        for (Index k = j + 1; k < last; ++k) w[k] -= error * u[j * n + k];
      }
    }
  });
  if (last == n) return;
  const Tensor rest = matmul(errors, factor.narrow(0, first, last - first).narrow(1, last, n - last));
  const double* r = rest.data<double>();
  for (Index i = 0; i < layer.rows; ++i)
    for (Index k = last; k < n; ++k) all[i * n + k] -= r[i * (n - last) + k - last];
}

}  // namespace

Reconstruction compensate(const std::string& name, const Tensor& weight, const Tensor& gram, const Mask& mask,
                          double damping) {
  detail::check_damping("compensate", damping);
  Layer layer("compensate", name, weight, gram, mask);
  double* after = layer.after.write<double>("compensate");
  const Index n = layer.columns;
  for (Index g = 0; g < layer.groups; ++g) {
    const LayerHessian hessian("compensate", name, gram.select(0, g), damping);
    const double* h = hessian.matrix().data<double>();
    parallel_for(layer.rows, 1, [&](Index begin, Index end) {
      for (Index r = g * layer.rows + begin; r < g * layer.rows + end; ++r) {
        double* w = after + r * n;
        std::vector<Index> live, gone;
        for (Index j = 0; j < n; ++j) (layer.live[at(r * n + j)] ? live : gone).push_back(j);
        if (gone.empty() || live.empty()) continue;
        Doubles a(live.size() * live.size()), x(live.size());
        for (std::size_t i = 0; i < live.size(); ++i) {
          for (std::size_t k = 0; k <= i; ++k) a[i * live.size() + k] = h[live[i] * n + live[k]];
          for (Index j : gone) x[i] += h[live[i] * n + j] * w[j];
        }
        detail::solve(a, x);  // a principal part of a positive definite matrix is one itself
        for (std::size_t i = 0; i < live.size(); ++i) w[live[i]] += x[i];
      }
    });
  }
  return layer.result(gram);
}

Reconstruction obs_prune(const std::string& name, const Tensor& weight, const Tensor& gram, const Mask& mask,
                         ObsPruneOptions options) {
  detail::check_damping("obs_prune", options.damping);
  const Index total = count_of("obs_prune", options.sparsity, weight.size());
  Layer layer("obs_prune", name, weight, gram, mask);
  const Index n = layer.columns, rows = layer.groups * layer.rows;
  const Index more = std::max<Index>(0, total - std::count(layer.live.begin(), layer.live.end(), 0));
  std::vector<Tensor> inverses;
  for (Index g = 0; g < layer.groups; ++g)
    inverses.push_back(LayerHessian("obs_prune", name, gram.select(0, g), options.damping).inverse());
  auto inverse_of = [&](Index row) { return inverses[at(row / layer.rows)]; };

  // Rows do not act on each other: what each would lose, in order, is found first, then how far each has to go.
  std::vector<Doubles> costs(at(rows));
  const double* before = layer.before.data<double>();
  parallel_for(more == 0 ? 0 : rows, 1, [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      Doubles w(before + r * n, before + (r + 1) * n);
      costs[at(r)] = operate(layer, inverse_of(r), r, w.data(), more, false);
    }
  });
  std::vector<Index> taken(at(rows));
  using Next = std::pair<double, Index>;
  std::priority_queue<Next, std::vector<Next>, std::greater<>> next;
  for (Index r = 0; r < rows; ++r)
    if (!costs[at(r)].empty()) next.emplace(costs[at(r)][0], r);
  for (Index k = 0; k < more && !next.empty(); ++k) {
    const Index r = next.top().second;
    next.pop();
    if (const Index done = ++taken[at(r)]; done < static_cast<Index>(costs[at(r)].size()))
      next.emplace(costs[at(r)][at(done)], r);
  }
  double* after = layer.after.write<double>("obs_prune");
  parallel_for(rows, 1, [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) operate(layer, inverse_of(r), r, after + r * n, taken[at(r)], true);
  });
  return layer.result(gram);
}

Reconstruction sparsegpt(const std::string& name, const Tensor& weight, const Tensor& gram, const Mask& mask,
                         SparseGptOptions o) {
  detail::check_damping("sparsegpt", o.damping);
  const bool runs = o.of != 0 || o.keep != 0;
  if (runs == !std::isnan(o.sparsity)) fail<ConfigError>("[sparsegpt] either a sparsity or keep and of must be given");
  if (runs && (o.keep < 0 || o.of < 1 || o.keep > o.of))
    fail<ConfigError>("[sparsegpt] keep must be in [0, of], got ", o.keep, " of ", o.of);
  if (!runs) count_of("sparsegpt", o.sparsity, 0);
  if (o.block < 1) fail<ConfigError>("[sparsegpt] block must be at least 1, got ", o.block);
  Layer layer("sparsegpt", name, weight, gram, mask);
  const Index n = layer.columns, width = runs ? (o.block + o.of - 1) / o.of * o.of : o.block;
  for (Index g = 0; g < layer.groups; ++g) {
    const Tensor factor = LayerHessian("sparsegpt", name, gram.select(0, g), o.damping).inverse_factor();
    for (Index first = 0; first < n; first += width) {
      const Index last = std::min(n, first + width);
      if (!runs) {
        choose(layer, factor, g, first, last, false, count_of("sparsegpt", o.sparsity, layer.rows * (last - first)));
        settle(layer, factor, g, first, last);
        continue;
      }
      // Runs are chosen when the columns before them are settled.
      for (Index run = first; run < last; run += o.of) {
        const Index end = std::min(last, run + o.of);
        choose(layer, factor, g, run, end, true, (end - run) * (o.of - o.keep) / o.of);
        settle(layer, factor, g, run, end);
      }
    }
  }
  return layer.result(gram);
}

double reconstruct(const ParameterList& parameters, const Loss& run, Index batches, ReconstructOptions o) {
  double worst = 0;
  for (const NamedParameter& named : parameters) {
    if (!o.select(named)) continue;
    ParameterState& p = *named.parameter;
    const Gathered gathered = gather({named}, run, batches, {.gram = true});
    const Tensor& gram = gathered.of(p).gram;
    if (!gram.defined()) continue;
    const Mask before = p.mask_mode() == MaskMode::hard ? p.mask() : Mask();
    const Reconstruction r =
        sparsegpt(named.name, p.dense().defined() ? p.dense() : p.value(), gram, before,
                  {.sparsity = o.sparsity, .keep = o.keep, .of = o.of, .damping = o.damping, .block = o.block});
    p.set_mask(Mask());
    p.set_value(r.weight);
    p.set_mask(r.mask);
    worst = std::max(worst, r.error);
  }
  return worst;
}

}  // namespace espalier::prune
