// SparseTraining: fine-tuning pruned weights with sparse products.
//
//   SparseTraining sparse(model.parameters(), {.batch = 64});
//   for (...) { Tape tape; ... tape.backward(loss); opt.step(); }   // as ever
//
// While it lives, linear(), conv1d(), conv2d(), the sequences rnn(), lstm() and gru(), and the backward of all of them use
// the mask of each chosen weight: y and dX are sums over live weights, and dW is computed at live weights alone and is
// exactly 0 elsewhere. The results are those of the dense products to rounding, but that the gradient of pruned weights
// is 0 before the optimizer looks. What grows weights by their gradient needs the dense one now and then: the option
// dense_gradient says when (prune/dynamic.h).
//
// What stays dense: convolutions with groups (depthwise ones among them) or with strides above 8, transposed ones, and
// backward passes that are recorded themselves (create_graph).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/autograd/parameter.h"
#include "espalier/core/masked_conv.h"
#include "espalier/core/masked_linear.h"

namespace espalier {

struct SparseTrainingOptions {
  Index batch = 64;  ///< samples of a step, for measuring; for a convolution, images; for recurrent layers, sequences
  bool measure = true;  ///< take a weight where it is at least 1.10 times faster, else every one with a mask
  /// Asked in every backward: whether gradients of weights are to be dense in this one. None: never.
  std::function<bool()> dense_gradient = {};
};

class [[nodiscard]] SparseTraining final {
 public:
  /// Chooses among the weights with a hard mask: matrices now, weights of convolutions where a forward pass first reads
  /// them, for only that tells strides and sizes of images. A mask that changes later is followed, and not measured
  /// again; nor are other sizes. Scopes nest: the inner one counts. Belongs to the thread it was made on. Errors:
  /// ConfigError for a batch below 1. Cost: some milliseconds a matrix to measure, some tenths of a second a
  /// convolution.
  explicit SparseTraining(const ParameterList& parameters, SparseTrainingOptions options = {});
  ~SparseTraining();
  SparseTraining(const SparseTraining&) = delete;
  SparseTraining& operator=(const SparseTraining&) = delete;

  /// Names of the weights it has chosen up to now: those of convolutions from their first forward pass on.
  std::vector<std::string> chosen() const;
  /// From now on the gradient of weights is dense whatever the option says, or as that says (the default).
  void dense_gradient(bool wanted) noexcept { dense_gradient_ = wanted; }
  bool dense_gradient() const noexcept { return dense_gradient_; }

  /// For ops: the products of the parameter whose value this is, up to date; null if there is none.
  static MaskedLinear* products_of(const Tensor& value);
  /// Likewise for a convolution, which is chosen here or not when it is first asked for.
  static MaskedConv* products_of(const Tensor& value, const ConvGeometry& geometry);
  /// Whether the parameter whose value this is has been chosen, and its mask counts.
  static bool covers(const Tensor& value);
  static bool wants_dense_gradient() {
    return current_ &&
           (current_->dense_gradient_ || (current_->options_.dense_gradient && current_->options_.dense_gradient()));
  }

 private:
  struct Weight;
  static Weight* find(const Tensor& value);

  static thread_local constinit SparseTraining* current_;
  SparseTraining* outer_;
  bool dense_gradient_ = false;
  SparseTrainingOptions options_;
  std::vector<std::unique_ptr<Weight>> weights_;
};

}  // namespace espalier
