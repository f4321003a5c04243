// chain(...): transforms in the order in which they run; on(select, t) limits one to some parameters, when(test, t) and
// every(k, t) to some steps, and as(name, t) gives it a name of your own.
//
//   chain(clip_by_global_norm(1.0), adam({.lr = 1e-3}))
//   chain(on("*.weight", clip_per_tensor_norm(0.5)), sgd({.lr = 0.1, .momentum = 0.9}), clamp_parameters(-1, 1))
#pragma once

#include <cstdint>
#include <functional>
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
  std::function<bool(std::int64_t)> when = {};  ///< given the step, from 0; null: in every step
  std::string name = {};                        ///< empty: the transform's own
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
  friend Chain when(std::function<bool(std::int64_t)> test, Chain chain);
  friend Chain as(std::string name, Chain chain);
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
/// The same, in steps for which test(step) is true, counted from 0; in the others it is as if it were not there, and what
/// it remembers rests. Not for optimizers, which must make an update in every step. Errors: ConfigError without a test.
Chain when(std::function<bool(std::int64_t)> test, Chain chain);
/// In every k-th step: k - 1, 2 k - 1, ... Errors: ConfigError for k < 1.
///
///   chain(sgd({.lr = 0.1}), every(10, max_norm(3.0)))
Chain every(std::int64_t k, Chain chain);
/// A name of your own, for reports, describe() and what is saved: as("head", clip_by_global_norm(1.0)). Errors:
/// ConfigError for an empty name, one that holds '/', or a chain that is not one transform.
Chain as(std::string name, Chain chain);

namespace detail {
/// `names` in order, those that repeat numbered from the second on.
std::vector<std::string> numbered(std::vector<std::string> names);
}  // namespace detail

}  // namespace espalier::optim
