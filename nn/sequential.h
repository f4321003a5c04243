// Sequential: layers, functions and lambdas of one Variable, one after the other, as a value.
//
//   nn::Sequential net(nn::Linear(rng, 2, 10), sigmoid, nn::Linear(rng, 10, 1));
//
// A function goes in by its name if the name stands for one function of one Variable: relu, sigmoid, gelu, ... One with
// further arguments goes in as its layer, nn::LeakyRelu(0.1), or in a lambda. Where C's functions are in sight, as
// behind `using namespace espalier`, the bare names of mathematics (tanh, exp, sin, ...) stand for two: write
// espalier::tanh or nn::Tanh(). push_back(tanh) needs neither.
#pragma once

#include <concepts>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/nn/module.h"

namespace espalier::nn {

class Sequential final : public Module {
  template <class F>
  static constexpr bool is_step = std::is_invocable_r_v<Variable, const std::decay_t<F>&, const Variable&>;
  /// One Sequential alone is copied or moved from, not nested.
  template <class... F>
  static constexpr bool is_copy = sizeof...(F) == 1 && (std::is_same_v<std::remove_cvref_t<F>, Sequential> && ...);

 public:
  Sequential() = default;
  /// Modules are listed as "0", "1", ... by their place; functions and lambdas take a place but list nothing.
  template <class... F>
  requires(sizeof...(F) > 0 && !is_copy<F...> && (is_step<F> && ...)) explicit Sequential(F&&... steps) {
    (push_back(std::forward<F>(steps)), ...);
  }
  Sequential(const Sequential& other) : Module(other) {
    for (const auto& step : other.steps_) steps_.push_back(step->clone());
  }
  Sequential(Sequential&&) noexcept = default;
  /// Into the existing parameters, if both hold the same kinds of steps; else like a fresh copy.
  Sequential& operator=(const Sequential& other) {
    if (this == &other) return *this;
    bool matches = steps_.size() == other.steps_.size();
    for (std::size_t i = 0; matches && i < steps_.size(); ++i) matches = steps_[i]->same_kind(*other.steps_[i]);
    if (!matches) {
      steps_ = Sequential(other).steps_;
      return *this;
    }
    for (std::size_t i = 0; i < steps_.size(); ++i)
      if (!steps_[i]->assign(*other.steps_[i])) steps_[i] = other.steps_[i]->clone();
    return *this;
  }
  Sequential& operator=(Sequential&&) noexcept = default;

  template <class F = Variable (*)(const Variable&)>  // which of several functions of one name is meant
  requires is_step<F>
  void push_back(F&& step) { steps_.push_back(std::make_unique<Holds<std::decay_t<F>>>(std::forward<F>(step))); }
  std::size_t size() const noexcept { return steps_.size(); }

  Variable operator()(Variable x) const {
    return forward([&] {
      for (const auto& step : steps_) x = step->call(x);
      return x;
    });
  }
  void members(Visitor& v) override {
    for (std::size_t i = 0; i < steps_.size(); ++i)
      if (Module* module = steps_[i]->module()) v(std::to_string(i), *module);
  }

  /// The step at this place, if it is an M: `net.get<nn::Linear>(0).weight`. Errors: ConfigError, IndexError.
  template <std::derived_from<Module> M>
  M& get(std::size_t place) {
    if (place >= steps_.size()) fail<IndexError>("[sequential] no step ", place, " among ", steps_.size());
    if (auto* step = dynamic_cast<Holds<M>*>(steps_[place].get())) return step->value;
    fail<ConfigError>("[sequential] step ", place, " is of another type than the one asked for");
  }

 private:
  class Step {
   public:
    virtual ~Step() = default;
    virtual Variable call(const Variable& x) const = 0;
    virtual std::unique_ptr<Step> clone() const = 0;
    virtual Module* module() = 0;
    virtual bool same_kind(const Step& other) const = 0;
    /// False if the kind has no assignment, as a lambda that captures has none.
    virtual bool assign(const Step& other) = 0;
  };
  template <class F>
  class Holds final : public Step {
   public:
    explicit Holds(F f) : value(std::move(f)) {}
    Variable call(const Variable& x) const override { return value(x); }
    std::unique_ptr<Step> clone() const override { return std::make_unique<Holds>(value); }
    Module* module() override {
      if constexpr (std::derived_from<F, Module>)
        return &value;
      else
        return nullptr;
    }
    bool same_kind(const Step& other) const override { return dynamic_cast<const Holds*>(&other) != nullptr; }
    bool assign(const Step& other) override {
      if constexpr (std::is_copy_assignable_v<F>) value = static_cast<const Holds&>(other).value;
      return std::is_copy_assignable_v<F>;
    }
    F value;
  };

  std::vector<std::unique_ptr<Step>> steps_;
};

}  // namespace espalier::nn
