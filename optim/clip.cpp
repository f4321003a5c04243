#include "espalier/optim/clip.h"

#include <cmath>
#include <utility>

#include "espalier/optim/detail/clip_log.h"
#include "espalier/optim/detail/norm_clip.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

/// A bound that is given, for any p-norm.
class GivenBound final {
 public:
  GivenBound(detail::Range max_norm, double p, bool by_density)
      : max_norm_(std::move(max_norm)), p_(p), by_density_(by_density) {}

  std::string settings() const { return max_norm_.describe() + (by_density_ ? ", scaled by density" : ""); }
  void begin(const StepContext& context) { bound_ = max_norm_.at(context.step); }
  bool second_counts_zeros() const { return by_density_; }
  template <class T>
  Figure second(Block<T>& b) const {
    return by_density_ ? static_cast<Figure>(b.live()) : 0;
  }
  Figure bound(const detail::Measurement& m) const {
    if (!by_density_ || m.second == 0) return bound_;  // nothing is live: there is nothing to clip
    return bound_ * std::pow(m.second / static_cast<Figure>(m.size), 1 / static_cast<Figure>(p_));
  }

 private:
  detail::Range max_norm_;
  double p_;
  bool by_density_;
  Figure bound_ = 0;
};

Chain clip_norm(const char* name, Span span, ClipNormOptions o) {
  return detail::NormClip({.name = name, .span = span, .p = o.p, .eps = o.eps, .measure_only = o.measure_only},
                          GivenBound({name, "max_norm", std::move(o.max_norm)}, o.p, o.scale_by_density));
}

class RmsBound final {
 public:
  explicit RmsBound(Scalar threshold) : threshold_("clip_by_rms", "threshold", std::move(threshold)) {}

  std::string settings() const { return threshold_.describe(); }
  void begin(const StepContext& context) { bound_ = threshold_.at(context.step); }
  template <class T>
  Figure second(Block<T>& b) const {
    return static_cast<Figure>(b.live());
  }
  Figure size_of(const detail::Measurement& m) const { return m.second > 0 ? m.norm / std::sqrt(m.second) : m.norm; }
  Figure bound(const detail::Measurement&) const { return bound_; }

 private:
  detail::Range threshold_;
  Figure bound_ = 0;
};

class ClipByValue final : public TransformOf<ClipByValue> {
 public:
  explicit ClipByValue(ClipValueOptions options)
      : bounds_("clip_by_value", std::move(options.min), std::move(options.max)), measure_only_(options.measure_only) {}

  std::string name() const override { return "clip_by_value"; }
  std::string settings() const override { return bounds_.describe() + (measure_only_ ? ", measure only" : ""); }
  bool keeps_zeros() const override { return measure_only_ || bounds_.always_hold_zero(); }
  bool passes_zeros() const override { return keeps_zeros(); }
  bool is_clip() const override { return true; }

  void begin(const StepContext& context) override {
    bounds_.begin(context.step);
    counts_.begin(context);
  }
  template <class T>
  void apply(Block<T>& b) const {
    if (!measure_only_)
      b.clamp(bounds_.min(), bounds_.max(), counts_.counter(b));
    else if (b.settles())
      counts_.add(b, b.count_outside(bounds_.min(), bounds_.max()));
  }
  void end(ClipRecord* record) override { counts_.end(*record); }

 private:
  detail::Bounds bounds_;
  bool measure_only_;
  mutable detail::EntryCounts counts_;
};

}  // namespace

Chain clip_by_global_norm(ClipNormOptions options) {
  return clip_norm("clip_by_global_norm", Span::everything, std::move(options));
}
Chain clip_by_global_norm(Scalar max_norm) { return clip_by_global_norm({.max_norm = std::move(max_norm)}); }

Chain clip_per_tensor_norm(ClipNormOptions options) {
  return clip_norm("clip_per_tensor_norm", Span::tensor, std::move(options));
}
Chain clip_per_tensor_norm(Scalar max_norm) { return clip_per_tensor_norm({.max_norm = std::move(max_norm)}); }

Chain clip_per_unit_norm(ClipNormOptions options) {
  return clip_norm("clip_per_unit_norm", Span::unit, std::move(options));
}
Chain clip_per_unit_norm(Scalar max_norm) { return clip_per_unit_norm({.max_norm = std::move(max_norm)}); }

Chain clip_by_rms(ClipRmsOptions options) {
  return detail::NormClip({.name = "clip_by_rms", .span = Span::tensor, .measure_only = options.measure_only},
                          RmsBound(std::move(options.threshold)));
}
Chain clip_by_rms(Scalar threshold) { return clip_by_rms({.threshold = std::move(threshold)}); }

Chain clip_by_value(ClipValueOptions options) { return ClipByValue(std::move(options)); }
Chain clip_by_value(Scalar bound) {
  if (!bound.scheduled() && !(bound.value() >= 0))
    fail<ConfigError>("[clip_by_value] the bound must not be negative or NaN, got ", bound.value());
  Scalar lowest = -bound.value();
  if (bound.scheduled()) lowest = [bound](std::int64_t step) { return -bound.at(step); };
  return ClipByValue({.min = std::move(lowest), .max = std::move(bound)});
}

}  // namespace espalier::optim
