// NormClip: what all clips of norms share: measuring, the coefficient, the report. A rule says what the bound is.
#pragma once

#include <array>
#include <cmath>
#include <concepts>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "espalier/optim/detail/clip_log.h"
#include "espalier/optim/detail/range.h"
#include "espalier/optim/transform.h"

namespace espalier::optim::detail {

struct NormClipSettings {
  const char* name;
  Span span = Span::everything;
  double p = 2;
  double eps = 0;  ///< if positive, c = min(1, bound / (norm + eps))
  bool measure_only = false;
};

/// The gradient of one unit, of one tensor, or of all.
struct Measurement {
  Figure norm;    ///< over its live coordinates
  Figure second;  ///< what Rule::second() returned, summed; 0 without
  Index size;     ///< all its weights, dead ones too
};

/// A rule has
///   std::string settings() const;
///   void begin(const StepContext&);                      // schedules
///   Figure bound(const Measurement&) const;
/// and, if it needs them,
///   template <class T> Figure second(Block<T>&) const;   // another figure (p finite)
///   bool second_counts_zeros() const;                    // it is not 0 where the gradient is; without: true
///   Figure size_of(const Measurement&) const;            // what is held against the bound, if not the norm
///   Figure coefficient(Figure norm, Figure bound) const;
///   void observe(double norm), end();                    // Span::everything: ahead of bound(), and once it is certain
///   Memory memory() const; void set_memory(const Memory&);
template <class Rule>
class NormClip final : public TransformOf<NormClip<Rule>> {
 public:
  NormClip(NormClipSettings settings, Rule rule) : own_(settings), rule_(std::move(rule)) {
    if (!(own_.p > 0)) fail<ConfigError>("[", own_.name, "] p must be positive, got ", own_.p);
    if (!(own_.eps >= 0)) fail<ConfigError>("[", own_.name, "] eps must not be negative, got ", own_.eps);
  }

  std::string name() const override { return own_.name; }
  std::string settings() const override {
    std::string text = rule_.settings();
    if (own_.p != 2) text += join(", p ", own_.p);
    if (own_.eps > 0) text += join(", eps ", own_.eps);
    return own_.measure_only ? text + ", measure only" : text;
  }
  Span measures() const override { return own_.span; }
  Combine combines() const override { return std::isinf(own_.p) ? Combine::max : Combine::sum; }
  bool keeps_zeros() const override { return true; }
  bool passes_zeros() const override {
    bool second_is_zero = !requires(const Rule& rule, Block<float>& b) { rule.second(b); };
    if constexpr (requires { rule_.second_counts_zeros(); }) second_is_zero = !rule_.second_counts_zeros();
    return second_is_zero && own_.span != Span::unit;
  }
  bool is_clip() const override { return true; }
  bool finds_nonfinite() const override { return true; }

  void begin(const StepContext& context) override {
    rule_.begin(context);
    record_ = ClipRecord();
    detailed_ = context.detailed;
    if (own_.span != Span::unit) return;
    if (units_.size() != context.parameters.size()) units_ = std::vector<WorstUnit>(context.parameters.size());
    for (WorstUnit& unit : units_) unit.clear();
  }

  void measured(const Measured& m, const StepContext& context) override {
    record_.nothing_to_clip = m.parameters.empty();
    if (own_.span == Span::everything) {
      if (m.parameters.empty()) return;
      const Measurement all{norm_of(m.total), std::accumulate(m.second.begin(), m.second.end(), Figure(0)),
                            std::accumulate(m.sizes.begin(), m.sizes.end(), Index(0))};
      if constexpr (requires { rule_.observe(double()); }) rule_.observe(static_cast<double>(all.norm));
      const Clipped c = clipped(all);
      put_into(record_, c);
      record_.clipped = c.changed();
      coefficient_ = c.coefficient;
      for (std::size_t k = 0; detailed_ && k < m.parameters.size(); ++k)
        list(m.parameters[k], norm_of(m.figures[k]), c.coefficient);
      return;
    }
    coefficients_.resize(context.parameters.size());
    Clipped worst;
    for (std::size_t k = 0; k < m.parameters.size(); ++k) {
      const Clipped c = clipped({norm_of(m.figures[k]), m.second[k], m.sizes[k]});
      coefficients_[m.parameters[k]] = c.coefficient;
      if (k == 0 || c.worse_than(worst)) worst = c;
      record_.clipped = record_.clipped || c.changed();
      if (detailed_) list(m.parameters[k], c.norm, c.coefficient);
    }
    if (!m.parameters.empty()) put_into(record_, worst);
  }

  void end(ClipRecord* record) override {
    if (own_.span == Span::unit) collect_units();
    if constexpr (requires { rule_.observe(double()); }) rule_.end();
    *record = std::move(record_);
  }

  Memory memory() const override {
    if constexpr (requires { rule_.memory(); })
      return rule_.memory();
    else
      return {};
  }
  void set_memory(const Memory& memory) override {
    if constexpr (requires { rule_.memory(); }) rule_.set_memory(memory);
  }

  template <class T>
  std::array<Figure, 2> measure(Block<T>& b) const {
    const Figure second = second_of(b);
    if (own_.p == 2) return {b.sum_squares(), second};
    if (own_.p == 1) return {b.sum_abs(), second};
    return {std::isinf(own_.p) ? b.max_abs() : b.sum_powers(own_.p), second};
  }
  template <class T>
  void apply(Block<T>& b) const {
    Figure c = coefficient_;
    if (own_.span == Span::unit) {
      const Clipped unit = clipped({norm_of(b.figure()), b.figure(1), b.unit_size()});
      units_[b.parameter()].note(unit);
      c = unit.coefficient;
    } else if (own_.span == Span::tensor) {
      c = coefficients_[b.parameter()];
    }
    if (!own_.measure_only) b.multiply(c);
  }

 private:
  template <class T>
  Figure second_of(Block<T>& b) const {
    if constexpr (requires { rule_.second(b); })
      return rule_.second(b);
    else
      return 0;
  }
  Figure norm_of(Figure total) const {
    if (own_.p == 2) return std::sqrt(total);
    if (own_.p == 1 || std::isinf(own_.p)) return total;
    return std::pow(total, 1 / static_cast<Figure>(own_.p));
  }
  Clipped clipped(const Measurement& m) const {
    Clipped c{.norm = m.norm, .bound = rule_.bound(m)};
    if constexpr (requires { rule_.size_of(m); }) c.norm = rule_.size_of(m);
    if constexpr (requires { rule_.coefficient(c.norm, c.bound); }) {
      c.coefficient = rule_.coefficient(c.norm, c.bound);
    } else if (own_.eps > 0) {
      c.coefficient = c.bound / (c.norm + static_cast<Figure>(own_.eps));
      if (c.coefficient > 1) c.coefficient = 1;  // NaN stays
    } else if (!(c.norm <= c.bound)) {
      c.coefficient = c.bound / c.norm;
    }
    return c;
  }
  void list(std::size_t parameter, Figure norm, Figure coefficient) {
    record_.parameters.push_back({.parameter = parameter,
                                  .norm_before = static_cast<double>(norm),
                                  .coefficient = static_cast<double>(coefficient)});
  }
  void collect_units() {
    Clipped worst{.norm = -1};
    for (std::size_t i = 0; i < units_.size(); ++i) {
      const Clipped& c = units_[i].worst();
      if (c.norm < 0) continue;  // NaN is one
      if (c.worse_than(worst)) worst = c;
      record_.clipped = record_.clipped || c.changed();
      if (detailed_) list(i, c.norm, c.coefficient);
    }
    record_.nothing_to_clip = worst.norm < 0;
    if (!record_.nothing_to_clip) put_into(record_, worst);
  }

  NormClipSettings own_;
  Rule rule_;
  Figure coefficient_ = 1;
  std::vector<Figure> coefficients_;      // [parameter]
  mutable std::vector<WorstUnit> units_;  // [parameter]
  ClipRecord record_;
  bool detailed_ = false;
};

}  // namespace espalier::optim::detail
