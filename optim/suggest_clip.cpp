#include "espalier/optim/suggest_clip.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "espalier/core/percentile.h"
#include "espalier/core/table.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/sgd.h"

namespace espalier::optim {
namespace {

/// Values as they were, given back when it goes.
class KeepValues {
 public:
  explicit KeepValues(const ParameterList& parameters) : parameters_(parameters) {
    for (const NamedParameter& p : parameters_)
      values_.push_back(
          (p.parameter->mask_mode() == MaskMode::soft ? p.parameter->dense() : p.parameter->value()).clone());
  }
  ~KeepValues() {
    for (std::size_t k = 0; k < values_.size(); ++k) {
      ParameterState& p = *parameters_[k].parameter;
      p.set_value(values_[k]);
      p.clear_grad();
    }
  }
  KeepValues(const KeepValues&) = delete;
  KeepValues& operator=(const KeepValues&) = delete;

 private:
  const ParameterList& parameters_;
  std::vector<Tensor> values_;
};

class Collect final : public StepListener {
 public:
  explicit Collect(std::size_t parameters) : of_parameter(parameters) {}
  void stepped(const StepReport& report, const ParameterList&) override {
    if (report.skipped) {
      ++nonfinite;
      return;
    }
    const ClipRecord& record = report.clips().front();
    norms.push_back(record.norm_before);
    for (const ClippedParameter& p : record.parameters) of_parameter[p.parameter].push_back(p.norm_before);
  }
  std::vector<double> norms;
  std::vector<std::vector<double>> of_parameter;
  std::int64_t nonfinite = 0;
};

}  // namespace

ClipSuggestion suggest_clip(const ParameterList& parameters, const std::function<void(std::int64_t)>& backward,
                            const Chain& chain, SuggestClipOptions options) {
  if (options.ignore < 0 || options.steps <= options.ignore)
    fail<ConfigError>("[suggest_clip] steps must be more than the ", options.ignore, " that are ignored, got ",
                      options.steps);
  if (!(options.percentile >= 0 && options.percentile <= 100))
    fail<ConfigError>("[suggest_clip] percentile must lie in [0, 100], got ", options.percentile);
  for (const Link& link : chain.links())
    if (link.transform->is_clip())
      fail<ConfigError>("[suggest_clip] the trial runs without clips, but the chain has '", link.transform->name(),
                        "'. Hint: give it the optimizer alone");
  const KeepValues keep(parameters);
  const Chain measure =
      clip_by_global_norm({.max_norm = std::numeric_limits<double>::infinity(), .p = options.p, .measure_only = true});
  Optimizer trial(parameters, optim::chain(measure, chain.links().empty() ? sgd({.lr = 0.0}) : chain),
                  {.nonfinite = Nonfinite::skip_step});
  const auto seen = std::make_shared<Collect>(trial.parameters().size());
  trial.add_listener(seen);
  for (std::int64_t step = 0; step < options.steps; ++step) {
    backward(step);
    trial.step();
  }

  ClipSuggestion s;
  s.norms = std::move(seen->norms);
  s.nonfinite = seen->nonfinite;
  s.ignored = std::min<std::int64_t>(options.ignore, static_cast<std::int64_t>(s.norms.size()));
  const std::vector<double> counted(s.norms.begin() + s.ignored, s.norms.end());
  if (counted.empty())
    fail<NonFiniteError>("[suggest_clip] ", s.nonfinite, " of ", options.steps,
                         " steps had a non-finite gradient, and none is left to measure. Hint: a smaller learning rate "
                         "for the trial");
  for (double n : counted) s.mean += n / static_cast<double>(counted.size());
  const std::vector<double> at = percentiles(counted, {1, 10, 50, 90, 99, 100, options.percentile});
  s.p1 = at[0];
  s.p10 = at[1];
  s.median = at[2];
  s.p90 = at[3];
  s.p99 = at[4];
  s.largest = at[5];
  s.max_norm = at[6];
  s.tail = s.median > 0 ? s.p99 / s.median : 0;

  const double power = std::isinf(options.p) ? 1 : options.p;
  double total = 0;
  for (std::size_t k = 0; k < trial.parameters().size(); ++k) {
    const std::vector<double>& norms = seen->of_parameter[k];
    if (norms.empty()) continue;
    double sum = 0;
    for (double n : norms) sum += std::pow(n, power);
    total += sum;
    s.parameters.push_back({trial.parameters()[k].name, percentile(norms, 50), percentile(norms, 100), sum});
  }
  for (ClipSuggestion::OfParameter& p : s.parameters) p.share = total > 0 ? p.share / total : 0;
  return s;
}

std::string ClipSuggestion::table() const {
  Table norms_table({"gradient norm", "p1", "p10", "median", "mean", "p90", "p99", "largest"});
  norms_table.add({grouped(static_cast<long long>(norms.size()) - ignored) + " steps", join(p1), join(p10),
                   join(median), join(mean), join(p90), join(p99), join(largest)});
  std::string text = norms_table.to_string();
  if (nonfinite > 0) text += grouped(nonfinite) + " steps were not finite\n";
  Table of_parameters({"parameter", "norm median", "largest", "share of the norm"});
  for (const OfParameter& p : parameters)
    of_parameters.add({p.name, join(p.median), join(p.largest), percent(p.share)});
  text += "\n" + of_parameters.to_string() + "\n";
  const auto above = std::count_if(norms.begin() + ignored, norms.end(), [&](double n) { return n > max_norm; });
  text += "suggested max_norm " + join(max_norm) + ": would have clipped " +
          percent(static_cast<double>(above) / static_cast<double>(static_cast<std::int64_t>(norms.size()) - ignored)) +
          " of the steps; p99 / median " + with_decimals(tail, 1) + "\n";
  return text;
}

}  // namespace espalier::optim
