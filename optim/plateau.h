// Plateau: a factor less whenever a metric has stopped getting better. The one schedule that has a memory.
//
//   optim::Plateau plateau({.lr = 0.1, .patience = 3});
//   auto opt = Optimizer(model.parameters(), sgd({.lr = plateau}));
//   ...                                                  // after each validation:
//   plateau.observe(validation_loss);                    // the next step has the new rate
//   io::save_checkpoint("run", model, opt, plateau);     // saved and loaded like an optimizer
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "espalier/core/tensor.h"

namespace espalier::optim {

enum class PlateauMode : std::uint8_t { min, max };  ///< which way is better
enum class Threshold : std::uint8_t { rel, abs };    ///< by a share of the best so far, or by a difference

struct PlateauOptions {
  double lr = std::numeric_limits<double>::quiet_NaN();  ///< at first; must be given
  PlateauMode mode = PlateauMode::min;
  double factor = 0.1;         ///< in [0, 1)
  std::int64_t patience = 10;  ///< metrics without an improvement that are let pass
  double threshold = 1e-4;     ///< how much better counts as better
  Threshold threshold_mode = Threshold::rel;
  std::int64_t cooldown = 0;  ///< metrics after a reduction in which nothing bad counts
  double min_lr = 0;          ///< at most lr
  double eps = 1e-8;          ///< a reduction that is not larger than this is not made
};

/// rate <- max(factor rate, min_lr) once more than `patience` metrics in a row were not better than the best by the
/// threshold: best - threshold |best| (rel) or best - threshold (abs); for max, with + and above. PyTorch's
/// ReduceLROnPlateau, but that rel means the same for metrics below 0 (where PyTorch would take worse for better).
///
/// A handle: copies share one state, so that the one given to several settings of several optimizers, and those within
/// an optimizer, all follow what any of them observes. It takes any place of a Scalar or of a Schedule (as a factor of
/// a chained(), with .lr = 1); it does not look at the step. Not to be observed while another thread steps.
class Plateau final {
 public:
  /// Errors: ConfigError for settings out of range.
  explicit Plateau(PlateauOptions options);
  Plateau(const Plateau&) = default;  // moves copy, so that no handle is ever empty
  Plateau& operator=(const Plateau&) = default;

  /// The rate, whatever the step.
  double operator()(std::int64_t step) const;
  double lr() const;
  /// Takes the next metric; true if the rate went down. NaN and infinities count as not better, in either mode, and are
  /// never the best.
  bool observe(double metric);

  /// Scalars "lr", "best" (f64; NaN before the first finite metric), "bad" and "cooldown" (i64: metrics since the last
  /// good one, and left to cool down). Copies.
  std::map<std::string, Tensor> state() const;
  /// For all copies. The settings stay those of the constructor.
  /// Errors: ConfigError for a key that is missing, unknown, of another shape or type, or has an impossible value; then
  /// nothing was changed.
  void load_state(const std::map<std::string, Tensor>& state);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace espalier::optim
