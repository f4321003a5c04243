// Clipping of each example's gradient, with noise: DP-SGD (Abadi et al. 2016, algorithm 1), without ever storing the
// gradients of the examples.
//
//   optim::PerExampleClip clip(model.parameters(),
//                              {.max_norm = 1.0, .noise_multiplier = 1.1, .expected_batch = 256}, Rng(7));
//   ...
//   Tape tape;
//   clip.watch(tape);                                                       // before the forward pass
//   Variable losses = nn::cross_entropy(model(x), y, {.reduction = nn::Reduction::none});        // [N]
//   PerExampleReport r = clip.backward(tape, losses);                       // in place of tape.backward(loss)
//   opt.step();
//
// With g_i = d losses[i] / d w of all parameters together, the gradients become
//   (sum over i of min(1, C / ||g_i||) g_i + N(0, sigma^2 C^2)) / expected_batch.
//
// How ||g_i|| is found. One backward pass gives d losses / d output of every op that reads a parameter. Where the op is
// linear in it, g_i is a sum of T products u_t v_t^T of what went in and what came back: its norm is |u| |v| for T = 1
// (Goodfellow 2015), and the root of the sum over t, t' of (u_t u_t')(v_t v_t') beyond (the ghost norm of Li et al.
// 2021, in f64, for it sums what may cancel), or, where that costs more, g_i is made in a scratch of one parameter's
// size. Sums of clipped gradients come of the same factors (Bu et al. 2022): no second backward pass. So are done linear,
// matmul by a parameter, conv and conv_transpose, embedding, biases, and the gains of layer, rms, group and instance
// norms; all uses of a tied parameter together. A parameter read by any other op (lstm, prelu, a checkpoint, ...) is
// exact too, by one backward pass for each example: N passes over the whole batch.
//
// Where a hard mask prunes, there is no gradient: norms run over live coordinates, and no noise is left there. Products
// cannot leave coordinates out, so each example's gradient of a masked matrix or kernel is made in the scratch.
#pragma once

#include <cstdint>
#include <memory>

#include "espalier/autograd/tape.h"
#include "espalier/core/rng.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

/// What the bound C is a bound of.
enum class PerExampleBound : std::uint8_t {
  whole,         ///< the norm of all parameters together
  per_parameter  ///< the norm of each of K parameters, bounded by C / sqrt(K): of all together still at most C
};

/// Whether a loss depends on its own example alone is looked at by a second backward pass with weights on the losses.
enum class PerExampleCheck : std::uint8_t {
  first,   ///< the first time a sequence of ops is seen
  always,  ///< in every batch
  never    ///< not at all: the first axis of length N (or a multiple of it) is taken for that of the examples
};

struct PerExampleOptions {
  Scalar max_norm;              ///< C
  Scalar noise_multiplier = 0;  ///< sigma: the noise has the deviation sigma C
  /// What sums are divided by; under Poisson sampling the mean batch size. 0: the number of examples there were.
  double expected_batch = 0;
  PerExampleBound bound = PerExampleBound::whole;
  PerExampleCheck check = PerExampleCheck::first;
};

struct PerExampleReport {
  Tensor norms;               ///< f64 [N], before clipping
  Index clipped = 0;          ///< examples cut back; per_parameter: in at least one parameter
  double median = 0;          ///< of the norms, the lower of two middle ones; 0 without examples
  double max_norm = 0;        ///< C of this step
  Index slow_parameters = 0;  ///< that took a backward pass for each example
};

class PerExampleClip final {
 public:
  /// A parameter listed twice counts once; frozen ones are left alone. Errors: ConfigError without parameters; for a
  /// max_norm that is not positive, a noise_multiplier or expected_batch that is negative or NaN, and for noise without a
  /// finite bound (for schedules: in backward).
  PerExampleClip(ParameterList parameters, PerExampleOptions options, Rng noise = Rng(0));
  PerExampleClip(PerExampleClip&&) noexcept;
  PerExampleClip& operator=(PerExampleClip&&) noexcept;
  ~PerExampleClip();

  /// Looks on while the forward pass is recorded; what it sees is held until backward(). Must outlive the tape, or
  /// backward() must be called. Errors: GradError if parameters are on the tape already.
  void watch(Tape& tape);

  /// losses [N], one for each example, f32 or f64; N may be 0. Fills the gradients of all parameters, also of those that
  /// no example reached where there is noise, and spends the tape. The same bytes at any thread count.
  /// Errors: GradError if the tape is not watched, a parameter on it is not listed, or has a gradient already; if an op
  /// mixes examples (batch_norm; any other where `check` sees it); NonFiniteError, which names the first example whose
  /// norm is not finite; ShapeError unless losses are [N]; ConfigError for N = 0 without expected_batch. After any of
  /// them the gradients are as they were.
  /// Cost: the backward pass, and about once more the products of weights' gradients, then a normal draw for each
  /// coordinate; memory: the outputs' gradients.
  PerExampleReport backward(Tape& tape, const Variable& losses);

  /// The two halves of backward(), for batches too large for one tape: accumulate() for each part, then add_noise() once.
  PerExampleReport accumulate(Tape& tape, const Variable& losses);
  /// Adds the noise to what was accumulated and divides. Errors: ConfigError if expected_batch is 0 and no example came.
  void add_noise();

  /// How often noise was added: the step that schedules see.
  std::int64_t steps() const noexcept;
  /// i64 [4]: the generator and the steps. A run continued from it draws the same noise.
  Tensor state() const;
  /// Errors: ConfigError for what is no state.
  void load_state(const Tensor& state);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace espalier::optim
