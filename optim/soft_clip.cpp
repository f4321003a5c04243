#include "espalier/optim/soft_clip.h"

#include <cmath>
#include <utility>

#include "espalier/optim/detail/clip_log.h"
#include "espalier/optim/detail/norm_clip.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

class SmoothBound final {
 public:
  explicit SmoothBound(Scalar tau) : tau_("clip_smooth_norm", "tau", std::move(tau)) {}

  std::string settings() const { return tau_.describe(); }
  void begin(const StepContext& context) { bound_ = tau_.at(context.step); }
  Figure bound(const detail::Measurement&) const { return bound_; }
  Figure coefficient(Figure norm, Figure bound) const {
    if (norm == 0 || std::isinf(bound)) return 1;
    return bound / std::hypot(bound, norm);
  }

 private:
  detail::Range tau_;
  Figure bound_ = 0;
};

class ClipTanh final : public TransformOf<ClipTanh> {
 public:
  explicit ClipTanh(ClipTanhOptions options)
      : range_("clip_tanh", "bound", std::move(options.bound)), measure_only_(options.measure_only) {}

  std::string name() const override { return "clip_tanh"; }
  std::string settings() const override { return range_.describe() + (measure_only_ ? ", measure only" : ""); }
  bool keeps_zeros() const override { return true; }
  bool is_clip() const override { return true; }

  void begin(const StepContext& context) override {
    bound_ = range_.at(context.step);
    counts_.begin(context);
  }
  template <class T>
  void apply(Block<T>& b) const {
    if (!measure_only_)
      counts_.add(b, b.squash(bound_));
    else if (b.settles())
      counts_.add(b, b.count_outside(-bound_, bound_));
  }
  void end(ClipRecord* record) override { counts_.end(*record); }

 private:
  detail::Range range_;
  bool measure_only_;
  double bound_ = 0;
  mutable detail::EntryCounts counts_;
};

}  // namespace

Chain clip_smooth_norm(ClipSmoothNormOptions options) {
  return detail::NormClip({.name = "clip_smooth_norm",
                           .span = options.per_tensor ? Span::tensor : Span::everything,
                           .measure_only = options.measure_only},
                          SmoothBound(std::move(options.tau)));
}
Chain clip_smooth_norm(Scalar tau) { return clip_smooth_norm({.tau = std::move(tau)}); }

Chain clip_tanh(ClipTanhOptions options) { return ClipTanh(std::move(options)); }
Chain clip_tanh(Scalar bound) { return clip_tanh({.bound = std::move(bound)}); }

}  // namespace espalier::optim
