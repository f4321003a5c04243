#include "espalier/prune/report.h"

#include <algorithm>
#include <cstdio>

#include "espalier/core/packed.h"

namespace espalier::prune {

Index live_weights(const ParameterState& p) {
  if (p.mask().defined()) return p.mask().live();
  const Packed* packed = p.value().packed();
  return packed ? packed->live() : p.value().size();
}

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
  std::vector<std::vector<std::string>> cells{{"parameter", "shape", "weights", "live", "sparsity", "state"}};
  SparsityRow total{"total", {}, 0, 0, ""};
  for (const SparsityRow& row : rows) {
    cells.push_back({row.name, join(row.shape), join(row.size), join(row.live), percent(row.sparsity()), row.state});
    total.size += row.size;
    total.live += row.live;
  }
  cells.push_back({total.name, "", join(total.size), join(total.live), percent(total.sparsity()), ""});
  return aligned(cells);
}

std::string aligned(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> width;
  for (const auto& row : rows) {
    width.resize(std::max(width.size(), row.size()));
    for (std::size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string gap(width[c] - row[c].size(), ' ');
      text += c == 0 ? row[c] + gap : "  " + gap + row[c];
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  return text;
}

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * share);
  return text;
}

}  // namespace espalier::prune
