#include "espalier/optim/constraint.h"

#include <cmath>
#include <utility>

#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

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

class MaxNorm final : public TransformOf<MaxNorm> {
 public:
  explicit MaxNorm(MaxNormOptions options)
      : eps_(options.eps), max_norm_("max_norm", "max_norm", std::move(options.max_norm)) {
    if (!(eps_ >= 0)) fail<ConfigError>("[max_norm] eps must not be negative, got ", eps_);
  }
  std::string name() const override { return "max_norm"; }
  std::string settings() const override { return max_norm_.describe(); }
  Span measures() const override { return Span::unit; }
  bool is_constraint() const override { return true; }
  bool keeps_zeros() const override { return true; }
  void begin(const StepContext& context) override { bound_ = max_norm_.at(context.step); }

  template <class T>
  Figure measure(Block<T>& b) const {
    return b.sum_squares();
  }
  template <class T>
  void apply(Block<T>& b) const {
    const Figure norm = std::sqrt(b.figure());
    if (eps_ > 0)
      b.multiply((norm > bound_ ? bound_ : norm) / (norm + static_cast<Figure>(eps_)));
    else if (norm > bound_)
      b.multiply(bound_ / norm);
  }

 private:
  double eps_;
  detail::Range max_norm_;
  Figure bound_ = 0;
};

}  // namespace

Chain max_norm(MaxNormOptions options) { return MaxNorm(std::move(options)); }
Chain clamp_parameters(Scalar lo, Scalar hi) { return ClampParameters(std::move(lo), std::move(hi)); }

}  // namespace espalier::optim
