#include "espalier/optim/constraint.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

double checked_eps(const char* owner, double eps) {
  if (!(eps >= 0)) fail<ConfigError>("[", owner, "] eps must not be negative, got ", eps);
  return eps;
}

class ClampParameters final : public TransformOf<ClampParameters> {
 public:
  ClampParameters(Scalar lo, Scalar hi) : bounds_("clamp_parameters", std::move(lo), std::move(hi)) {}
  std::string name() const override { return "clamp_parameters"; }
  std::string settings() const override { return bounds_.describe(); }
  bool is_constraint() const override { return true; }
  bool keeps_zeros() const override { return bounds_.always_hold_zero(); }
  void begin(const StepContext& context) override { bounds_.begin(context.step); }
  template <class T>
  void apply(Block<T>& b) const {
    b.clamp(bounds_.min(), bounds_.max());
  }

 private:
  detail::Bounds bounds_;
};

class NonNegative final : public TransformOf<NonNegative> {
 public:
  std::string name() const override { return "non_negative"; }
  bool is_constraint() const override { return true; }
  bool keeps_zeros() const override { return true; }
  template <class T>
  void apply(Block<T>& b) const {
    b.clamp(0, std::numeric_limits<double>::infinity());
  }
};

class ProximalL1 final : public TransformOf<ProximalL1> {
 public:
  explicit ProximalL1(Scalar strength) : strength_("proximal_l1", "strength", std::move(strength)) {}
  std::string name() const override { return "proximal_l1"; }
  std::string settings() const override { return strength_.describe(); }
  bool is_constraint() const override { return true; }
  bool keeps_zeros() const override { return true; }
  void begin(const StepContext& context) override { now_ = strength_.at(context.step); }
  template <class T>
  void apply(Block<T>& b) const {
    if (now_ != 0) b.soft_threshold(now_);
  }

 private:
  detail::Range strength_;
  double now_ = 0;
};

/// Multiplies by what the 2-norm says. Abstract. Self has `Figure factor(Figure norm) const`.
template <class Self>
class ScaleByNorm : public TransformOf<Self> {
 public:
  std::string name() const final { return name_; }
  Span measures() const final { return detail::span_of(over_); }
  bool is_constraint() const final { return true; }
  bool keeps_zeros() const final { return true; }

  template <class T>
  Figure measure(Block<T>& b) const {
    return b.sum_squares();
  }
  template <class T>
  void apply(Block<T>& b) const {
    const Figure norm = std::sqrt(b.figure());
    if (!std::isfinite(norm)) return;
    const Figure factor = static_cast<const Self&>(*this).factor(norm);
    if (factor == 0)
      std::ranges::fill(b.gradient(), T(0));  // no -0
    else if (factor != 1)
      b.multiply(factor);
  }

 protected:
  ScaleByNorm(const char* name, Over over) : name_(name), over_(detail::unit_or_tensor(name, over)) {}
  std::string over() const { return std::string(", ") + detail::describe(over_); }
  const char* name_;

 private:
  Over over_;
};

class MaxNorm final : public ScaleByNorm<MaxNorm> {
 public:
  MaxNorm(const char* name, const char* setting, MaxNormOptions o)
      : ScaleByNorm(name, o.over), eps_(checked_eps(name, o.eps)), bound_(name, setting, std::move(o.max_norm)) {}
  std::string settings() const override {
    return bound_.describe() + (eps_ > 0 ? join(", eps ", eps_) : std::string()) + over();
  }
  void begin(const StepContext& context) override { now_ = bound_.at(context.step); }
  Figure factor(Figure norm) const {
    if (eps_ > 0) return std::min(norm, now_) / (norm + static_cast<Figure>(eps_));
    return norm > now_ ? now_ / norm : 1;
  }

 private:
  double eps_;
  detail::Range bound_;
  Figure now_ = 0;
};

class UnitNorm final : public ScaleByNorm<UnitNorm> {
 public:
  explicit UnitNorm(UnitNormOptions o) : ScaleByNorm("unit_norm", o.over), eps_(checked_eps("unit_norm", o.eps)) {}
  std::string settings() const override {
    return (eps_ > 0 ? join("eps ", eps_, ", ") : std::string()) + over().substr(2);
  }
  Figure factor(Figure norm) const { return norm > 0 ? 1 / (norm + static_cast<Figure>(eps_)) : 1; }

 private:
  double eps_;
};

class MinMaxNorm final : public ScaleByNorm<MinMaxNorm> {
 public:
  explicit MinMaxNorm(MinMaxNormOptions o)
      : ScaleByNorm("min_max_norm", o.over),
        eps_(checked_eps("min_max_norm", o.eps)),
        bounds_("min_max_norm", o.min, std::move(o.max)),
        min_("min_max_norm", "min", std::move(o.min)),
        rate_("min_max_norm", "rate", std::move(o.rate), detail::closed_fraction) {}
  std::string settings() const override {
    return bounds_.describe() + ", " + rate_.describe() + (eps_ > 0 ? join(", eps ", eps_) : std::string()) + over();
  }
  void begin(const StepContext& context) override {
    bounds_.begin(context.step);
    min_.at(context.step);
    rate_now_ = rate_.at(context.step);
  }
  Figure factor(Figure norm) const {
    const Figure within = std::clamp<Figure>(norm, bounds_.min(), bounds_.max());
    if (norm == 0 || (within == norm && eps_ == 0)) return 1;
    return (rate_now_ * within + (1 - rate_now_) * norm) / (norm + static_cast<Figure>(eps_));
  }

 private:
  double eps_;
  detail::Bounds bounds_;
  detail::Range min_, rate_;
  Figure rate_now_ = 1;
};

class GroupLasso final : public ScaleByNorm<GroupLasso> {
 public:
  explicit GroupLasso(GroupLassoOptions o)
      : ScaleByNorm("group_lasso", o.over), strength_("group_lasso", "strength", std::move(o.strength)) {}
  std::string settings() const override { return strength_.describe() + over(); }
  void begin(const StepContext& context) override { now_ = strength_.at(context.step); }
  Figure factor(Figure norm) const { return norm > now_ ? 1 - now_ / norm : 0; }

 private:
  detail::Range strength_;
  Figure now_ = 0;
};

}  // namespace

Chain clamp_parameters(Scalar lo, Scalar hi) { return ClampParameters(std::move(lo), std::move(hi)); }
Chain non_negative() { return NonNegative(); }
Chain max_norm(MaxNormOptions options) { return MaxNorm("max_norm", "max_norm", std::move(options)); }
Chain l2_ball(BallOptions options) {
  return MaxNorm("l2_ball", "radius", {.max_norm = std::move(options.radius), .over = options.over});
}
Chain unit_norm(UnitNormOptions options) { return UnitNorm(options); }
Chain min_max_norm(MinMaxNormOptions options) { return MinMaxNorm(std::move(options)); }
Chain proximal_l1(Scalar strength) { return ProximalL1(std::move(strength)); }
Chain group_lasso(GroupLassoOptions options) { return GroupLasso(std::move(options)); }

}  // namespace espalier::optim
