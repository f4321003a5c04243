// Parameter: a learned tensor with its gradient and its pruning mask.
//
// A Parameter is a value with an identity. Copying constructs a new one (deep); copy-assigning writes value and mask
// into the existing one, so that `model = best` keeps its optimizer; moving moves the identity, so that vectors of
// layers may grow. Optimizers and pruners hold counted references. There is one Parameter per state: a tied weight is
// one member used twice.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/autograd/full_name.h"
#include "espalier/autograd/hook.h"
#include "espalier/autograd/mask.h"
#include "espalier/core/tensor.h"

namespace espalier {

class RowSparse;  // core/row_sparse.h

/// How a mask treats what it prunes.
enum class MaskMode : std::uint8_t {
  hard,  ///< value, gradient and optimizer state are exactly 0 where the mask is 0
  soft,  ///< a dense tensor lives on unmasked and receives the gradient; value = mask * dense
};

/// What a Parameter is. Held by the Parameter and shared by whoever works on it.
class alignas(64) ParameterState {
 public:
  ParameterState(Tensor value, std::string name);

  const Tensor& value() const noexcept { return value_; }
  /// Undefined: no gradient since the last step. A row-sparse gradient becomes dense by being asked for here.
  const Tensor& grad() const {
    if (grad_.packed()) [[unlikely]]
      grad_ = grad_.densify();
    return grad_;
  }
  /// There is one, dense or row-sparse; asking leaves it as it is.
  bool has_grad() const noexcept { return grad_.defined(); }
  /// The gradient as the rows that are not zero, raw like grad(): what a mask prunes is the reader's to leave out. Null
  /// if there is no gradient, or a dense one. Valid until the gradient changes.
  const RowSparse* row_gradient() const noexcept;
  /// Undefined: nothing is pruned.
  const Mask& mask() const noexcept { return mask_; }
  MaskMode mask_mode() const noexcept { return mode_; }
  /// Soft mode: the unmasked values; else undefined.
  const Tensor& dense() const noexcept { return dense_; }
  /// Raised by every change of the mask; an optimizer that sees it move zeroes its moments where the mask is 0.
  std::uint32_t mask_version() const noexcept { return mask_version_; }
  /// The name given at construction; names within a model live in its ParameterList.
  const std::string& name() const noexcept { return name_; }

  /// Writes into the existing value (same shape and type), pruned weights stay 0. Errors: ShapeError, DTypeError.
  void set_value(const Tensor& value);
  /// Replaces the value by a tensor of any shape or representation (structural pruning, loading). The mask must fit the
  /// new size, or be undefined. The gradient is dropped. Soft mode ends.
  void replace(Tensor value, Mask mask);
  /// Its shape is not the one it was constructed with: units were cut. Files say so, and may then be loaded into a
  /// model of the original size.
  bool resized() const noexcept { return resized_; }
  /// Hard: zeroes value and gradient where the mask is 0. Soft: keeps them in dense(). An undefined mask makes every
  /// weight live again: in hard mode from 0, in soft mode from its dense value. Errors: ShapeError for another size.
  void set_mask(Mask mask, MaskMode mode = MaskMode::hard);
  /// Soft mode becomes hard: dense values of pruned weights are dropped. Without effect in hard mode.
  void freeze();
  /// Adds `gradient` to what came since the last step. Row-sparse and row-sparse stay so, with a dense one the sum is
  /// dense. Errors: ShapeError, DTypeError.
  void accumulate(Tensor gradient);
  void clear_grad() noexcept { grad_ = Tensor(); }

  /// A frozen parameter is a constant on every tape, so no gradient is computed for it and optimizers leave it alone.
  /// Freezing drops the gradient it has.
  void set_frozen(bool frozen) noexcept {
    frozen_ = frozen;
    if (frozen) clear_grad();
  }
  bool frozen() const noexcept { return frozen_; }
  /// Value and dense values in another floating type; mask and mode stay, the gradient is dropped. Optimizers are to be
  /// made anew. Errors: DTypeError for a type that is not floating; ConfigError if packed.
  void convert(DType type);
  /// See Parameter::after_accumulate().
  Hook after_accumulate(std::function<void(ParameterState&)> f);
  bool has_hooks() const noexcept { return !hooks_.empty(); }
  /// For the tape, once per backward.
  void run_hooks();

  /// Asks for the cache lines that a step looks at, some turns of a loop before: of a thousand parameters none is in the
  /// cache.
  void prefetch() const noexcept {
    __builtin_prefetch(&value_, 1);
    __builtin_prefetch(&grad_, 1);
    __builtin_prefetch(&mask_, 1);
  }
  /// For clear_grad(), some turns behind prefetch().
  void prefetch_grad() const noexcept { grad_.prefetch(); }

  /// For the optimizer, which writes in place: value, gradient, and in soft mode the dense values.
  Tensor& mutable_value() noexcept { return value_; }
  Tensor& mutable_grad() {
    grad();
    return grad_;
  }
  Tensor& mutable_dense() noexcept { return dense_; }
  /// Soft mode, after dense() was written: value = mask * dense.
  void refresh_from_dense();

  /// A module or the user has listed it by this name (see nn::Module). Never goes back.
  void mark_listed(const std::string& name) {
    full_name_.offer(name);
    listed_.store(true, std::memory_order_relaxed);
  }
  /// It has gone elsewhere: the next name replaces the one it has.
  void mark_moved() noexcept { full_name_.outdate(); }
  /// What the largest model that has listed it calls it, else name(); for messages.
  const std::string& full_name() const noexcept { return full_name_.get() ? *full_name_.get() : name_; }
  bool listed() const noexcept { return listed_.load(std::memory_order_relaxed); }
  /// A Parameter object still stands for it.
  bool owned() const noexcept { return owned_.load(std::memory_order_relaxed); }

 private:
  friend class Parameter;
  void zero_pruned_gradient(const char* op);
  // First what every step looks at, in few cache lines.
  Tensor value_;
  mutable Tensor grad_;  // made dense when someone looks
  Mask mask_;
  std::uint32_t mask_version_ = 0;
  MaskMode mode_ = MaskMode::hard;
  std::atomic<bool> owned_ = true;
  std::atomic<bool> listed_ = false;
  bool frozen_ = false;
  bool resized_ = false;
  Tensor dense_;
  std::string name_;
  FullName full_name_;
  std::vector<std::shared_ptr<detail::HookFunction<void(ParameterState&)>>> hooks_;
};

using ParameterRef = std::shared_ptr<ParameterState>;

class Parameter {
 public:
  /// Undefined: an absent member (a layer without bias) is not listed.
  Parameter() noexcept = default;
  /// Starts at `value` (f32 or f64; the tensor is taken over, not copied). A parameter with a name of its own counts as
  /// listed, so it may stand alone: `Parameter theta(Tensor::scalar(0.5), "theta");`. Errors: DTypeError.
  explicit Parameter(Tensor value, std::string name = "");
  Parameter(const Parameter& other);
  Parameter(Parameter&& other) noexcept : state_(std::move(other.state_)) {
    if (state_) state_->mark_moved();
  }
  Parameter& operator=(const Parameter& other);
  Parameter& operator=(Parameter&& other) noexcept;
  ~Parameter() { release(); }

  bool defined() const noexcept { return state_ != nullptr; }
  const Tensor& value() const { return state().value(); }
  const Tensor& grad() const { return state().grad(); }
  const Mask& mask() const { return state().mask(); }
  const Shape& shape() const { return value().shape(); }
  Index size() const { return value().size(); }
  DType dtype() const { return value().dtype(); }

  void set_value(const Tensor& value) { state().set_value(value); }
  void set_mask(Mask mask, MaskMode mode = MaskMode::hard) { state().set_mask(std::move(mask), mode); }

  /// Constant from now on: no tape computes a gradient for it, optimizers leave it alone. Unlike ParameterState::freeze,
  /// which is about masks. A copy of a frozen parameter is frozen, too.
  void freeze() { state().set_frozen(true); }
  void unfreeze() { state().set_frozen(false); }
  bool frozen() const { return state().frozen(); }
  /// Calls f(parameter) once in every backward() that reaches this parameter, when its gradient has been added to
  /// grad(), and those of all others; nothing is recorded meanwhile. Several run in the order they were added. For
  /// clipping or for a step within the backward:
  ///
  ///   Hook hook = weight.after_accumulate([](ParameterState& p) { p.mutable_grad() = clamp(p.grad(), -1, 1).value(); });
  ///
  /// Belongs to this parameter: copies have none. Errors of f come out of backward, behind the gradients' addition.
  Hook after_accumulate(std::function<void(ParameterState&)> f) const { return state().after_accumulate(std::move(f)); }

  /// What optimizers, pruners and tapes share. Errors: ConfigError if undefined.
  const ParameterRef& ref() const {
    state();
    return state_;
  }

 private:
  ParameterState& state() const {
    if (!state_) [[unlikely]]
      refuse();
    return *state_;
  }
  [[noreturn]] static void refuse();
  void release() noexcept;
  ParameterRef state_;
};

struct NamedParameter {
  std::string name;
  ParameterRef parameter;
};
/// Names and parameters in the order of the modules' member lists.
using ParameterList = std::vector<NamedParameter>;

/// A list of stand-alone parameters under the names they were given: optim::Optimizer(list_of(theta, bias), ...).
template <class... P>
ParameterList list_of(const P&... parameters) {
  return {NamedParameter{parameters.ref()->name(), parameters.ref()}...};
}

}  // namespace espalier
