// StepReport: what a step did. One record for each clip, by its name in the chain.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/core/error.h"

namespace espalier::optim {

/// What a clip did to one parameter.
struct ClippedParameter {
  std::size_t parameter = 0;  ///< place in the optimizer's list
  double norm_before = 0;     ///< of this parameter's gradient alone, or of its worst unit; of the clip's kind
  double coefficient = 1;     ///< what it was multiplied by; the smallest, where units have their own
  Index entries = 0;          ///< entries moved to a bound
};

/// What one clip saw and did. A clip of each tensor or unit on its own reports the worst: the one with the smallest
/// coefficient.
struct ClipRecord {
  std::string name;
  double norm_before = 0;                                  ///< over live coordinates; clip_by_value does not measure it
  double norm_after = 0;                                   ///< coefficient * norm_before
  double coefficient = 1;                                  ///< what the gradient was multiplied by
  double bound = std::numeric_limits<double>::infinity();  ///< what norm_before was held against
  Index entries = 0;                                       ///< clip_by_value: entries that were moved to a bound
  bool clipped = false;                                    ///< something was changed (measure_only: would have been)
  bool nothing_to_clip = false;                            ///< none of its parameters had a gradient
  bool active = true;                                      ///< false in a step that when() or every() left out
  std::vector<ClippedParameter> parameters = {};           ///< filled where the optimizer has a listener
};

class StepReport {
 public:
  std::int64_t step = 0;                  ///< steps the optimizer has done, this one included
  bool skipped = false;                   ///< nothing was changed, the gradients were dropped
  std::string skipped_by = {};            ///< the transform that did, or "nonfinite"
  std::int64_t skipped_in_a_row = 0;      ///< steps skipped since the last one made, this one included
  std::int64_t skipped_in_all = 0;        ///< steps skipped since the optimizer began
  bool accumulating = false;              ///< gradients were kept for a later call; nothing else was done
  Index nonfinite = 0;                    ///< NaN and infinite entries found in live coordinates of the gradients
  Index with_gradient = 0;                ///< parameters that had one
  Index without_gradient = 0;             ///< parameters left alone, for want of one
  bool nothing_to_clip() const noexcept;  ///< there are clips, and none had a gradient to work on
  bool clipped() const noexcept;          ///< any clip changed something

  /// In the order of the chain.
  const std::vector<ClipRecord>& clips() const noexcept { return clips_; }
  /// The clip of this name, "clip_by_global_norm.2" where a name repeats. Errors: ConfigError, which lists the names.
  const ClipRecord& operator[](std::string_view name) const;

 private:
  friend class Pipeline;
  std::vector<ClipRecord> clips_;
};

}  // namespace espalier::optim
