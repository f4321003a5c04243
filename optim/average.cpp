#include "espalier/optim/average.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "espalier/core/kernels/transforms.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

constexpr const char* average_state = "average";
constexpr const char* averaged_steps = "averaged";

class Average final : public TransformOf<Average> {
 public:
  /// Without a decay, all steps alike.
  Average(const char* name, std::string settings, std::optional<detail::Range> decay, bool warmup)
      : name_(name), settings_(std::move(settings)), decay_(std::move(decay)), warmup_(warmup) {}
  std::string name() const override { return name_; }
  std::string settings() const override { return settings_; }
  std::vector<StateSpec> states() const override { return {{average_state}}; }
  bool is_constraint() const override { return true; }
  bool keeps_zeros() const override { return true; }

  void prepare(const ParameterList& parameters) override {
    steps_.assign(parameters.size(), 0);
    seen_.assign(parameters.size(), 0);
  }
  void begin(const StepContext& context) override {
    if (decay_) decay_now_ = decay_->at(context.step);
    std::fill(seen_.begin(), seen_.end(), std::uint8_t{0});
  }
  template <class T>
  void apply(Block<T>& b) const {
    if (b.begin() == 0) seen_[b.parameter()] = 1;  // only the task that has this block
    const double share = share_of_next(steps_[b.parameter()]);
    const std::uint64_t* mask = b.mask() ? b.mask() : b.soft_mask();
    const T* w = b.gradient().data();
    T* average = b.state(0).data();
    if (share == 1)
      kernels::step<T>().load(average, w, T(1), mask, b.size());
    else
      kernels::transforms<T>().approach(average, static_cast<T>(share), w, mask, b.size());
  }
  void end(ClipRecord*) override {
    for (std::size_t i = 0; i < steps_.size(); ++i) steps_[i] += seen_[i];
  }

  Memory memory() const override {
    return {{averaged_steps, Tensor::from(steps_, {static_cast<Index>(steps_.size())})}};
  }
  void set_memory(const Memory& memory) override {
    std::vector<std::int64_t> steps = memory.at(averaged_steps).to_vector<std::int64_t>();
    if (std::any_of(steps.begin(), steps.end(), [](std::int64_t n) { return n < 0; }))
      fail<ConfigError>("[", name_, "] the number of averaged steps must not be negative");
    steps_ = std::move(steps);
  }

 private:
  /// Of the weights, in the average that has n steps.
  double share_of_next(std::int64_t n) const {
    if (n == 0) return 1;
    const auto before = static_cast<double>(n);
    if (!decay_) return 1 / (before + 1);
    return 1 - (warmup_ ? std::min(decay_now_, (1 + before) / (10 + before)) : decay_now_);
  }

  const char* name_;
  std::string settings_;
  std::optional<detail::Range> decay_;
  bool warmup_;
  double decay_now_ = 0;
  std::vector<std::int64_t> steps_;         // [parameter]
  mutable std::vector<std::uint8_t> seen_;  // [parameter]: averaged in this step
};

void check_period(const char* owner, std::int64_t every) {
  if (every < 1) fail<ConfigError>("[", owner, "] every must be at least 1, got ", every);
}

/// Calls f(k, average) for each of the optimizer's parameters; the tensor is undefined where there is no average yet.
template <class F>
void for_each_average(const Optimizer& optimizer, const std::string& name, F f) {
  const Memory memory = optimizer.memory(name);
  const auto found = memory.find(averaged_steps);
  if (found == memory.end()) fail<ConfigError>("[average] '", name, "' is no average. Hint: ema(...) or swa(...)");
  const std::vector<std::int64_t> steps = found->second.to_vector<std::int64_t>();
  for (std::size_t k = 0; k < steps.size(); ++k)
    f(k, steps[k] > 0 ? optimizer.state(name, average_state, k) : Tensor());
}

void check_fits(const char* op, const std::string& name, const Tensor& value, const Tensor& average) {
  if (value.packed() || !(value.shape() == average.shape()) || value.dtype() != average.dtype())
    fail<ConfigError>("[", op, "] '", name, "' is ", value.packed() ? "packed " : "", value.dtype(), " ", value.shape(),
                      ", its average ", average.dtype(), " ", average.shape());
}

}  // namespace

Chain ema(EmaOptions o) {
  check_period("ema", o.every);
  detail::Range decay("ema", "decay", std::move(o.decay), detail::fraction);
  std::string settings = decay.describe() + (o.warmup ? ", warm-up" : "");
  if (o.every == 1) return Average("ema", std::move(settings), std::move(decay), o.warmup);
  settings += join(", every ", o.every);
  return every(o.every, Average("ema", std::move(settings), std::move(decay), o.warmup));
}

Chain swa(SwaOptions o) {
  check_period("swa", o.every);
  if (o.begin < 0) fail<ConfigError>("[swa] begin must not be negative, got ", o.begin);
  return when([o](std::int64_t step) { return step >= o.begin && (step - o.begin) % o.every == o.every - 1; },
              Average("swa", join("begin ", o.begin, ", every ", o.every), std::nullopt, false));
}

AverageGuard::AverageGuard(const Optimizer& optimizer, const std::string& name) {
  const ParameterList& parameters = optimizer.parameters();
  std::vector<Tensor> averages;
  for_each_average(optimizer, name, [&](std::size_t k, Tensor average) {
    if (!average.defined()) return;
    const ParameterState& p = *parameters[k].parameter;
    check_fits("average", parameters[k].name, p.value(), average);
    if (p.mask().defined()) zero_pruned(average, p.mask(), "average");  // set behind the last step
    kept_.push_back({parameters[k].parameter, (p.dense().defined() ? p.dense() : p.value()).clone()});
    averages.push_back(std::move(average));
  });
  for (std::size_t i = 0; i < kept_.size(); ++i) kept_[i].parameter->mutable_value().copy_from(averages[i], "average");
}

AverageGuard::~AverageGuard() {
  for (const auto& [parameter, value] : kept_) {
    const Tensor& now = parameter->value();
    if (!now.packed() && now.shape() == value.shape() && now.dtype() == value.dtype()) parameter->set_value(value);
  }
}

Index copy_average(const Optimizer& optimizer, const std::string& name, const ParameterList& to) {
  std::map<std::string, ParameterRef> by_name;
  for (const NamedParameter& p : to) by_name.emplace(p.name, p.parameter);
  std::vector<std::pair<ParameterRef, Tensor>> copies;
  for_each_average(optimizer, name, [&](std::size_t k, Tensor average) {
    const auto& [own_name, own] = optimizer.parameters()[k];
    const auto found = by_name.find(own_name);
    if (found == by_name.end()) return;
    if (!average.defined()) average = own->value().clone();
    check_fits("copy_average", own_name, found->second->value(), average);
    copies.emplace_back(found->second, std::move(average));
  });
  if (copies.empty())
    fail<ConfigError>("[copy_average] none of the ", to.size(),
                      " parameters has a name that the optimizer knows. Hint: list both models from the same root");
  for (auto& [parameter, average] : copies) parameter->set_value(average);
  return static_cast<Index>(copies.size());
}

}  // namespace espalier::optim
