// for_each_module: all modules of a model, or all of one kind.
//
//   nn::for_each_module<nn::BatchNorm2d>(model, [](auto& norm) { norm.freeze(), norm.eval(); });
//   nn::for_each_module(model, [](const std::string& name, nn::Module& m) { std::cout << name << m.type_name(); });
#pragma once

#include <concepts>
#include <string>
#include <type_traits>

#include "espalier/nn/module.h"

namespace espalier::nn {

/// f(m) or f(name, m) for the model itself, called "", and every module below it that is an M, in the order listed,
/// each before its members. A const model gives const modules. f may change a module, and what a module holds below
/// itself, but not replace the module.
template <std::derived_from<Module> M = Module, class Model, class F>
requires std::derived_from<std::remove_const_t<Model>, Module>
void for_each_module(Model& model, const F& f) {
  using Seen = std::conditional_t<std::is_const_v<Model>, const M, M>;
  class Walk final : public Visitor {
   public:
    explicit Walk(const F& f) : f_(f) {}
    void on_module(const std::string& name, Module& module) override {
      Seen* const wanted = dynamic_cast<M*>(&module);
      if (!wanted) return;
      if constexpr (std::is_invocable_v<const F&, const std::string&, Seen&>)
        f_(name, *wanted);
      else
        f_(*wanted);
    }

   private:
    const F& f_;
  } walk(f);
  // members() is not const, for Visitors may write; what f gets is const if the model is.
  Module& root = const_cast<std::remove_const_t<Model>&>(model);
  walk.on_module("", root);
  root.members(walk);
}

}  // namespace espalier::nn
