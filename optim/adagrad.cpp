#include "espalier/optim/adagrad.h"

#include <utility>

#include "espalier/optim/detail/direction.h"

namespace espalier::optim {
namespace {

class Adagrad final : public detail::Direction<Adagrad, kernels::AdagradStep> {
 public:
  explicit Adagrad(const AdagradOptions& o)
      : Direction("adagrad", {.lr = o.lr, .weight_decay = o.weight_decay, .maximize = o.maximize}, {"sum"}),
        lr_decay_("adagrad", "lr_decay", o.lr_decay),
        initial_("adagrad", "initial_accumulator_value", o.initial_accumulator_value),
        eps_("adagrad", "eps", o.eps) {}
  template <class T>
  auto kernel(const kernels::DirectionKernels<T>& table) const {
    return table.adagrad;
  }

 private:
  std::vector<const detail::Range*> others() const override { return {&lr_decay_, &initial_, &eps_}; }
  void settle(std::int64_t step) override {
    lr_decay_now_ = lr_decay_.at(step);
    now_ = {.eps = eps_.at(step), .initial = initial_.at(step)};
  }
  kernels::AdagradStep step_of(std::int64_t t) const override {
    kernels::AdagradStep s = now_;
    s.lr = lr() / (1 + static_cast<double>(t - 1) * lr_decay_now_);
    return s;
  }
  detail::Range lr_decay_, initial_, eps_;
  double lr_decay_now_ = 0;
  kernels::AdagradStep now_;
};

class Rmsprop final : public detail::Direction<Rmsprop, kernels::RmspropStep> {
 public:
  explicit Rmsprop(const RmspropOptions& o)
      : Direction("rmsprop", {.lr = o.lr, .weight_decay = o.weight_decay, .maximize = o.maximize}, states_of(o)),
        alpha_("rmsprop", "alpha", o.alpha, detail::fraction),
        eps_("rmsprop", "eps", o.eps),
        momentum_("rmsprop", "momentum", o.momentum),
        centered_(o.centered) {}
  template <class T>
  auto kernel(const kernels::DirectionKernels<T>& table) const {
    return table.rmsprop[centered_][!momentum_.constantly(0)];
  }

 private:
  static std::vector<const char*> states_of(const RmspropOptions& o) {
    std::vector<const char*> states = {"v"};
    if (o.centered) states.push_back("mean");
    if (o.momentum.scheduled() || o.momentum.value() != 0) states.push_back("momentum");
    return states;
  }
  std::vector<const detail::Range*> others() const override { return {&alpha_, &eps_, &momentum_}; }
  void settle(std::int64_t step) override {
    now_ = {.alpha = alpha_.at(step), .lr = lr(), .eps = eps_.at(step), .momentum = momentum_.at(step)};
  }
  kernels::RmspropStep step_of(std::int64_t) const override { return now_; }
  detail::Range alpha_, eps_, momentum_;
  bool centered_;
  kernels::RmspropStep now_;
};

class Adadelta final : public detail::Direction<Adadelta, kernels::AdadeltaStep> {
 public:
  explicit Adadelta(const AdadeltaOptions& o)
      : Direction("adadelta", {.lr = o.lr, .weight_decay = o.weight_decay, .maximize = o.maximize}, {"v", "a"}),
        rho_("adadelta", "rho", o.rho, detail::fraction),
        eps_("adadelta", "eps", o.eps) {}
  template <class T>
  auto kernel(const kernels::DirectionKernels<T>& table) const {
    return table.adadelta;
  }

 private:
  std::vector<const detail::Range*> others() const override { return {&rho_, &eps_}; }
  void settle(std::int64_t step) override { now_ = {.lr = lr(), .rho = rho_.at(step), .eps = eps_.at(step)}; }
  kernels::AdadeltaStep step_of(std::int64_t) const override { return now_; }
  detail::Range rho_, eps_;
  kernels::AdadeltaStep now_;
};

}  // namespace

Chain adagrad(AdagradOptions options) { return Adagrad(options); }
Chain rmsprop(RmspropOptions options) { return Rmsprop(options); }
Chain adadelta(AdadeltaOptions options) { return Adadelta(options); }

}  // namespace espalier::optim
