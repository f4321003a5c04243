// Optimizer: runs a chain of transforms over parameters, once a step.
//
//   auto opt = optim::Optimizer(model.parameters(), chain(clip_by_global_norm(1.0), adam({.lr = 1e-3})));
//   ...
//   tape.backward(loss);                 // two backwards before a step add up
//   StepReport report = opt.step();      // consumes the gradients: there is no zero_grad
//
// The chain runs in sweeps: blocks of 4,096 elements go through consecutive transforms while they are in the L1 cache.
// A sweep ends where a transform must measure first; the next one replays the transforms that have no state, and starts
// from a stored gradient behind those that have. describe() prints them. Masks are enforced for every parameter that
// has one: where a gradient is first read, behind transforms that do not keep zeros, and where a value is last written.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "espalier/optim/chain.h"
#include "espalier/optim/report.h"
#include "espalier/optim/reshape.h"

namespace espalier::optim {

/// What step() does about NaN and infinities in live coordinates of the gradients.
enum class Nonfinite : std::uint8_t {
  throw_error,  ///< NonFiniteError, which names the first; nothing was changed, and the gradients are still there
  skip_step,    ///< drops the gradients and changes nothing else; the report says so
  zero,         ///< takes them as 0
  propagate     ///< does not look: what the arithmetic gives
};

struct OptimizerOptions {
  Nonfinite nonfinite = Nonfinite::throw_error;
  /// Gradients of so many calls of step() are added up, and the last call makes the step: micro-batches that are clipped
  /// once, together. The others change nothing; their report says `accumulating`.
  std::int64_t accumulate = 1;
  bool average = true;  ///< of `accumulate` > 1: the step is made with the mean of the gradients, else with the sum
  /// A step that is skipped when so many before it in a row were throws NonFiniteError. 0: never.
  std::int64_t most_skips_in_a_row = 0;
};

/// What joins a step from outside: a Pruner. Abstract.
class StepHook {
 public:
  virtual ~StepHook() = default;
  /// begin() is to be called in this step. A step with hooks that are due looks for non-finite gradients first.
  virtual bool due(std::int64_t /*step*/) const { return true; }
  /// Before anything is written. May read the raw gradients and set masks. What it throws, step() throws.
  virtual void begin(const StepContext& context) = 0;
};

/// Told of every step that was made or skipped, after it. Abstract.
class StepListener {
 public:
  virtual ~StepListener() = default;
  /// Where an optimizer has a listener, the records hold ClipRecord::parameters.
  virtual void stepped(const StepReport& report, const ParameterList& parameters) = 0;
};

/// Tensors by key: "step", "skipped", "updates", "masks", "<transform>/<state>/<parameter>", and what else a transform remembers,
/// "<transform>/<key>". Save behind a step: micro-batches added up for the next are not part of it.
using OptimizerState = std::map<std::string, Tensor>;

class Optimizer {
 public:
  /// The chain is copied. A parameter listed twice counts once, under its first name.
  /// Errors: ConfigError if there are no parameters, or a parameter has no optimizer (sgd, adam, ...) in the chain, or
  /// two, or a packed value, or if a constraint stands before a gradient transform.
  Optimizer(ParameterList parameters, Chain chain, OptimizerOptions options = {});
  Optimizer(Optimizer&&) noexcept;
  Optimizer& operator=(Optimizer&&) noexcept;
  ~Optimizer();

  /// One step over all parameters that have a gradient; the others are left alone, and counted in the report.
  /// Errors: GradError if none has one; NonFiniteError (see Nonfinite); ConfigError if a parameter's module is gone,
  /// its size or type changed, or a schedule gave an impossible value. After any of them everything is as it was. Only
  /// what a transform of the user's throws in the middle leaves the optimizer unusable until load_state.
  StepReport step();
  /// A Pruner: its hook joins every step from now on. A Telemetry: it is told of every step from now on. What is shared
  /// lives as long as either of the two.
  template <class P>
  void attach(const P& part) {
    if constexpr (requires { part.hook(); })
      add_hook(part.hook());
    else
      add_listener(part.listener());
  }
  void add_hook(std::shared_ptr<StepHook> hook);
  void add_listener(std::shared_ptr<StepListener> listener);

  std::int64_t steps() const noexcept;
  const ParameterList& parameters() const noexcept;
  /// A copy of everything a later step depends on, but for the parameters themselves.
  OptimizerState state() const;
  /// A copy of one state: state("ema", "average", k) of parameters()[k]. Errors: ConfigError if there is none.
  Tensor state(const std::string& transform, const std::string& state, std::size_t parameter) const;
  /// What one transform remembers besides its states, by key. Errors: ConfigError if there is none of this name.
  Memory memory(const std::string& transform) const;
  /// Errors: ConfigError for a key that is missing, unknown, or has another shape or type; then nothing was changed.
  void load_state(const OptimizerState& state);
  /// The sweeps as they will run.
  std::string describe() const;
  /// What follows when parameters lose units: every state keeps what belongs to what stays, and training goes on with the
  /// next step. Prepares all; what it returns is to be called once the parameters are cut, before anything else is done
  /// with this optimizer, and does not throw. See prune::shrink(). Errors: ConfigError, then nothing was changed.
  Commit prepare_cut(std::span<const ParameterCut> cuts);

 private:
  std::unique_ptr<Pipeline> pipeline_;
};

struct ApplyOptions {
  Nonfinite nonfinite = Nonfinite::throw_error;
  std::int64_t step = 0;  ///< given to schedules
};

/// Runs the chain on the gradients and leaves the result there: clipping by hand, for those who write their own update.
/// Without any gradient it does nothing, and the report says nothing_to_clip.
/// Errors: NonFiniteError; ConfigError for transforms with state, optimizers and constraints.
StepReport apply_to_gradients(const ParameterList& parameters, const Chain& chain, ApplyOptions options = {});

}  // namespace espalier::optim
