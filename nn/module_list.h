// ModuleList: layers of one kind, as many as there are, as one member.
#pragma once

#include <concepts>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "espalier/nn/module.h"

namespace espalier::nn {

/// A vector of modules that is a module itself, so that it may be frozen, converted or listed alone. Its modules are
/// called "0", "1", ...; a std::vector<M> member gives the same names. Growing moves the layers, which keep their
/// parameters. Layers of several kinds: Sequential.
///
///   nn::ModuleList<nn::Linear> layers;
///   layers.emplace_back(rng, 64, 64);
///   for (const nn::Linear& layer : layers) x = relu(layer(x));
template <std::derived_from<Module> M>
class ModuleList final : public Module {
 public:
  ModuleList() = default;
  explicit ModuleList(std::vector<M> modules) : modules_(std::move(modules)) {}

  template <class... Args>
  M& emplace_back(Args&&... args) {
    return modules_.emplace_back(std::forward<Args>(args)...);
  }
  void push_back(M module) { modules_.push_back(std::move(module)); }
  std::size_t size() const noexcept { return modules_.size(); }
  bool empty() const noexcept { return modules_.empty(); }
  /// Errors: IndexError.
  M& operator[](std::size_t place) { return modules_[checked(place)]; }
  const M& operator[](std::size_t place) const { return modules_[checked(place)]; }
  auto begin() noexcept { return modules_.begin(); }
  auto end() noexcept { return modules_.end(); }
  auto begin() const noexcept { return modules_.begin(); }
  auto end() const noexcept { return modules_.end(); }

  void members(Visitor& v) override {
    static_assert(std::is_nothrow_move_constructible_v<M>,
                  "a growing vector would copy this type, and copies are new parameters");
    for (std::size_t i = 0; i < modules_.size(); ++i) v(std::to_string(i), modules_[i]);
  }

 private:
  std::size_t checked(std::size_t place) const {
    if (place >= modules_.size()) fail<IndexError>("[module_list] no module ", place, " among ", modules_.size());
    return place;
  }
  std::vector<M> modules_;
};

}  // namespace espalier::nn
