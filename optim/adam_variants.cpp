#include "espalier/optim/adam_variants.h"

#include <cmath>
#include <utility>

#include "espalier/optim/detail/direction.h"

namespace espalier::optim {
namespace {

/// Two betas and an eps, which all three have.
class Betas {
 public:
  template <class Options>
  Betas(const char* owner, const Options& o)
      : first_(owner, "betas[0]", o.betas[0], detail::fraction),
        second_(owner, "betas[1]", o.betas[1], detail::fraction),
        eps_(owner, "eps", o.eps) {}
  /// Into a Step, which has fields of these names.
  template <class Step>
  Step at(std::int64_t step) const {
    Step s;
    s.beta1 = first_.at(step);
    s.beta2 = second_.at(step);
    s.eps = eps_.at(step);
    return s;
  }
  std::vector<const detail::Range*> all() const { return {&first_, &second_, &eps_}; }

 private:
  detail::Range first_, second_, eps_;
};

class Adamax final : public detail::Direction<Adamax, kernels::AdamaxStep> {
 public:
  explicit Adamax(const AdamaxOptions& o)
      : Direction("adamax", {.lr = o.lr, .weight_decay = o.weight_decay, .maximize = o.maximize}, {"m", "u"}),
        betas_("adamax", o) {}
  template <class T>
  auto kernel(const kernels::DirectionKernels<T>& table) const {
    return table.adamax;
  }

 private:
  std::vector<const detail::Range*> others() const override { return betas_.all(); }
  void settle(std::int64_t step) override { now_ = betas_.at<kernels::AdamaxStep>(step); }
  kernels::AdamaxStep step_of(std::int64_t t) const override {
    kernels::AdamaxStep s = now_;
    s.step = lr() / detail::correction(s.beta1, t);
    return s;
  }
  Betas betas_;
  kernels::AdamaxStep now_;
};

class Nadam final : public detail::Direction<Nadam, kernels::NadamStep> {
 public:
  explicit Nadam(const NadamOptions& o)
      : Direction("nadam", {o.lr, o.weight_decay, o.decoupled_weight_decay, o.maximize}, {"m", "v"}),
        betas_("nadam", o),
        momentum_decay_("nadam", "momentum_decay", o.momentum_decay) {}
  template <class T>
  auto kernel(const kernels::DirectionKernels<T>& table) const {
    return table.nadam;
  }

 private:
  std::vector<const detail::Range*> others() const override {
    auto all = betas_.all();
    all.push_back(&momentum_decay_);
    return all;
  }
  void settle(std::int64_t step) override {
    now_ = betas_.at<kernels::NadamStep>(step);
    psi_ = momentum_decay_.at(step);
  }
  double mu(std::int64_t t) const { return now_.beta1 * (1 - 0.5 * std::pow(0.96, static_cast<double>(t) * psi_)); }
  kernels::NadamStep step_of(std::int64_t t) const override {
    // In f32, as PyTorch holds it: the same steps, digit by digit. Below the bound it no longer matters.
    const auto mu_of = [&](std::int64_t k) { return static_cast<float>(mu(k)); };
    float product = 1;
    for (std::int64_t k = 1; k <= t && product > 1e-20F; ++k) product *= mu_of(k);
    const float next = product * mu_of(t) * mu_of(t + 1);
    kernels::NadamStep s = now_;
    s.now = lr() * (1 - mu(t)) / (1 - static_cast<double>(product));
    s.step = lr() * mu(t + 1) / (1 - static_cast<double>(next));
    s.root = 1 / std::sqrt(detail::correction(s.beta2, t));
    return s;
  }
  Betas betas_;
  detail::Range momentum_decay_;
  kernels::NadamStep now_;
  double psi_ = 0;
};

class Radam final : public detail::Direction<Radam, kernels::RadamStep> {
 public:
  explicit Radam(const RadamOptions& o)
      : Direction("radam", {o.lr, o.weight_decay, o.decoupled_weight_decay, o.maximize}, {"m", "v"}),
        betas_("radam", o) {}
  template <class T>
  auto kernel(const kernels::DirectionKernels<T>& table) const {
    return table.radam;
  }

 private:
  std::vector<const detail::Range*> others() const override { return betas_.all(); }
  void settle(std::int64_t step) override { now_ = betas_.at<kernels::RadamStep>(step); }
  kernels::RadamStep step_of(std::int64_t t) const override {
    kernels::RadamStep s = now_;
    const double second = detail::correction(s.beta2, t), most = 2 / (1 - s.beta2) - 1;
    const double rho = most - 2 * static_cast<double>(t) * (1 - second) / second;
    s.step = lr() / detail::correction(s.beta1, t);
    s.rectified = rho > 5;
    if (s.rectified)
      s.step *= std::sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) * std::sqrt(second);
    return s;
  }
  Betas betas_;
  kernels::RadamStep now_;
};

}  // namespace

Chain adamax(AdamaxOptions options) { return Adamax(options); }
Chain nadam(NadamOptions options) { return Nadam(options); }
Chain radam(RadamOptions options) { return Radam(options); }

}  // namespace espalier::optim
