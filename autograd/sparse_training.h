// SparseTraining: fine-tuning pruned weights with sparse products.
//
//   SparseTraining sparse(model.parameters(), {.batch = 64});
//   for (...) { Tape tape; ... tape.backward(loss); opt.step(); }   // as ever
//
// While it lives, linear() and its backward use the mask of each chosen weight: y and dX are sums over live weights, and
// dW is computed at live weights alone and is exactly 0 elsewhere. The results are those of the dense products to
// rounding, but that the gradient of pruned weights is 0 before the optimizer looks. What grows weights by their gradient
// needs the dense one now and then: the option dense_gradient says when (see prune/dynamic.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/core/masked_linear.h"

namespace espalier {

struct SparseTrainingOptions {
  Index batch = 64;     ///< samples of a step, for measuring
  bool measure = true;  ///< take a weight where it is at least 1.10 times faster, else every one with a mask
  /// Asked in every backward: whether gradients of weights are to be dense in this one. None: never.
  std::function<bool()> dense_gradient = {};
};

class [[nodiscard]] SparseTraining final {
 public:
  /// Chooses among the matrices with a hard mask. A mask that changes later is followed, and not measured again. Scopes
  /// nest: the inner one counts. Belongs to the thread it was made on. Errors: ConfigError for a batch below 1. Cost:
  /// some milliseconds a weight to measure.
  explicit SparseTraining(const ParameterList& parameters, SparseTrainingOptions options = {});
  ~SparseTraining();
  SparseTraining(const SparseTraining&) = delete;
  SparseTraining& operator=(const SparseTraining&) = delete;

  /// Names of the weights it chose.
  std::vector<std::string> chosen() const;
  /// From now on the gradient of weights is dense whatever the option says, or as that says (the default).
  void dense_gradient(bool wanted) noexcept { dense_gradient_ = wanted; }
  bool dense_gradient() const noexcept { return dense_gradient_; }

  /// For ops: the products of the parameter whose value this is, up to date; null if there is none.
  static MaskedLinear* products_of(const Tensor& value);
  static bool wants_dense_gradient() {
    return current_ && (current_->dense_gradient_ || (current_->asked_ && current_->asked_()));
  }

 private:
  struct Weight;
  static thread_local constinit SparseTraining* current_;
  SparseTraining* outer_;
  bool dense_gradient_ = false;
  std::function<bool()> asked_;
  std::vector<std::unique_ptr<Weight>> weights_;
};

}  // namespace espalier
