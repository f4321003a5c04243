#include "espalier/prune/report.h"

#include "espalier/core/packed.h"
#include "espalier/core/table.h"

namespace espalier::prune {

double sparsity(const ParameterList& parameters, const optim::Select& select) {
  Index live = 0, all = 0;
  for (const NamedParameter& named : parameters) {
    if (!select(named)) continue;
    live += live_weights(*named.parameter);
    all += named.parameter->value().size();
  }
  return all > 0 ? 1 - static_cast<double>(live) / static_cast<double>(all) : 0;
}

std::vector<SparsityRow> sparsity_rows(const ParameterList& parameters) {
  std::vector<SparsityRow> rows;
  for (const NamedParameter& named : parameters) {
    const ParameterState& p = *named.parameter;
    const Packed* packed = p.value().packed();
    rows.push_back({named.name, p.value().shape(), p.value().size(), live_weights(p),
                    packed                            ? packed->describe()
                    : !p.mask().defined()             ? "dense"
                    : p.mask_mode() == MaskMode::soft ? "soft"
                                                      : "hard"});
  }
  return rows;
}

std::string table(const std::vector<SparsityRow>& rows) {
  Table table({"parameter", "shape", "weights", "live", "sparsity", "state"});
  SparsityRow total{"total", {}, 0, 0, ""};
  for (const SparsityRow& row : rows) {
    table.add({row.name, join(row.shape), grouped(row.size), grouped(row.live), percent(row.sparsity()), row.state});
    total.size += row.size;
    total.live += row.live;
  }
  table.add({});
  table.add({total.name, "", grouped(total.size), grouped(total.live), percent(total.sparsity())});
  return table.to_string();
}

}  // namespace espalier::prune
