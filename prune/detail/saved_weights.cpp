#include "espalier/prune/detail/saved_weights.h"

#include <utility>

#include "espalier/core/row_sparse.h"

namespace espalier::prune::detail {

SavedWeights::SavedWeights(const ParameterList& parameters, Gradients gradients) {
  for (const NamedParameter& named : parameters) {
    const ParameterState& p = *named.parameter;
    if (p.value().packed()) continue;
    One one{named,         (p.dense().defined() ? p.dense() : p.value()).clone(),
            Tensor(),      p.mask(),
            p.mask_mode(), gradients == Gradients::with};
    if (one.has_gradient && p.has_grad()) {
      const RowSparse* rows = p.row_gradient();
      one.gradient = rows ? with_values(*rows, rows->values().clone()) : p.grad().clone();
    }
    all_.push_back(std::move(one));
  }
}

void SavedWeights::restore(const char* op, Gradients gradients) const {
  for (const One& one : all_) {
    const Tensor& now = one.named.parameter->value();
    if (!(now.shape() == one.value.shape()) || now.dtype() != one.value.dtype() || now.packed())
      fail<ConfigError>("[", op, "] '", one.named.name, "' was ", one.value.dtype(), " of shape ", one.value.shape(),
                        " before it was pruned and is ", now.packed() ? "packed " : "", now.dtype(), " of shape ",
                        now.shape(), " now");
  }
  for (const One& one : all_) {
    ParameterState& p = *one.named.parameter;
    p.set_mask(Mask());
    p.set_value(one.value);
    if (one.mask.defined()) p.set_mask(one.mask, one.mode);
    if (gradients == Gradients::without || !one.has_gradient) continue;
    p.clear_grad();
    if (one.gradient.defined()) p.accumulate(one.gradient.packed() ? one.gradient : one.gradient.clone());
  }
}

SavedWeights SavedWeights::cut(std::span<const optim::ParameterCut> cuts) const {
  SavedWeights left = *this;
  for (One& one : left.all_)
    for (const optim::ParameterCut& c : cuts) {
      if (c.parameter != one.named.parameter) continue;
      one.mask = optim::taken(one.mask, one.value.shape(), c.kept);
      one.value = optim::taken(one.value, c.kept);
      one.gradient = Tensor();
      one.has_gradient = false;
    }
  return left;
}

void SavedWeights::add_to(std::map<std::string, Tensor>& state, const std::string& prefix) const {
  for (const One& one : all_) {
    const std::string key = prefix + one.named.name;
    state[key + (one.mode == MaskMode::soft ? "/dense" : "/value")] = one.value.clone();
    if (one.mask.defined()) state[key + "/mask"] = one.mask.to_tensor(one.value.shape());
  }
}

void Borrowed::put_back() const noexcept {
  try {
    saved_.restore("restore", Gradients::with);
  } catch (...) {  // whoever borrowed them has cut or packed the parameters: there is nothing to put back into
  }
}

}  // namespace espalier::prune::detail
