// chain(...): transforms in the order in which they run, and on(select, t), which limits one to some parameters.
//
//   chain(clip_by_global_norm(1.0), adam({.lr = 1e-3}))
//   chain(on("*.weight", clip_per_tensor_norm(0.5)), sgd({.lr = 0.1, .momentum = 0.9}), clamp_parameters(-1, 1))
#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "espalier/optim/select.h"
#include "espalier/optim/transform.h"

namespace espalier::optim {

/// A transform and what it works on.
struct Link {
  std::shared_ptr<const Transform> transform;  // never run: every optimizer clones it
  Select select;
};

/// Transforms in order. A single one converts to a chain.
class Chain {
 public:
  Chain() = default;
  template <class Self>
  requires std::derived_from<Self, Transform> Chain(Self transform)  // NOLINT: a transform is a chain of one
      : links_{Link{std::make_shared<Self>(std::move(transform)), Select()}} {}

  void append(Chain other) {
    for (Link& link : other.links_) links_.push_back(std::move(link));
  }
  const std::vector<Link>& links() const noexcept { return links_; }
  /// Their names; those that repeat are numbered from the second on: "sgd", "sgd.2".
  std::vector<std::string> names() const;

 private:
  friend Chain on(const Select& select, Chain chain);
  std::vector<Link> links_;
};

/// One after the other. Takes transforms and chains.
template <class... C>
requires(std::is_convertible_v<C, Chain>&&...) Chain chain(C... parts) {
  Chain all;
  (all.append(Chain(std::move(parts))), ...);
  return all;
}

/// The same, on selected parameters only: what it measures, changes and remembers.
Chain on(const Select& select, Chain chain);

namespace detail {
/// `names` in order, those that repeat numbered from the second on.
std::vector<std::string> numbered(std::vector<std::string> names);
}  // namespace detail

}  // namespace espalier::optim
