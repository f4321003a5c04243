// Weights and masks as they are now, to be put back to the same bytes.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/optim/reshape.h"

namespace espalier::prune::detail {

enum class Gradients : std::uint8_t { with, without };

class SavedWeights final {
 public:
  SavedWeights() = default;
  /// A copy of all. Packed weights, whose masks cannot change, are left out.
  SavedWeights(const ParameterList& parameters, Gradients gradients);

  bool empty() const noexcept { return all_.empty(); }
  /// Of gradients those that were saved, if so wanted. Errors: ConfigError if a shape or type has changed since; then
  /// nothing was changed.
  void restore(const char* op, Gradients gradients) const;

  /// What is left of it when these parameters are cut.
  SavedWeights cut(std::span<const optim::ParameterCut> cuts) const;

  /// "<parameter>/value", or "<parameter>/dense" of a soft mask, and "<parameter>/mask".
  void add_to(std::map<std::string, Tensor>& state, const std::string& prefix) const;
  /// From what add_to() gave, without gradients. Parameters of which there is nothing are left out. `find(key, type, shape)`
  /// returns null where there is no such key.
  template <class Find>
  static SavedWeights from(const ParameterList& parameters, const std::string& prefix, Find find) {
    SavedWeights saved;
    for (const NamedParameter& named : parameters) {
      const Tensor& value = named.parameter->value();
      if (value.packed()) continue;
      const std::string key = prefix + named.name;
      const Tensor* mask = find(key + "/mask", DType::boolean, value.shape());
      const Tensor* dense = find(key + "/dense", value.dtype(), value.shape());
      const Tensor* plain = find(key + "/value", value.dtype(), value.shape());
      if (!dense && !plain) continue;
      saved.all_.push_back({named, (dense ? dense : plain)->clone(), Tensor(), mask ? Mask(*mask) : Mask(),
                            dense ? MaskMode::soft : MaskMode::hard, false});
    }
    return saved;
  }

 private:
  struct One {
    NamedParameter named;
    Tensor value, gradient;  // in soft mode the dense values
    Mask mask;
    MaskMode mode;
    bool has_gradient;  // or is known to have had none
  };
  std::vector<One> all_;
};

/// While in scope, parameters may be pruned; then they are put back, also by an error.
class Borrowed final {
 public:
  explicit Borrowed(const ParameterList& parameters) : saved_(parameters, Gradients::with) {}
  ~Borrowed() { put_back(); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  void put_back() const noexcept;

 private:
  SavedWeights saved_;
};

}  // namespace espalier::prune::detail
