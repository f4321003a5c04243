#include "espalier/optim/adaptive_clip.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "espalier/optim/detail/norm_clip.h"
#include "espalier/optim/detail/norm_history.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

/// A part of the weight's own norm.
class WeightBound final {
 public:
  WeightBound(detail::Range part, detail::Range eps) : part_(std::move(part)), eps_(std::move(eps)) {}

  std::string settings() const { return part_.describe() + ", " + eps_.describe(); }
  void begin(const StepContext& context) {
    part_now_ = part_.at(context.step);
    eps_now_ = eps_.at(context.step);
  }
  template <class T>
  Figure second(Block<T>& b) const {
    return b.value_sum_squares();
  }
  Figure bound(const detail::Measurement& m) const {
    const Figure norm = std::sqrt(m.second), least = eps_now_;
    return part_now_ * (norm < least ? least : norm);  // NaN stays
  }

 private:
  detail::Range part_, eps_;
  double part_now_ = 0, eps_now_ = 0;
};

class PercentileBound final {
 public:
  PercentileBound(Scalar percentile, Index window)
      : percentile_("autoclip", "percentile", std::move(percentile), detail::percentage),
        window_(window),
        history_("autoclip", window) {}

  std::string settings() const { return percentile_.describe() + join(", window ", window_); }
  void begin(const StepContext& context) {
    percent_ = percentile_.at(context.step);
    seen_.reset();
  }
  void observe(double norm) {
    if (std::isfinite(norm)) seen_ = norm;
    bound_ =
        history_.empty() && !seen_ ? std::numeric_limits<double>::infinity() : history_.percentile(percent_, seen_);
  }
  Figure bound(const detail::Measurement&) const { return bound_; }
  void end() {
    if (seen_) history_.push(*seen_);
  }
  Memory memory() const { return history_.memory(); }
  void set_memory(const Memory& memory) { history_.set_memory(memory); }

 private:
  detail::Range percentile_;
  Index window_;
  detail::NormHistory history_;
  double percent_ = 0, bound_ = 0;
  std::optional<double> seen_;  // in this step
};

class ZScoreBound final {
 public:
  explicit ZScoreBound(ZclipOptions o)
      : warm_up_(o.warm_up),
        alpha_("zclip", "alpha", std::move(o.alpha), detail::fraction),
        z_("zclip", "z", std::move(o.z)),
        max_norm_("zclip", "max_norm", std::move(o.max_norm)) {
    if (warm_up_ < 1) fail<ConfigError>("[zclip] warm_up must be at least 1, got ", warm_up_);
  }

  std::string settings() const { return z_.describe() + ", " + alpha_.describe() + join(", warm_up ", warm_up_); }
  void begin(const StepContext& context) {
    alpha_now_ = alpha_.at(context.step);
    z_now_ = z_.at(context.step);
    max_now_ = max_norm_.at(context.step);
    after_ = now_;
  }
  void observe(double norm) {
    double own = std::numeric_limits<double>::infinity();  // the bound that the statistics give
    if (now_.count >= warm_up_) {
      const double above = norm - now_.mean, deviation = std::sqrt(now_.variance);
      if (now_.variance > 0 && above > z_now_ * deviation)
        own = now_.mean + z_now_ * deviation * (z_now_ * deviation / above);
    }
    bound_ = std::min(own, max_now_);
    after_ = now_;
    if (std::isfinite(norm)) after_.learn(std::min(norm, own), alpha_now_, warm_up_);
  }
  Figure bound(const detail::Measurement&) const { return bound_; }
  void end() { now_ = after_; }
  Memory memory() const {
    return {{"statistics", Tensor::from<double>({now_.mean, now_.variance}, {2})},
            {"count", Tensor::from<std::int64_t>({now_.count}, {})}};
  }
  void set_memory(const Memory& memory) {
    const std::vector<double> s = memory.at("statistics").to_vector<double>();
    const auto count = memory.at("count").to_vector<std::int64_t>().front();
    if (!(count >= 0 && s[0] >= 0 && s[1] >= 0 && std::isfinite(s[0]) && std::isfinite(s[1])))
      fail<ConfigError>("[zclip] the statistics of ", count, " norms cannot be mean ", s[0], ", variance ", s[1]);
    now_ = after_ = {s[0], s[1], count};
  }

 private:
  struct Statistics {
    double mean = 0, variance = 0;
    std::int64_t count = 0;
    void learn(double norm, double alpha, std::int64_t warm_up) {
      const double before = norm - mean;
      if (count < warm_up) {  // mean and variance of all so far (Welford 1962)
        const auto n = static_cast<double>(count + 1);
        mean += before / n;
        variance += (before * (norm - mean) - variance) / n;
      } else {
        mean = alpha * mean + (1 - alpha) * norm;
        variance = alpha * variance + (1 - alpha) * (norm - mean) * (norm - mean);
      }
      ++count;
    }
  };
  std::int64_t warm_up_;
  detail::Range alpha_, z_, max_norm_;
  double alpha_now_ = 0, z_now_ = 0, max_now_ = 0, bound_ = 0;
  Statistics now_, after_;
};

class QuantileBound final {
 public:
  explicit QuantileBound(ClipByQuantileOptions o)
      : quantile_("clip_by_quantile", "quantile", std::move(o.quantile), detail::closed_fraction),
        rate_("clip_by_quantile", "rate", std::move(o.rate)),
        min_(o.min),
        max_(o.max) {
    if (!(o.initial > 0 && std::isfinite(o.initial)))
      fail<ConfigError>("[clip_by_quantile] initial must be positive and finite, got ", o.initial);
    if (!(min_ >= 0 && min_ <= max_))
      fail<ConfigError>("[clip_by_quantile] bounds must be 0 <= min <= max, got min ", min_, ", max ", max_);
    bound_ = after_ = std::clamp(o.initial, min_, max_);
  }

  std::string settings() const { return quantile_.describe() + ", " + rate_.describe(); }
  void begin(const StepContext& context) {
    quantile_now_ = quantile_.at(context.step);
    rate_now_ = rate_.at(context.step);
    after_ = bound_;
  }
  void observe(double norm) {
    if (!std::isfinite(norm)) return;
    const double passed = norm <= bound_ ? 1 : 0;
    const double moved = bound_ * std::exp(-rate_now_ * (passed - quantile_now_));
    // A bound of 0 or infinity could never be left again.
    if (moved > 0 && std::isfinite(moved)) after_ = std::clamp(moved, min_, max_);
  }
  Figure bound(const detail::Measurement&) const { return bound_; }
  void end() { bound_ = after_; }
  Memory memory() const { return {{"bound", Tensor::from<double>({bound_}, {})}}; }
  void set_memory(const Memory& memory) {
    const double bound = memory.at("bound").to_vector<double>().front();
    if (!(bound >= min_ && bound <= max_))
      fail<ConfigError>("[clip_by_quantile] a bound of ", bound, " is outside [", min_, ", ", max_, "]");
    bound_ = after_ = bound;
  }

 private:
  detail::Range quantile_, rate_;
  double min_, max_, bound_ = 1, after_ = 1, quantile_now_ = 0, rate_now_ = 0;
};

}  // namespace

Chain clip_adaptive(ClipAdaptiveOptions o) {
  constexpr const char* name = "clip_adaptive";
  return detail::NormClip(
      {.name = name, .span = o.per_tensor ? Span::tensor : Span::unit, .measure_only = o.measure_only},
      WeightBound({name, "clipping", std::move(o.clipping)}, {name, "eps", std::move(o.eps)}));
}

Chain clip_update_ratio(ClipUpdateRatioOptions o) {
  constexpr const char* name = "clip_update_ratio";
  return detail::NormClip({.name = name, .span = Span::tensor, .measure_only = o.measure_only},
                          WeightBound({name, "tau", std::move(o.tau)}, {name, "eps", std::move(o.eps)}));
}

Chain autoclip(AutoclipOptions o) {
  return detail::NormClip({.name = "autoclip", .p = o.p, .eps = o.eps, .measure_only = o.measure_only},
                          PercentileBound(std::move(o.percentile), o.window));
}

Chain zclip(ZclipOptions o) {
  const bool measure_only = o.measure_only;
  return detail::NormClip({.name = "zclip", .measure_only = measure_only}, ZScoreBound(std::move(o)));
}

Chain clip_by_quantile(ClipByQuantileOptions o) {
  const bool measure_only = o.measure_only;
  return detail::NormClip({.name = "clip_by_quantile", .measure_only = measure_only}, QuantileBound(std::move(o)));
}

}  // namespace espalier::optim
