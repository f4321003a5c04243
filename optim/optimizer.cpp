#include "espalier/optim/optimizer.h"

#include <utility>

#include "espalier/optim/detail/pipeline.h"

namespace espalier::optim {

Optimizer::Optimizer(ParameterList parameters, Chain chain, OptimizerOptions options)
    : pipeline_(std::make_unique<Pipeline>(parameters, chain, options, Pipeline::Goal::update_values)) {}
Optimizer::Optimizer(Optimizer&&) noexcept = default;
Optimizer& Optimizer::operator=(Optimizer&&) noexcept = default;
Optimizer::~Optimizer() = default;

StepReport Optimizer::step() { return pipeline_->step(); }
void Optimizer::add_hook(std::shared_ptr<StepHook> hook) {
  if (!hook) fail<ConfigError>("[attach] there is no hook");
  pipeline_->add_hook(std::move(hook));
}
void Optimizer::add_listener(std::shared_ptr<StepListener> listener) {
  if (!listener) fail<ConfigError>("[attach] there is no listener");
  pipeline_->add_listener(std::move(listener));
}
std::int64_t Optimizer::steps() const noexcept { return pipeline_->steps(); }
const ParameterList& Optimizer::parameters() const noexcept { return pipeline_->parameters(); }
OptimizerState Optimizer::state() const { return pipeline_->state(); }
Tensor Optimizer::state(const std::string& transform, const std::string& state, std::size_t parameter) const {
  return pipeline_->state(transform, state, parameter);
}
Memory Optimizer::memory(const std::string& transform) const { return pipeline_->memory(transform); }
void Optimizer::load_state(const OptimizerState& state) { pipeline_->load_state(state); }
Commit Optimizer::prepare_cut(std::span<const ParameterCut> cuts) {
  auto next = std::make_shared<std::unique_ptr<Pipeline>>(pipeline_->with_cuts(cuts));
  return [this, next, unseen = pipeline_->unseen_masks()] {
    pipeline_ = std::move(*next);
    pipeline_->follow_masks(unseen);
  };
}
std::string Optimizer::describe() const { return pipeline_->describe(); }

StepReport apply_to_gradients(const ParameterList& parameters, const Chain& chain, ApplyOptions options) {
  return Pipeline(parameters, chain, {.nonfinite = options.nonfinite}, Pipeline::Goal::change_gradients, options.step)
      .step();
}

}  // namespace espalier::optim
