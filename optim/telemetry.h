// Telemetry: how often and how hard every clip of an optimizer clips, step by step and parameter by parameter.
//
//   optim::Telemetry telemetry;
//   opt.attach(telemetry);
//   ...                                                     // train
//   std::puts(telemetry.table().c_str());
//
// Costs nothing where none is attached; attached, a few numbers a parameter and step, and no pass over memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/optim/optimizer.h"

namespace espalier::optim {

/// Norms and coefficients of the steps seen so far.
struct NormStatistics {
  double mean = 0, median = 0, p90 = 0, p99 = 0, largest = 0;
};

/// What one clip did to one parameter.
struct ParameterTelemetry {
  std::string name;
  std::int64_t steps = 0;          ///< in which it had a gradient
  std::int64_t clipped_steps = 0;  ///< of these, in which it was changed
  double mean_norm = 0;            ///< before the clip; of clips that measure
  double largest_norm = 0;
  double smallest_coefficient = 1;
  Index entries = 0;         ///< entries moved to a bound, in all steps
  double share_entries = 0;  ///< of all entries in all steps
};

/// What one clip did.
struct ClipTelemetry {
  std::string name;
  std::int64_t steps = 0;          ///< in which it was active and had something to clip
  std::int64_t clipped_steps = 0;  ///< of these, in which it changed something (measure_only: would have)
  NormStatistics before, after;    ///< over the last `window` steps
  double mean_coefficient = 1, smallest_coefficient = 1;
  std::vector<ParameterTelemetry> parameters;
  double share_clipped() const noexcept {
    return steps > 0 ? static_cast<double>(clipped_steps) / static_cast<double>(steps) : 0;
  }
};

struct TelemetryOptions {
  Index window = 100'000;  ///< steps whose norms are kept for percentiles: 24 bytes a clip and step
};

/// A handle: copies, and the optimizers it is attached to, share one state.
class Telemetry final {
 public:
  /// Errors: ConfigError for a window below 1.
  explicit Telemetry(TelemetryOptions options = {});
  /// What Optimizer::attach() takes. Clips are told apart by their names, so one Telemetry may serve several optimizers.
  std::shared_ptr<StepListener> listener() const;

  std::int64_t steps() const noexcept;    ///< made
  std::int64_t skipped() const noexcept;  ///< skipped
  Index nonfinite() const noexcept;       ///< non-finite entries seen in gradients
  /// In the order of the chain.
  std::vector<ClipTelemetry> clips() const;
  /// Errors: ConfigError if no clip of this name was seen.
  ClipTelemetry clip(const std::string& name) const;
  /// Norms before the clip of the last `window` steps, oldest first, for plots. Errors: as clip().
  std::vector<double> norms(const std::string& name) const;
  /// One line a clip, then one a parameter of each.
  std::string table() const;
  /// Forgets everything.
  void reset();

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace espalier::optim
