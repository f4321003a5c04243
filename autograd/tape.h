// Tape: what was computed, in order, so that it can be walked backwards.
//
//   Tape tape;                                          // recording starts here, on this thread, and only here
//   Variable loss = nn::cross_entropy(model(x), y);
//   tape.backward(loss);                                // fills the parameters' gradients; the tape is spent
//
// A flat vector of nodes in creation order; backward is a reverse loop, without recursion. A *slot* is an output: a
// node has a range of inputs and a range of outputs. Node storage is reused by the thread's next tape.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/autograd/hook.h"
#include "espalier/autograd/variable.h"

namespace espalier {

/// Which inputs of a node want a gradient; a rule should not compute the others.
class Wants {
 public:
  explicit Wants(std::span<const std::uint8_t> flags) noexcept : flags_(flags) {}
  bool operator[](std::size_t input) const noexcept { return flags_[input] != 0; }
  std::size_t size() const noexcept { return flags_.size(); }

 private:
  std::span<const std::uint8_t> flags_;
};

struct BackwardOptions {
  bool create_graph = false;  ///< record the backward pass too, so that it can be differentiated; implies retain
  bool retain = false;        ///< keep saved tensors, so that backward may run again and the tape goes on recording
};

/// A node, for reading the graph. Inputs are slots, `Tape::constant` for those without a gradient.
struct RecordedOp {
  const char* op;
  std::span<const std::uint32_t> inputs;
  std::uint32_t first_output;
  std::uint32_t outputs;
  std::uint32_t node;  ///< its number on the tape, from 0
  /// The numbers its meaning depends on besides its inputs and the shapes of its outputs, as the header of the op lists
  /// them behind "Settings:"; axes count from 0. Empty where there are none, and for ops of a recorded backward pass.
  std::span<const Index> settings = {};
};

/// Numbers as record() takes them: settings(axis, step).
template <std::integral... Numbers>
std::array<Index, sizeof...(Numbers)> settings(Numbers... numbers) {
  return {static_cast<Index>(numbers)...};
}
/// A setting that is no integer: its bits.
inline Index setting_of(double number) noexcept { return std::bit_cast<Index>(number); }
inline double number_of(Index setting) noexcept { return std::bit_cast<double>(setting); }

/// Called as each node is recorded: activation statistics, multiply-add counts, graph analysis, profiling hang here, so
/// that neither modules nor ops know of them. What is handed over is valid during the call.
class TapeObserver {
 public:
  virtual ~TapeObserver() = default;
  virtual void recorded(const RecordedOp& node, std::span<const Variable* const> inputs,
                        std::span<const Variable> outputs) = 0;
  /// Called behind each backward rule: the gradients that came for the node's outputs, and those that it returned for
  /// its inputs; undefined where there is none. It may not record on this tape.
  virtual void returned(const RecordedOp& /*node*/, std::span<const Variable> /*incoming*/,
                        std::span<const Variable> /*gradients*/) {}
};

class NoTape;

/// Belongs to the thread that made it, and ends there.
class Tape {
 public:
  /// The slot of an input that is no recorded value.
  static constexpr std::uint32_t constant = ~std::uint32_t{0};

  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// The tape that records on this thread, or null.
  static Tape* recording() noexcept { return innermost_.recording; }
  /// True while a tape that is not spent exists on this thread, even under NoTape: this is "training".
  static bool alive() noexcept { return innermost_.alive != nullptr; }

  /// Adds d loss / d p to the gradient of every parameter p that the loss depends on.
  /// Without .retain the tape is spent, also by an error on the way: saved tensors are freed, and it records nothing
  /// more. Errors: ShapeError unless the loss has one element; GradError if it was not recorded here, the tape is
  /// spent, a saved tensor was changed in place, or a parameter that no module lists got a gradient where listed ones
  /// did too.
  void backward(const Variable& loss, BackwardOptions options = {});
  /// d output / d input for each input: undefined where the output does not depend on it. Parameters are left alone.
  std::vector<Variable> gradient(const Variable& output, std::span<const Variable> inputs, BackwardOptions = {});
  std::vector<Variable> gradient(const Variable& output, std::initializer_list<Variable> inputs,
                                 BackwardOptions options = {}) {
    return gradient(output, std::span<const Variable>(inputs.begin(), inputs.size()), options);
  }
  std::vector<Variable> gradient(const Variable& output, const ParameterList& inputs, BackwardOptions = {});
  /// The same for outputs of any shape: sum over k of <weights[k], d outputs[k] / d input>.
  std::vector<Variable> gradient(std::span<const Variable> outputs, std::span<const Variable> weights,
                                 std::span<const Variable> inputs, BackwardOptions = {});
  /// A leaf that is no parameter, for gradient().
  Variable watch(Tensor value);
  /// The leaf of a parameter, made at its first use.
  Variable leaf(const ParameterRef& parameter);

  /// Calls f(g), g = d loss / d v, in every backward and gradient() that reaches v from now on, once g is complete and
  /// before it flows on; what f returns flows on in its place. An f that returns nothing only looks. Several run in the
  /// order they were added. Works for any value of this tape, a Variable made of a parameter included, and under
  /// create_graph, where f is recorded, too. Ends with the tape, with its last backward, or by remove().
  ///
  ///   tape.hook(h, [](const Variable& g) { return clamp(g, -1, 1); });   // clips dL/dh_t inside a recurrence
  ///
  /// Errors: GradError if v is not on this tape; backward: ShapeError, DTypeError for another shape or type than v's.
  /// Cost: none where no hook is set: one check per backward.
  template <std::invocable<const Variable&> F>
  Hook hook(const Variable& v, F f) {
    if constexpr (std::is_void_v<std::invoke_result_t<F&, const Variable&>>)
      return add_hook(v, [f = std::move(f)](const Variable& g) mutable { return f(g), g; });
    else
      return add_hook(v, std::move(f));
  }

  /// Calls `observer` for every node recorded from now on, until the tape ends or unobserve(); it must live as long.
  void observe(TapeObserver& observer);
  void unobserve(TapeObserver& observer) noexcept;
  /// From now on frozen parameters have leaves like all others: for whoever reads a whole model off the tape.
  void record_frozen() noexcept { records_frozen_ = true; }
  bool records_frozen() const noexcept { return records_frozen_; }
  /// Nodes so far.
  std::size_t size() const noexcept;
  /// The node of this number. Its span is valid until the next one is recorded. Errors: IndexError.
  RecordedOp node(std::size_t number) const;
  /// The number of the node that a slot is an output of. Errors: IndexError.
  std::size_t node_of(std::uint32_t slot) const;
  /// The parameter whose leaf stands in this slot, or null.
  ParameterRef parameter_of(std::uint32_t slot) const;
  /// The slot of a value of this tape; Tape::constant if it has none.
  std::uint32_t slot_of(const Variable& v) const noexcept { return v.tape_ == id_ ? v.slot_ : constant; }

  // --- for ops: see record() below -----------------------------------------------------------------------------------
  using Run = void (*)(void* closure, std::span<const Variable> gradients, Wants wants, std::span<Variable> out);
  using Destroy = void (*)(void* closure) noexcept;
  struct Rule {
    void* closure;  // null, as all of it: a leaf
    Run run;
    Destroy destroy;
    bool adds;  // it finds in out[0] what the gradient of its one input has come to, and adds to it
  };
  void* allocate_closure(std::size_t bytes);
  void push(const char* op, std::span<Variable> outputs, std::span<const Variable* const> inputs, const Rule& rule);
  void push(const char* op, std::span<Variable> outputs, std::span<const Variable* const> inputs, const Rule& rule,
            std::span<const Index> settings);

 private:
  friend class Saved;
  friend class NoTape;
  struct Store;
  class Pass;
  struct Innermost {
    Tape* recording;
    Tape* alive;
    NoTape* suspension;
  };

  std::uint32_t checked_slot(const Variable& v, const char* op) const;
  void append(const char* op, std::span<Variable> outputs, std::span<const Variable* const> inputs, const Rule& rule);
  void announce(std::span<const Variable* const> inputs, std::span<const Variable> outputs);
  void run(std::span<const Variable> from, std::span<const Variable> seeds, BackwardOptions options,
           std::span<const std::uint32_t> targets);
  Hook add_hook(const Variable& v, std::function<Variable(const Variable&)> f);
  void spend() noexcept;
  void check_usable(const char* who) const;

  static thread_local constinit Innermost innermost_;
  Store* store_;
  Tape* outer_;          // the next one alive
  bool outer_recorded_;  // false if this one was made under NoTape
  std::uint64_t id_;
  bool spent_ = false;
  bool records_frozen_ = false;
};

/// Suspends recording on this thread while in scope, as torch.no_grad() does: what is computed meanwhile is constant.
/// For metrics between forward and backward, and for writing to parameters by hand. training() of modules is not
/// affected, a tape being alive as before. Guards nest, and a tape made under one records.
///
///   { const NoTape quiet; log(accuracy(model(x), y)); }
class [[nodiscard]] NoTape {
 public:
  NoTape() noexcept
      : resumes_(std::exchange(Tape::innermost_.recording, nullptr)),
        outer_(std::exchange(Tape::innermost_.suspension, this)) {}
  ~NoTape() {
    Tape::innermost_.recording = resumes_;
    Tape::innermost_.suspension = outer_;
  }
  NoTape(const NoTape&) = delete;
  NoTape& operator=(const NoTape&) = delete;

 private:
  friend class Tape;
  Tape* resumes_;  // what recorded before; a tape that is spent meanwhile takes itself out
  NoTape* outer_;
};

/// A tensor kept for the backward rule, with its slot, so that the rule itself can be differentiated, and its version:
/// if it is changed in place before the rule runs, get() is an error that names both ops.
class Saved {
 public:
  explicit Saved(const Variable& v) : variable_(v), version_(v.value().version()) {}
  /// Output number `index` of the op that is about to be recorded.
  static Saved output(const Tensor& y, std::uint32_t index = 0);
  const Variable& get() const {
    if (variable_.value().version() != version_) [[unlikely]]
      refuse();
    return variable_;
  }
  const Tensor& value() const { return get().value(); }
  const Shape& shape() const noexcept { return variable_.shape(); }

 private:
  [[noreturn]] void refuse() const;
  Variable variable_;
  std::uint32_t version_;
};

/// True if an op on these must be recorded: a tape records on this thread and at least one of them is not a constant.
template <class... V>
bool recording(const V&... inputs) {
  return Tape::recording() != nullptr && (inputs.recorded() || ...);
}
inline bool recording(std::span<const Variable> inputs) {
  if (Tape::recording() == nullptr) return false;
  for (const Variable& v : inputs)
    if (v.recorded()) return true;
  return false;
}

/// tape.hook(v, f) for code that has no tape at hand, as a layer: on the tape that records on this thread. Without one,
/// or if v is a constant, no gradient will ever come: nothing is set, and the handle is empty.
template <std::invocable<const Variable&> F>
Hook on_gradient(const Variable& v, F f) {
  return recording(v) ? Tape::recording()->hook(v, std::move(f)) : Hook();
}

namespace detail {
inline void put(std::span<Variable> out, Wants, Variable gradient) { out[0] = std::move(gradient); }
[[noreturn]] void refuse_gradients(std::size_t given, std::size_t inputs);
inline void put(std::span<Variable> out, Wants, Tensor gradient) { out[0] = std::move(gradient); }
template <class Range>
void put(std::span<Variable> out, Wants wants, Range&& gradients) {
  std::size_t k = gradients.size();
  bool fits = k <= out.size();
  for (; k < out.size(); ++k) fits = fits && !wants[k];
  if (!fits) [[unlikely]]
    refuse_gradients(gradients.size(), out.size());
  k = 0;
  for (Variable& gradient : gradients) out[k++] = std::move(gradient);
}

template <class Rule>
void record_outputs(const char* op, std::span<Variable> outputs, std::span<const Variable* const> inputs, Rule&& rule,
                    std::span<const Index> settings = {}) {
  using R = std::decay_t<Rule>;
  static_assert(alignof(R) <= 16);
  if (Tape::recording() == nullptr) return;
  Tape& tape = *Tape::recording();
  void* closure = new (tape.allocate_closure(sizeof(R))) R(std::forward<Rule>(rule));
  constexpr bool adds = std::is_invocable_v<const R&, const Variable&, Wants, Tensor>;
  const Tape::Run run = [](void* c, std::span<const Variable> g, Wants wants, std::span<Variable> out) {
    const R& backward = *static_cast<const R*>(c);
    if constexpr (adds) {
      Tensor so_far = out[0].value();
      out[0] = {};
      out[0] = backward(g[0], wants, std::move(so_far));
    } else if constexpr (std::is_invocable_v<const R&, const Variable&, Wants>)
      put(out, wants, backward(g[0], wants));
    else
      put(out, wants, backward(g, wants));
  };
  const Tape::Destroy destroy = [](void* c) noexcept { static_cast<R*>(c)->~R(); };
  if (settings.empty())  // known when compiled: an op without any pays nothing
    tape.push(op, outputs, inputs, {closure, run, destroy, adds});
  else
    tape.push(op, outputs, inputs, {closure, run, destroy, adds}, settings);
}
}  // namespace detail

/// Records y = op(inputs). `rule(g, wants)` returns the gradients of the inputs, in order: a Variable, an array or a
/// vector of them, undefined where none is wanted, of the shapes and types of the inputs. g = d loss / d y, which may
/// have any strides. Ask recording(inputs...) first, which saves making the rule; without a tape nothing is recorded.
/// An op that reads a part of its one input takes a third argument, `rule(g, wants, Tensor so_far)`: what the gradient
/// of the input has come to, the rule's to write into, or undefined. It adds its part and returns it, so that a loop
/// over the parts of x passes once over d loss / d x and not once for each. `settings`: see RecordedOp.
template <class Rule>
Variable record(const char* op, Tensor y, std::initializer_list<const Variable*> inputs, Rule&& rule,
                std::span<const Index> settings = {}) {
  Variable output(std::move(y));
  detail::record_outputs(op, {&output, 1}, {inputs.begin(), inputs.size()}, std::forward<Rule>(rule), settings);
  return output;
}
/// The same for any number of inputs.
template <class Rule>
Variable record(const char* op, Tensor y, std::span<const Variable> inputs, Rule&& rule,
                std::span<const Index> settings = {}) {
  Variable output(std::move(y));
  std::vector<const Variable*> pointers;
  for (const Variable& v : inputs) pointers.push_back(&v);
  detail::record_outputs(op, {&output, 1}, pointers, std::forward<Rule>(rule), settings);
  return output;
}
/// An op with several outputs: `rule(gs, wants)` gets a span with the gradient of each, undefined where none came.
template <class Rule>
std::vector<Variable> record(const char* op, std::vector<Tensor> ys, std::initializer_list<const Variable*> inputs,
                             Rule&& rule, std::span<const Index> settings = {}) {
  std::vector<Variable> outputs(std::make_move_iterator(ys.begin()), std::make_move_iterator(ys.end()));
  detail::record_outputs(op, outputs, {inputs.begin(), inputs.size()}, std::forward<Rule>(rule), settings);
  return outputs;
}

/// What a rule with several inputs returns.
template <class... V>
std::array<Variable, sizeof...(V)> gradients(V&&... v) {
  return {Variable(std::forward<V>(v))...};
}
/// The gradient of an input that wants none.
inline Variable no_gradient() { return {}; }
/// What a fused rule returns that cannot be differentiated itself: `gradient`, computed from `from`; a second pass
/// through it is a GradError that names `op`.
template <class... V>
Variable once_differentiable(const char* op, Tensor gradient, const V&... from) {
  if (!recording(from...)) return gradient;
  return record(op, std::move(gradient), {&from...}, [op](const Variable&, Wants) -> Variable {
    fail<GradError>("[", op,
                    "] can be differentiated only once: its backward is one fused loop. Hint: {.create_graph = "
                    "true} needs ops whose rules are made of ops");
  });
}

}  // namespace espalier
