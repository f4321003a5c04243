#include "espalier/optim/chain.h"

#include <set>

namespace espalier::optim {

std::vector<std::string> Chain::names() const {
  std::vector<std::string> names;
  for (const Link& link : links_) names.push_back(link.name.empty() ? link.transform->name() : link.name);
  return detail::numbered(std::move(names));
}

Chain on(const Select& select, Chain chain) {
  for (Link& link : chain.links_) link.select = link.select.all() ? select : select && link.select;
  return chain;
}

Chain when(std::function<bool(std::int64_t)> test, Chain chain) {
  if (!test) fail<ConfigError>("[when] there is no test");
  for (Link& link : chain.links_)
    link.when = !link.when ? test : [test, inner = link.when](std::int64_t step) { return test(step) && inner(step); };
  return chain;
}

Chain every(std::int64_t k, Chain chain) {
  if (k < 1) fail<ConfigError>("[every] k must be at least 1, got ", k);
  return when([k](std::int64_t step) { return step % k == k - 1; }, std::move(chain));
}

Chain as(std::string name, Chain chain) {
  if (name.empty() || name.find('/') != std::string::npos)
    fail<ConfigError>("[as] '", name, "' cannot be a name: it must not be empty or hold '/'");
  if (chain.links_.size() != 1)
    fail<ConfigError>("[as] '", name, "' names one transform, but the chain has ", chain.links_.size());
  chain.links_.front().name = std::move(name);
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
