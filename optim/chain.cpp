#include "espalier/optim/chain.h"

#include <set>

namespace espalier::optim {

std::vector<std::string> Chain::names() const {
  std::vector<std::string> names;
  for (const Link& link : links_) names.push_back(link.transform->name());
  return detail::numbered(std::move(names));
}

Chain on(const Select& select, Chain chain) {
  for (Link& link : chain.links_) link.select = link.select.all() ? select : select && link.select;
  return chain;
}

std::vector<std::string> detail::numbered(std::vector<std::string> names) {
  std::set<std::string> used;
  for (std::string& name : names) {
    std::string unique = name;
    for (int k = 2; !used.insert(unique).second; ++k) unique = name + "." + std::to_string(k);
    name = unique;
  }
  return names;
}

}  // namespace espalier::optim
