// Distribution: how much where. Under Scope::tensor every parameter reaches a sparsity of its own; this says which, so
// that all together reach the pruner's.
//
//   Pruner(parameters, {.scope = Scope::tensor, .distribution = prune::erk()}).to_sparsity(0.9);
//   Pruner(parameters, {.scope = Scope::tensor, .distribution = prune::table({{"fc1.*", 0.92}, {"*", 0.9}})});
//
// What is to be left alone altogether is not selected: .select = optim::all_but_last(model.parameters()).
#pragma once

#include <concepts>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/optim/select.h"

namespace espalier::prune {

/// (parameters, the sparsity of all together) -> the sparsity of each. A value.
class Distribution final {
 public:
  using Function = std::function<std::vector<double>(const ParameterList&, double)>;

  /// uniform().
  Distribution() : name_("uniform") {}
  Distribution(std::string name, Function share) : name_(std::move(name)), share_(std::move(share)) {}
  template <class F>
  requires(std::is_invocable_r_v<std::vector<double>, const F&, const ParameterList&, double> &&
           !std::same_as<std::remove_cvref_t<F>, Distribution>) Distribution(F share)  // NOLINT: a function is one
      : Distribution("custom", Function(std::move(share))) {}

  const std::string& name() const noexcept { return name_; }
  bool uniform() const noexcept { return !share_; }
  /// Errors: ConfigError for a sparsity outside [0, 1], given or returned, or a number of them that is not the list's.
  std::vector<double> operator()(const ParameterList& parameters, double sparsity) const;

 private:
  std::string name_;
  Function share_;
};

/// The same for all.
inline Distribution uniform() { return {}; }

struct ErkOptions {
  optim::Select exempt = optim::Select() && !optim::Select();  ///< these stay dense; the others make up for it
};
/// Density of parameter l = eps * sum(shape) / product(shape), with one eps for all such that the sparsity of all
/// together is met; where that is above 1 the parameter stays dense, and eps is found again for the others. Small
/// tensors keep a larger share, vectors the most. Errors: ConfigError if those that are exempt alone have more weights
/// than are to stay. Evci, Gale, Menick, Castro and Elsen 2020 (Erdos-Renyi-Kernel, section 3).
Distribution erk(ErkOptions options = {});
/// The same without the axes of a convolution's kernel: eps * (out + in) / (out * in). Mocanu et al. 2018.
Distribution erdos_renyi(ErkOptions options = {});

struct TableRow {
  optim::Select select;
  double sparsity;
};
/// A sparsity for each parameter: that of the first row that matches; 0 for one that no row matches. They hold where
/// the pruner's sparsity is what they come to over all weights, table_sparsity(); at a share x of that each is x times
/// as large, so that a Schedule leads up to them:
///
///   const std::vector<prune::TableRow> rows{{"fc1.weight", 0.92}, {"*", 0.9}};
///   ... .distribution = table(rows),
///       .schedule = cubic({.final_sparsity = table_sparsity(rows, model.parameters()), ...})
///
/// Errors: ConfigError for a sparsity outside [0, 1]; when pruning, for a row that is the first to match of no
/// parameter, or more sparsity than the table has.
Distribution table(std::vector<TableRow> rows);
/// The share of all weights, of those selected, that such a table prunes.
double table_sparsity(const std::vector<TableRow>& rows, const ParameterList& parameters,
                      const optim::Select& select = optim::select_rank(2));

}  // namespace espalier::prune
