#include "espalier/optim/telemetry.h"

#include <algorithm>
#include <map>

#include "espalier/core/percentile.h"
#include "espalier/core/table.h"

namespace espalier::optim {
namespace {

/// The last `window` of a sequence of numbers.
class Window {
 public:
  void add(double x, std::size_t window) {
    if (values_.size() < window) {
      values_.push_back(x);
    } else {
      values_[next_] = x;
      next_ = (next_ + 1) % window;
    }
  }
  std::vector<double> in_order() const {
    std::vector<double> all(values_.begin() + static_cast<std::ptrdiff_t>(next_), values_.end());
    all.insert(all.end(), values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>(next_));
    return all;
  }

 private:
  std::vector<double> values_;
  std::size_t next_ = 0;
};

NormStatistics statistics(const std::vector<double>& values) {
  NormStatistics s;
  std::vector<double> finite;
  for (double v : values)
    if (v == v) finite.push_back(v);
  if (finite.empty()) return s;
  for (double v : finite) s.mean += v / static_cast<double>(finite.size());
  const std::vector<double> p = percentiles(std::move(finite), {50, 90, 99, 100});
  s.median = p[0];
  s.p90 = p[1];
  s.p99 = p[2];
  s.largest = p[3];
  return s;
}

std::string number(double x) { return join(x); }

}  // namespace

class Telemetry::State final : public StepListener {
 public:
  explicit State(TelemetryOptions options) : window_(static_cast<std::size_t>(options.window)) {}

  void stepped(const StepReport& report, const ParameterList& parameters) override {
    nonfinite += report.nonfinite;
    if (report.skipped) {
      ++skipped;
      return;
    }
    ++steps;
    for (const ClipRecord& clip : report.clips())
      if (clip.active && !clip.nothing_to_clip) add(clip, parameters);
  }
  std::vector<ClipTelemetry> clips() const {
    std::vector<ClipTelemetry> all;
    for (const std::string& name : order_) all.push_back(summary(clips_.at(name)));
    return all;
  }
  ClipTelemetry clip(const std::string& name) const { return summary(find(name)); }
  std::vector<double> norms(const std::string& name) const { return find(name).before.in_order(); }
  void reset() {
    clips_.clear();
    order_.clear();
    steps = skipped = 0;
    nonfinite = 0;
  }

  std::int64_t steps = 0, skipped = 0;
  Index nonfinite = 0;

 private:
  struct OfParameter {
    ParameterTelemetry seen;
    double entries_in_all = 0;
  };
  struct OfClip {
    ClipTelemetry seen;
    Window before, after;
    double sum_coefficient = 0;
    std::vector<std::string> order;
    std::map<std::string, OfParameter> parameters;
  };

  void add(const ClipRecord& record, const ParameterList& parameters) {
    auto [found, added] = clips_.try_emplace(record.name);
    OfClip& clip = found->second;
    if (added) {
      clip.seen.name = record.name;
      order_.push_back(record.name);
    }
    ++clip.seen.steps;
    clip.seen.clipped_steps += record.clipped;
    clip.before.add(record.norm_before, window_);
    clip.after.add(record.norm_after, window_);
    clip.sum_coefficient += record.coefficient;
    clip.seen.smallest_coefficient = std::min(clip.seen.smallest_coefficient, record.coefficient);
    for (const ClippedParameter& p : record.parameters) {
      const NamedParameter& parameter = parameters.at(p.parameter);
      auto [place, fresh] = clip.parameters.try_emplace(parameter.name);
      OfParameter& of = place->second;
      if (fresh) {
        of.seen.name = parameter.name;
        clip.order.push_back(parameter.name);
      }
      ++of.seen.steps;
      of.seen.clipped_steps += p.coefficient != 1 || p.entries > 0;
      of.seen.mean_norm += p.norm_before;  // the sum, until it is read
      of.seen.largest_norm = std::max(of.seen.largest_norm, p.norm_before);
      of.seen.smallest_coefficient = std::min(of.seen.smallest_coefficient, p.coefficient);
      of.seen.entries += p.entries;
      of.entries_in_all += static_cast<double>(parameter.parameter->value().size());
    }
  }
  static ClipTelemetry summary(const OfClip& clip) {
    ClipTelemetry s = clip.seen;
    s.before = statistics(clip.before.in_order());
    s.after = statistics(clip.after.in_order());
    s.mean_coefficient = clip.sum_coefficient / static_cast<double>(s.steps);
    for (const std::string& name : clip.order) {
      const OfParameter& of = clip.parameters.at(name);
      ParameterTelemetry p = of.seen;
      p.mean_norm /= static_cast<double>(p.steps);
      p.share_entries = of.entries_in_all > 0 ? static_cast<double>(p.entries) / of.entries_in_all : 0;
      s.parameters.push_back(std::move(p));
    }
    return s;
  }
  const OfClip& find(const std::string& name) const {
    const auto found = clips_.find(name);
    if (found == clips_.end()) {
      std::string known;
      for (const std::string& other : order_) known += (known.empty() ? "" : ", ") + other;
      fail<ConfigError>("[telemetry] no clip named '", name, "' was seen; there ",
                        known.empty() ? "was none" : "were " + known);
    }
    return found->second;
  }

  std::size_t window_;
  std::map<std::string, OfClip> clips_;
  std::vector<std::string> order_;
};

Telemetry::Telemetry(TelemetryOptions options) {
  if (options.window < 1) fail<ConfigError>("[telemetry] window must be at least 1, got ", options.window);
  state_ = std::make_shared<State>(options);
}
std::shared_ptr<StepListener> Telemetry::listener() const { return state_; }
std::int64_t Telemetry::steps() const noexcept { return state_->steps; }
std::int64_t Telemetry::skipped() const noexcept { return state_->skipped; }
Index Telemetry::nonfinite() const noexcept { return state_->nonfinite; }
std::vector<ClipTelemetry> Telemetry::clips() const { return state_->clips(); }
ClipTelemetry Telemetry::clip(const std::string& name) const { return state_->clip(name); }
std::vector<double> Telemetry::norms(const std::string& name) const { return state_->norms(name); }
void Telemetry::reset() { state_->reset(); }

std::string Telemetry::table() const {
  const std::vector<ClipTelemetry> all = clips();
  std::string text = grouped(steps()) + " steps, " + grouped(skipped()) + " skipped, " + grouped(nonfinite()) +
                     " non-finite entries\n";
  Table of_clips({"clip", "steps", "clipped", "norm median", "p90", "p99", "largest", "after: largest",
                  "coefficient: mean", "smallest"});
  for (const ClipTelemetry& c : all)
    of_clips.add({c.name, grouped(c.steps), percent(c.share_clipped()), number(c.before.median), number(c.before.p90),
                  number(c.before.p99), number(c.before.largest), number(c.after.largest), number(c.mean_coefficient),
                  number(c.smallest_coefficient)});
  text += of_clips.to_string();
  for (const ClipTelemetry& c : all) {
    if (c.parameters.empty()) continue;
    Table of_parameters(
        {c.name, "steps", "clipped", "norm mean", "largest", "smallest coefficient", "entries clipped"});
    for (const ParameterTelemetry& p : c.parameters)
      of_parameters.add(
          {p.name, grouped(p.steps), percent(static_cast<double>(p.clipped_steps) / static_cast<double>(p.steps)),
           number(p.mean_norm), number(p.largest_norm), number(p.smallest_coefficient), percent(p.share_entries)});
    text += "\n" + of_parameters.to_string();
  }
  return text;
}

}  // namespace espalier::optim
