#include "espalier/optim/clip.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>

#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

class ClipByNorm final : public TransformOf<ClipByNorm> {
 public:
  ClipByNorm(const char* name, Span span, ClipNormOptions options)
      : name_(name), span_(span), options_(std::move(options)), max_norm_(name, "max_norm", options_.max_norm) {
    if (!(options_.p > 0)) fail<ConfigError>("[", name, "] p must be positive, got ", options_.p);
    if (!(options_.eps >= 0)) fail<ConfigError>("[", name, "] eps must not be negative, got ", options_.eps);
  }

  std::string name() const override { return name_; }
  std::string settings() const override {
    std::string text = max_norm_.describe();
    if (options_.p != 2) text += join(", p ", options_.p);
    if (options_.eps > 0) text += join(", eps ", options_.eps);
    return options_.measure_only ? text + ", measure only" : text;
  }
  Span measures() const override { return span_; }
  Combine combines() const override { return std::isinf(options_.p) ? Combine::max : Combine::sum; }
  bool keeps_zeros() const override { return true; }
  bool is_clip() const override { return true; }
  bool finds_nonfinite() const override { return true; }

  void begin(const StepContext& context) override { bound_ = max_norm_.at(context.step); }

  void measured(const Measured& m, const StepContext& context) override {
    record_ = ClipRecord();
    any_ = false;
    record_.nothing_to_clip = m.parameters.empty();
    if (span_ == Span::everything) {
      coefficient_ = coefficient_for(norm_of(m.total));
      return;
    }
    coefficients_.resize(context.parameters.size());
    for (std::size_t k = 0; k < m.parameters.size(); ++k)
      coefficients_[m.parameters[k]] = coefficient_for(norm_of(m.figures[k]));
  }
  void end(ClipRecord* record) override { *record = std::move(record_); }

  template <class T>
  Figure measure(Block<T>& b) const {
    if (options_.p == 2) return b.sum_squares();
    if (options_.p == 1) return b.sum_abs();
    return std::isinf(options_.p) ? b.max_abs() : b.sum_powers(options_.p);
  }
  template <class T>
  void apply(Block<T>& b) const {
    if (!options_.measure_only) b.multiply(span_ == Span::everything ? coefficient_ : coefficients_[b.parameter()]);
  }

 private:
  Figure norm_of(Figure total) const {
    if (options_.p == 2) return std::sqrt(total);
    if (options_.p == 1 || std::isinf(options_.p)) return total;
    return std::pow(total, 1 / static_cast<Figure>(options_.p));
  }
  Figure coefficient_for(Figure norm) {
    Figure c = 1;
    if (options_.eps > 0) {
      c = bound_ / (norm + static_cast<Figure>(options_.eps));
      c = c > 1 ? 1 : c;  // NaN stays
    } else if (!(norm <= bound_)) {
      c = bound_ / norm;
    }
    // The record is of the tensor that was cut back most; the first one, if none was.
    if (!any_ || c < static_cast<Figure>(record_.coefficient)) {
      record_.norm_before = static_cast<double>(norm);
      record_.coefficient = static_cast<double>(c);
      record_.norm_after = static_cast<double>(c * norm);
    }
    any_ = true;
    record_.clipped = record_.clipped || c != 1;
    return c;
  }

  const char* name_;
  Span span_;
  ClipNormOptions options_;
  detail::Range max_norm_;
  Figure bound_ = 0, coefficient_ = 1;
  std::vector<Figure> coefficients_;
  ClipRecord record_;
  bool any_ = false;  // a coefficient was computed in this step
};

class ClipByValue final : public TransformOf<ClipByValue> {
 public:
  explicit ClipByValue(ClipValueOptions options) : bounds_("clip_by_value", options.min, options.max) {}

  std::string name() const override { return "clip_by_value"; }
  std::string settings() const override { return bounds_.describe(); }
  bool keeps_zeros() const override { return bounds_.always_hold_zero(); }
  bool is_clip() const override { return true; }

  void begin(const StepContext& context) override {
    bounds_.begin(context.step);
    moved_ = 0;
    blocks_ = 0;
  }
  template <class T>
  void apply(Block<T>& b) const {
    const Index moved = b.clamp_counted(bounds_.min(), bounds_.max());
    if (b.again()) return;
    blocks_.store(1, std::memory_order_relaxed);
    if (moved > 0) moved_ += moved;
  }
  void end(ClipRecord* record) override {
    record->entries = moved_;
    record->clipped = moved_ > 0;
    record->nothing_to_clip = blocks_ == 0;
  }

 private:
  /// A sum over blocks of any order; copying a transform begins it anew.
  struct Counter : std::atomic<Index> {
    Counter() : std::atomic<Index>(0) {}
    Counter(const Counter&) : std::atomic<Index>(0) {}
    using std::atomic<Index>::operator=;
  };
  detail::Bounds bounds_;
  mutable Counter moved_, blocks_;
};

}  // namespace

Chain clip_by_global_norm(ClipNormOptions options) {
  return ClipByNorm("clip_by_global_norm", Span::everything, std::move(options));
}
Chain clip_by_global_norm(Scalar max_norm) { return clip_by_global_norm({.max_norm = std::move(max_norm)}); }

Chain clip_per_tensor_norm(ClipNormOptions options) {
  return ClipByNorm("clip_per_tensor_norm", Span::tensor, std::move(options));
}
Chain clip_per_tensor_norm(Scalar max_norm) { return clip_per_tensor_norm({.max_norm = std::move(max_norm)}); }

Chain clip_by_value(ClipValueOptions options) { return ClipByValue(std::move(options)); }
Chain clip_by_value(Scalar bound) {
  if (!bound.scheduled() && !(bound.value() >= 0))
    fail<ConfigError>("[clip_by_value] the bound must not be negative or NaN, got ", bound.value());
  Scalar lowest = -bound.value();
  if (bound.scheduled()) lowest = [bound](std::int64_t step) { return -bound.at(step); };
  return ClipByValue({.min = std::move(lowest), .max = std::move(bound)});
}

}  // namespace espalier::optim
