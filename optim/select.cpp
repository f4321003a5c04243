#include "espalier/optim/select.h"

namespace espalier::optim {

Select::Select(const char* pattern) : Select(std::string(pattern)) {}
Select::Select(const std::string& pattern)
    : test_([pattern](const NamedParameter& p) { return matches(pattern, p.name); }) {}

Select operator&&(Select a, Select b) {
  return [a = std::move(a), b = std::move(b)](const NamedParameter& p) { return a(p) && b(p); };
}
Select operator||(Select a, Select b) {
  return [a = std::move(a), b = std::move(b)](const NamedParameter& p) { return a(p) || b(p); };
}
Select operator!(Select a) {
  return [a = std::move(a)](const NamedParameter& p) { return !a(p); };
}

Select select_rank(int lowest, int highest) {
  return [lowest, highest](const NamedParameter& p) {
    const int rank = p.parameter->value().rank();
    return rank >= lowest && rank <= highest;
  };
}

Select vectors() { return select_rank(0, 1); }

namespace {

Select all_but(const char* op, const ParameterList& parameters, bool first) {
  const Select weights = select_rank(2);
  const NamedParameter* left_out = nullptr;
  for (const NamedParameter& p : parameters)
    if (weights(p) && !(first && left_out)) left_out = &p;
  if (!left_out) fail<ConfigError>("[", op, "] none of ", parameters.size(), " parameters has rank 2 or more");
  return weights && Select([name = left_out->name](const NamedParameter& p) { return p.name != name; });
}

}  // namespace

Select all_but_first(const ParameterList& parameters) { return all_but("all_but_first", parameters, true); }
Select all_but_last(const ParameterList& parameters) { return all_but("all_but_last", parameters, false); }

bool matches(std::string_view pattern, std::string_view name) noexcept {
  std::size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {  // let the last star take one character more
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace espalier::optim
