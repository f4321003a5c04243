#include "espalier/prune/distribution.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace espalier::prune {
namespace {

double size_of(const NamedParameter& named) { return static_cast<double>(named.parameter->value().size()); }

double size_of(const ParameterList& parameters) {
  double n = 0;
  for (const NamedParameter& named : parameters) n += size_of(named);
  return n;
}

/// sum / product of the first `axes` lengths; 1 below rank 2, where nothing is to be gained.
double erdos_renyi_density(const Shape& shape, int axes) {
  if (shape.rank() < 2) return 1;
  double sum = 0, product = 1;
  for (int a = 0; a < std::min(axes, shape.rank()); ++a) {
    sum += static_cast<double>(shape[a]);
    product *= static_cast<double>(shape[a]);
  }
  return product > 0 ? sum / product : 0;
}

std::vector<double> erdos_renyi_sparsities(const char* name, const ParameterList& parameters, double sparsity,
                                           const optim::Select& exempt, int axes) {
  const std::size_t n = parameters.size();
  std::vector<double> raw(n);
  std::vector<bool> dense(n);
  for (std::size_t l = 0; l < n; ++l) {
    raw[l] = erdos_renyi_density(parameters[l].parameter->value().shape(), axes);
    dense[l] = exempt(parameters[l]);
  }
  const double left = (1 - sparsity) * size_of(parameters);
  double eps = 0;
  for (bool again = true; again;) {
    double for_others = left, weight = 0;
    for (std::size_t l = 0; l < n; ++l)
      (dense[l] ? for_others : weight) += (dense[l] ? -1 : raw[l]) * size_of(parameters[l]);
    if (for_others < -0.5)
      fail<ConfigError>("[", name, "] those that stay dense have more weights than the ", std::llround(left),
                        " of a sparsity of ", sparsity, ". Hint: exempt fewer");
    eps = weight > 0 ? std::max(for_others, 0.0) / weight : 0;
    again = false;
    for (std::size_t l = 0; l < n; ++l)
      if (!dense[l] && eps * raw[l] > 1) dense[l] = again = true;
  }
  std::vector<double> sparsities(n);
  for (std::size_t l = 0; l < n; ++l) sparsities[l] = dense[l] ? 0 : std::clamp(1 - eps * raw[l], 0.0, 1.0);
  return sparsities;
}

Distribution erdos_renyi_distribution(const char* name, ErkOptions options, int axes) {
  return Distribution(name, [name, options = std::move(options), axes](const ParameterList& parameters, double s) {
    return erdos_renyi_sparsities(name, parameters, s, options.exempt, axes);
  });
}

std::vector<double> table_sparsities(const std::vector<TableRow>& rows, const ParameterList& parameters) {
  std::vector<double> sparsities;
  std::vector<bool> used(rows.size());
  for (const NamedParameter& named : parameters) {
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const TableRow& r) { return r.select(named); });
    sparsities.push_back(row == rows.end() ? 0 : row->sparsity);
    if (row != rows.end()) used[static_cast<std::size_t>(row - rows.begin())] = true;
  }
  if (const auto idle = std::find(used.begin(), used.end(), false); idle != used.end())
    fail<ConfigError>("[table] row ", idle - used.begin(), " is the first to match of none of the ", parameters.size(),
                      " parameters. Hint: rows are asked in their order; \"*\" goes last");
  return sparsities;
}

double overall(const ParameterList& parameters, const std::vector<double>& sparsities) {
  double pruned = 0;
  for (std::size_t l = 0; l < parameters.size(); ++l) pruned += sparsities[l] * size_of(parameters[l]);
  const double n = size_of(parameters);
  return n > 0 ? pruned / n : 0;
}

void check_sparsity(const std::string& name, const char* what, double s) {
  if (!(s >= 0 && s <= 1)) fail<ConfigError>("[", name, "] ", what, " must be in [0, 1], got ", s);
}

}  // namespace

std::vector<double> Distribution::operator()(const ParameterList& parameters, double sparsity) const {
  check_sparsity(name_, "the sparsity", sparsity);
  if (!share_) return std::vector<double>(parameters.size(), sparsity);
  std::vector<double> each = share_(parameters, sparsity);
  if (each.size() != parameters.size())
    fail<ConfigError>("[", name_, "] ", each.size(), " sparsities for ", parameters.size(), " parameters");
  for (std::size_t l = 0; l < each.size(); ++l)
    check_sparsity(name_, join("the sparsity of '", parameters[l].name, "'").c_str(), each[l]);
  return each;
}

Distribution erk(ErkOptions options) { return erdos_renyi_distribution("erk", std::move(options), Dims::max_rank); }
Distribution erdos_renyi(ErkOptions options) { return erdos_renyi_distribution("erdos_renyi", std::move(options), 2); }

Distribution table(std::vector<TableRow> rows) {
  for (const TableRow& row : rows) check_sparsity("table", "a sparsity", row.sparsity);
  return Distribution("table", [rows = std::move(rows)](const ParameterList& parameters, double sparsity) {
    std::vector<double> each = table_sparsities(rows, parameters);
    const double most = overall(parameters, each);
    if ((sparsity - most) * size_of(parameters) > 0.5)
      fail<ConfigError>("[table] it comes to a sparsity of ", most, ", asked for ", sparsity,
                        ". Hint: table_sparsity() says what it comes to");
    for (double& s : each) s = most > 0 ? std::min(1.0, s * (sparsity / most)) : 0;
    return each;
  });
}

double table_sparsity(const std::vector<TableRow>& rows, const ParameterList& parameters, const optim::Select& select) {
  ParameterList chosen;
  for (const NamedParameter& named : parameters)
    if (select(named)) chosen.push_back(named);
  return overall(chosen, table_sparsities(rows, chosen));
}

}  // namespace espalier::prune
