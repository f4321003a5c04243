#include "espalier/prune/sensitivity.h"

#include <algorithm>
#include <cmath>

#include "espalier/core/table.h"
#include "espalier/prune/detail/followed.h"
#include "espalier/prune/detail/saved_weights.h"

namespace espalier::prune {

Sensitivity sensitivity(const ParameterList& parameters, const Metric& metric, SensitivityOptions options) {
  if (!metric) fail<ConfigError>("[sensitivity] there is no metric");
  if (options.sparsities.empty()) fail<ConfigError>("[sensitivity] there must be at least one sparsity");
  for (const double s : options.sparsities)
    if (!(s >= 0 && s <= 1)) fail<ConfigError>("[sensitivity] a sparsity must be in [0, 1], got ", s);
  const ParameterList list = detail::followed("sensitivity", parameters, options.select);
  PrunerOptions alone = std::move(options.pruner);
  alone.score = options.score;
  alone.scope = Scope::tensor;
  alone.groups.clear();
  alone.select = optim::Select();
  alone.schedule = Schedule();
  alone.mode = MaskMode::hard;

  Sensitivity result;
  result.better = options.better;
  result.metric = measured(metric);
  if (std::isnan(result.metric)) fail<NonFiniteError>("[sensitivity] the metric of the model as it is is NaN");
  for (const NamedParameter& named : list) {
    SensitivityRow row{named.name, named.parameter->value().shape(), {}};
    const detail::Borrowed borrowed(parameters);  // a granularity may reach beyond the one parameter
    Pruner pruner({named}, alone);
    for (const double sparsity : options.sparsities) {
      pruner.to_sparsity(sparsity);
      const double now = measured(metric);
      row.points.push_back({sparsity, pruner.sparsity(), now, drop_of(result.metric, now, options.better)});
      borrowed.put_back();
    }
    result.rows.push_back(std::move(row));
  }
  return result;
}

std::vector<std::pair<std::string, double>> Sensitivity::suggest(double max_drop) const {
  std::vector<std::pair<std::string, double>> suggested;
  for (const SensitivityRow& row : rows) {
    double most = 0;
    for (const SensitivityPoint& point : row.points)
      if (within_drop(metric, point.metric, better, max_drop)) most = std::max(most, point.asked);
    suggested.emplace_back(row.name, most);
  }
  return suggested;
}

std::string Sensitivity::table() const {
  std::vector<std::string> header = {"parameter", "shape"};
  if (!rows.empty())
    for (const SensitivityPoint& point : rows.front().points) header.push_back(percent(point.asked));
  Table table(std::move(header));
  for (const SensitivityRow& row : rows) {
    std::vector<std::string> cells = {row.name, join(row.shape)};
    for (const SensitivityPoint& point : row.points) cells.push_back(with_decimals(point.metric, 4));
    table.add(std::move(cells));
  }
  return table.to_string() + join("as it is: ", with_decimals(metric, 4), "\n");
}

}  // namespace espalier::prune
