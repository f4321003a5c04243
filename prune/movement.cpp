#include "espalier/prune/movement.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/core/elementwise.h"

namespace espalier::prune {

class Movement::Work final : public optim::StepHook {
 public:
  Work(const ParameterList& parameters, MovementOptions o) : options(o) {
    if (!(o.lr > 0 && o.lr <= std::numeric_limits<double>::max()))
      fail<ConfigError>("[movement] lr must be above 0 and finite, got ", o.lr);
    if (!std::isfinite(o.lambda)) fail<ConfigError>("[movement] lambda must be finite, got ", o.lambda);
    for (const NamedParameter& named : parameters)
      if (o.select(named) && !find(*named.parameter)) {
        list.push_back(named);
        scores.push_back(Tensor::zeros(named.parameter->value().shape(), DType::f64));
      }
    if (list.empty()) fail<ConfigError>("[movement] none of ", parameters.size(), " parameters is selected");
  }

  void begin(const optim::StepContext&) override { accumulate(); }

  void accumulate() {
    for (std::size_t i = 0; i < list.size(); ++i)
      if (!(list[i].parameter->value().shape() == scores[i].shape()))
        fail<ConfigError>("[movement] '", list[i].name, "' had shape ", scores[i].shape(),
                          " when its scores began, and has ", list[i].parameter->value().shape(),
                          " now. Hint: begin anew with another Movement");
    for (std::size_t i = 0; i < list.size(); ++i) {
      const ParameterState& p = *list[i].parameter;
      if (!p.has_grad()) continue;
      const Tensor w = weights_of(p).to(DType::f64).contiguous(), g = p.grad().to(DType::f64).contiguous();
      const double *weight = w.data<double>(), *gradient = g.data<double>();
      double* s = scores[i].write<double>("movement");
      const bool still = p.mask().defined() && p.mask_mode() == MaskMode::hard;
      parallel_for(w.size(), 1 << 14, [&](Index begin, Index end) {
        for (Index k = begin; k < end; ++k) {
          if (still && !p.mask()[k]) continue;
          const double sigmoid = 1 / (1 + std::exp(-s[k]));
          s[k] -= options.lr * (weight[k] * gradient[k] + options.lambda * sigmoid * (1 - sigmoid));
        }
      });
    }
  }

  const Tensor* find(const ParameterState& p) const {
    for (std::size_t i = 0; i < list.size(); ++i)
      if (list[i].parameter.get() == &p) return &scores[i];
    return nullptr;
  }

  MovementOptions options;
  ParameterList list;
  std::vector<Tensor> scores;
};

Movement::Movement(const ParameterList& parameters, MovementOptions options)
    : work_(std::make_shared<Work>(parameters, std::move(options))) {}

std::shared_ptr<optim::StepHook> Movement::hook() const { return work_; }
void Movement::accumulate() { work_->accumulate(); }

Score Movement::score() const {
  return Score("movement", [work = work_](const ParameterState& p, const Statistics&) {
    const Tensor* scores = work->find(p);
    if (!scores) fail<ConfigError>("[movement] '", p.full_name(), "' is not among the parameters it follows");
    return scores->clone();
  });
}

std::map<std::string, Tensor> Movement::state() const {
  std::map<std::string, Tensor> state;
  for (std::size_t i = 0; i < work_->list.size(); ++i) state[work_->list[i].name] = work_->scores[i].clone();
  return state;
}

void Movement::load_state(const std::map<std::string, Tensor>& state) {
  const ParameterList& list = work_->list;
  for (const auto& [key, scores] : state) {
    const auto same = [&](const NamedParameter& p) { return p.name == key; };
    if (std::none_of(list.begin(), list.end(), same))
      fail<ConfigError>("[movement] '", key, "' is not one of its parameters");
  }
  std::vector<Tensor> loaded;
  for (const NamedParameter& named : list) {
    const auto found = state.find(named.name);
    if (found == state.end()) fail<ConfigError>("[movement] '", named.name, "' is missing in the saved state");
    const Shape& shape = named.parameter->value().shape();
    if (found->second.dtype() != DType::f64 || !(found->second.shape() == shape))
      fail<ConfigError>("[movement] '", named.name, "' in the saved state is ", found->second.dtype(), " of shape ",
                        found->second.shape(), ", expected f64 of shape ", shape);
    loaded.push_back(found->second.clone());
  }
  work_->scores = std::move(loaded);
}

}  // namespace espalier::prune
