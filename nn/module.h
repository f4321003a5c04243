// Module: a value that holds parameters and lists its members once.
//
//   class Mlp final : public nn::Module {
//    public:
//     explicit Mlp(Rng& rng) : in_(rng, 64, 32), out_(rng, 32, 10) {}
//     Variable operator()(const Variable& x) const { return out_(relu(in_(x))); }
//     void members(nn::Visitor& v) override { v("in", in_)("out", out_); }
//
//    private:
//     nn::Linear in_, out_;
//   };
//
// From the one line of members come names ("in.weight"), saving, selecting, printing and train/eval. A module that owns
// layers is copied and moved like any value: see Parameter for what copying means.
#pragma once

#include <array>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/autograd/buffer.h"
#include "espalier/autograd/parameter.h"
#include "espalier/autograd/tape.h"

namespace espalier::nn {

class Module;

/// Told which module runs on this thread, while one is set: so summary() knows whose op a tape has recorded.
class ModuleTrace {
 public:
  ModuleTrace() : outer_(std::exchange(current_, this)) {}
  virtual ~ModuleTrace() { current_ = outer_; }
  ModuleTrace(const ModuleTrace&) = delete;
  ModuleTrace& operator=(const ModuleTrace&) = delete;
  static ModuleTrace* current() noexcept { return current_; }

  virtual void entered(const Module& module) = 0;
  /// `output` is what the module returns, or its member `output`; undefined if there is neither, or by an error.
  virtual void left(const Module& module, const Variable& output) noexcept = 0;

 private:
  static thread_local constinit ModuleTrace* current_;
  ModuleTrace* outer_;
};

/// What a module lists its members to; chainable. Undefined parameters and buffers, and empty optionals, are passed
/// over.
class Visitor {
 public:
  virtual ~Visitor() = default;
  Visitor& operator()(std::string_view name, Parameter& parameter);
  Visitor& operator()(std::string_view name, Buffer& buffer);
  Visitor& operator()(std::string_view name, Module& module);
  template <class M>
  Visitor& operator()(std::string_view name, std::vector<M>& list) {
    static_assert(std::is_nothrow_move_constructible_v<M>,
                  "a growing vector would copy this type, and copies are new parameters");
    return each(name, list.begin(), list.end());
  }
  template <class M, std::size_t N>
  Visitor& operator()(std::string_view name, std::array<M, N>& list) {
    return each(name, list.begin(), list.end());
  }
  template <class M>
  Visitor& operator()(std::string_view name, std::optional<M>& member) {
    return member ? (*this)(name, *member) : *this;
  }

 protected:
  /// Called with full names, in the order listed; a module before its members.
  virtual void on_parameter(const std::string& /*name*/, Parameter&) {}
  virtual void on_buffer(const std::string& /*name*/, Buffer&) {}
  virtual void on_module(const std::string& /*name*/, Module&) {}

 private:
  template <class It>
  Visitor& each(std::string_view name, It begin, It end) {
    for (It it = begin; it != end; ++it) (*this)(std::string(name) + "." + std::to_string(it - begin), *it);
    return *this;
  }
  std::string path_;
};

/// A second name of a tied parameter.
struct Alias {
  std::string name, of;
};

class Module {
 public:
  virtual ~Module() = default;
  /// Lists every Parameter, Buffer and Module that this one holds. A parameter listed a second time, under another
  /// name, is tied: the second name is an alias, the parameter counts once.
  virtual void members(Visitor& v) = 0;

  /// Every parameter, once, under its first full name. Errors: ConfigError if two members share a name.
  ParameterList parameters() const;
  BufferList buffers() const;
  std::vector<Alias> aliases() const;
  /// Number of learned values.
  Index parameter_count() const;

  /// Makes every parameter constant: no gradient is computed for it, optimizers leave it alone. One layer of a model:
  /// `model.encoder.freeze()`; one parameter: `layer.bias.freeze()`. (Masks: see prune::Pruner::freeze.)
  void freeze() const { set_frozen(true); }
  void unfreeze() const { set_frozen(false); }
  /// Parameters and floating buffers in another type, f32 or f64. Identities and masks stay, gradients are dropped; an
  /// optimizer is to be made anew. Errors: DTypeError; ConfigError for packed weights; then nothing has changed.
  void to(DType type);
  /// "Linear": the class, without namespaces and template arguments. A template may say better what it stands for.
  virtual std::string type_name() const;

  /// Forces training or evaluation for this module and all below it.
  void train() { set_mode(Mode::train); }
  void eval() { set_mode(Mode::eval); }
  /// Back to the default: training while a Tape is alive on this thread, evaluation otherwise.
  void follow_tape() { set_mode(Mode::follow_tape); }
  /// Layers that behave differently in training ask this.
  bool training() const noexcept { return mode_ == Mode::follow_tape ? Tape::alive() : mode_ == Mode::train; }
  /// What the largest model that has listed this module calls it ("encoder.2.attn"); null before.
  const std::string* full_name() const noexcept { return full_name_.get(); }

 protected:  // no slicing through a Module&
  Module() = default;
  Module(const Module&) = default;
  Module(Module&&) noexcept = default;
  /// Values and masks are assigned, not the mode: a `best` taken under EvalMode does not end the training of `model`.
  Module& operator=(const Module&) noexcept { return *this; }
  Module& operator=(Module&&) noexcept = default;

  /// Runs a layer's forward pass: an error raised in it ends with the full name of the layer, which is asked of the
  /// modules around it that run in forward(), too, if none has listed it before. Free of cost otherwise.
  ///
  ///   Variable operator()(const Variable& x) const { return forward([&] { return linear(x, weight, bias); }); }
  template <class F>
  decltype(auto) forward(F&& body) const {
    try {
      if (ModuleTrace* trace = ModuleTrace::current()) [[unlikely]]
        return traced(*trace, body);
      return std::forward<F>(body)();
    } catch (Error& error) {
      locate(error);
      throw;
    }
  }

 private:
  friend class EvalMode;
  class Lister;
  enum class Mode : std::uint8_t { follow_tape, train, eval };

  template <class F>
  std::invoke_result_t<F&> traced(ModuleTrace& trace, F& body) const {
    struct Leave {
      ModuleTrace& trace;
      const Module& module;
      Variable output;
      ~Leave() { trace.left(module, output); }
    } leave{trace, *this, {}};
    trace.entered(*this);
    if constexpr (std::is_void_v<std::invoke_result_t<F&>>) {
      body();
    } else {
      std::invoke_result_t<F&> result = body();
      if constexpr (std::is_convertible_v<decltype(result), Variable>)
        leave.output = result;
      else if constexpr (requires { Variable(result.output); })  // of what recurrent layers return
        leave.output = result.output;
      return result;
    }
  }
  void locate(Error& error) const noexcept;
  /// What this module calls one below it; empty if it does not list it.
  std::string path_to(const Module& inner) const;
  void set_frozen(bool frozen) const;
  void set_mode(Mode mode);
  Mode mode_ = Mode::follow_tape;
  FullName full_name_;
};

/// Forces evaluation for a module and all below it while in scope; then each is back in its own mode. For sample passes.
class [[nodiscard]] EvalMode final {
 public:
  explicit EvalMode(const Module& module);
  ~EvalMode();
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  std::vector<std::pair<Module*, Module::Mode>> before_;
};

}  // namespace espalier::nn
