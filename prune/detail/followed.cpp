#include "espalier/prune/detail/followed.h"

#include <algorithm>

namespace espalier::prune::detail {
namespace {

bool lists(const ParameterList& list, const ParameterRef& parameter) {
  return std::any_of(list.begin(), list.end(), [&](const NamedParameter& p) { return p.parameter == parameter; });
}

}  // namespace

ParameterList followed(const char* op, const ParameterList& parameters, const optim::Select& select) {
  ParameterList list;
  for (const NamedParameter& named : parameters)
    if (select(named) && !lists(list, named.parameter)) list.push_back(named);
  if (list.empty())
    fail<ConfigError>("[", op, "] none of ", parameters.size(),
                      " parameters is selected. Hint: the default takes those of rank 2 and more; "
                      ".select = optim::Select() takes all");
  return list;
}

void check_shared(const char* op, const ParameterList& mine, const optim::StepContext& context) {
  if (std::none_of(mine.begin(), mine.end(), [&](auto& p) { return lists(context.parameters, p.parameter); }))
    fail<ConfigError>("[", op,
                      "] none of its parameters is one of the optimizer's. Hint: a copied model has parameters of its "
                      "own; make both from the same model");
}

void check_not_packed(const char* op, const NamedParameter& named) {
  if (named.parameter->value().packed())
    fail<ConfigError>("[", op, "] '", named.name, "' is packed. Hint: prune the model before compact()");
}

const Tensor* StateReader::find(const std::string& key, DType type, const Shape& shape) {
  const auto at = state_.find(key);
  if (at == state_.end()) return nullptr;
  ++used_;
  const Tensor& t = at->second;
  if (!t.defined() || t.dtype() != type || !(t.shape() == shape))
    fail<ConfigError>("[", op_, "] '", key, "' in the saved state is ",
                      t.defined() ? join(t.dtype(), " of shape ", t.shape()) : std::string("undefined"), ", expected ",
                      type, " of shape ", shape);
  return &t;
}

double StateReader::number(const std::string& key, DType type) {
  const Tensor* t = find(key, type, {});
  if (!t) fail<ConfigError>("[", op_, "] '", key, "' is missing in the saved state");
  return t->item();
}

void StateReader::finish() const {
  if (used_ != state_.size())
    fail<ConfigError>("[", op_, "] the saved state has ", state_.size() - used_,
                      " entries that are not its own. Hint: make it with the same selection");
}

}  // namespace espalier::prune::detail
