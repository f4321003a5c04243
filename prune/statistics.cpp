#include "espalier/prune/statistics.h"

#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "espalier/autograd/tape.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/prune/detail/layers.h"
#include "espalier/prune/score.h"

namespace espalier::prune {

const Statistics& Gathered::of(const ParameterState& parameter) const {
  static const Statistics none;
  const auto at = all_.find(&parameter);
  return at == all_.end() ? none : at->second.second;
}

namespace {

using Tensors = std::vector<Tensor>;

/// sum += factor * f(x), in f64.
template <class F>
void add_scaled(Tensor& sum, const Tensor& x, double factor, F f) {
  const Tensor more = map_with("gather", x.to(DType::f64), [=](auto v) { return f(v) * factor; });
  if (sum.defined())
    add_in_place(sum, more);
  else
    sum = more;
}
double identity(double v) { return v; }

/// Signs +-1 of a parameter's shape and type.
Tensor signs(Rng& rng, const Tensor& like) {
  const Tensor heads = rng.bernoulli(like.shape(), 0.5).to(like.dtype());
  return map_with("gather", heads, [](auto v) { return 2 * v - 1; });
}

/// The gradients of one batch, and products with its Hessian.
class Batch final {
 public:
  Batch(const ParameterList& parameters, const Loss& loss, Index batch, detail::LayerObserver* observer) {
    tape_.record_frozen();
    if (observer) observer->begin(tape_);
    loss_ = loss(batch);
    if (observer) observer->end();
    for (const NamedParameter& named : parameters) inputs_.push_back(tape_.leaf(named.parameter));
  }
  /// dL / d parameters, then dL / d others; undefined where L does not depend on it.
  std::vector<Variable> gradients(const std::vector<Variable>& others, bool twice) {
    if (!loss_.defined()) fail<ConfigError>("[gather] the loss is undefined");
    std::vector<Variable> inputs = inputs_;
    inputs.insert(inputs.end(), others.begin(), others.end());
    std::vector<Variable> g(inputs.size());
    if (loss_.recorded()) g = tape_.gradient(loss_, inputs, {.create_graph = twice});
    for (std::size_t i = 0; twice && i < inputs_.size(); ++i)
      if (g[i].recorded()) {
        gradients_.push_back(g[i]);
        place_.push_back(i);
      }
    return g;
  }
  /// H v. v: one tensor a parameter, undefined for 0.
  Tensors product(const Tensors& v) {
    std::vector<Variable> outputs, weights;
    for (std::size_t k = 0; k < gradients_.size(); ++k) {
      if (!v[place_[k]].defined()) continue;
      outputs.push_back(gradients_[k]);
      weights.emplace_back(v[place_[k]]);
    }
    Tensors result(inputs_.size());
    if (outputs.empty()) return result;  // the loss is linear in all of them: H is 0
    const std::vector<Variable> h = tape_.gradient(outputs, weights, inputs_, {.retain = true});
    for (std::size_t i = 0; i < h.size(); ++i) result[i] = h[i].value();
    return result;
  }

 private:
  Tape tape_;
  Variable loss_;
  std::vector<Variable> inputs_, gradients_;
  std::vector<std::size_t> place_;  // of gradients_, among the parameters
};

class Gatherer final {
 public:
  Gatherer(const ParameterList& parameters, Index batches, Needs needs, GatherOptions options)
      : list_(parameters),
        share_(1 / static_cast<double>(batches)),
        needs_(needs),
        options_(options),
        rng_(options.seed),
        first_(parameters.size()),
        squares_(first_),
        units_(first_),
        diagonal_(first_),
        product_(first_) {
    needs_.gradient = needs.gradient || needs.total_saliency || needs.hessian_gradient;
  }
  bool differentiates() const {
    return needs_.gradient || needs_.squared_gradient || needs_.unit_saliency || needs_.hessian_diagonal ||
           needs_.output_saliency;
  }

  void add(Batch& batch, detail::LayerObserver* observer) {
    const std::vector<Variable> outputs = observer ? observer->outputs() : std::vector<Variable>();
    const std::vector<Variable> g = batch.gradients(outputs, needs_.hessian_diagonal);
    for (std::size_t i = 0; i < list_.size(); ++i) {
      if (!g[i].defined()) continue;
      const Tensor& gradient = g[i].value();
      if (needs_.gradient) add_scaled(first_[i], gradient, share_, identity);
      if (needs_.squared_gradient) add_scaled(squares_[i], gradient, share_, [](double v) { return v * v; });
      const Tensor& w = weights_of(*list_[i].parameter);
      if (needs_.unit_saliency && w.rank() > 0)
        add_scaled(units_[i], sum_units(saliency(w, gradient)), share_, [](double v) { return v * v; });
    }
    if (observer) observer->add_saliency(std::span(g).subspan(list_.size()));
    if (!needs_.hessian_diagonal) return;
    if (options_.probes == 0)
      add_exact_diagonal(batch);
    else
      probe_diagonal(batch);
  }
  void add_product(Batch& batch) {
    batch.gradients({}, true);
    Tensors direction(list_.size());
    for (std::size_t i = 0; i < list_.size(); ++i)
      if (first_[i].defined()) direction[i] = first_[i].to(list_[i].parameter->value().dtype());
    const Tensors h = batch.product(direction);
    for (std::size_t i = 0; i < list_.size(); ++i) add_product(product_[i], h[i], first_[i]);
  }

  void write(Gathered& gathered) const {
    double total = 0;
    for (std::size_t i = 0; i < list_.size(); ++i)
      if (needs_.total_saliency && first_[i].defined())
        total += sum(map_with("gather", saliency(weights_of(*list_[i].parameter), first_[i]), [](auto v) {
                   return std::abs(v);
                 })).item();
    for (std::size_t i = 0; i < list_.size(); ++i) {
      Statistics& s = gathered[list_[i].parameter];
      if (first_[i].defined()) s.gradient = first_[i].to(list_[i].parameter->value().dtype());
      s.squared_gradient = squares_[i];
      s.unit_saliency = units_[i];
      s.hessian_diagonal = diagonal_[i];
      s.hessian_gradient = product_[i];
      if (needs_.total_saliency) s.total_saliency = total;
    }
  }

 private:
  /// w dL/dw, in f64.
  static Tensor saliency(const Tensor& w, const Tensor& gradient) {
    return zip_with("gather", w.to(DType::f64), gradient.to(DType::f64), [](auto a, auto b) { return a * b; });
  }
  /// A gradient that depends on no weight has H v = 0, whatever v.
  void add_product(Tensor& sum, const Tensor& product, const Tensor& known) const {
    if (product.defined())
      add_scaled(sum, product, share_, identity);
    else if (!sum.defined() && known.defined())
      sum = Tensor::zeros(known.shape(), DType::f64);
  }

  void probe_diagonal(Batch& batch) {
    for (Index probe = 0; probe < options_.probes; ++probe) {
      Tensors z;
      for (const NamedParameter& named : list_) z.push_back(signs(rng_, named.parameter->value()));
      const Tensors h = batch.product(z);
      for (std::size_t i = 0; i < list_.size(); ++i) {
        const Tensor zh = h[i].defined() ? saliency(z[i], h[i]) : Tensor::zeros(z[i].shape(), DType::f64);
        add_scaled(diagonal_[i], zh, share_ / static_cast<double>(options_.probes), identity);
      }
    }
  }
  void add_exact_diagonal(Batch& batch) {
    for (std::size_t i = 0; i < list_.size(); ++i) {
      const Tensor& value = list_[i].parameter->value();
      if (!diagonal_[i].defined()) diagonal_[i] = Tensor::zeros(value.shape(), DType::f64);
      double* sum = diagonal_[i].write<double>("gather");
      for (Index k = 0; k < value.size(); ++k) {
        Tensors unit(list_.size());
        unit[i] = Tensor::zeros(value.shape(), value.dtype());
        unit[i].reshape({-1}).narrow(0, k, 1).fill(1);
        const Tensor column = batch.product(unit)[i];
        if (column.defined()) sum[k] += share_ * column.reshape({-1}).at({k});
      }
    }
  }

  const ParameterList& list_;
  double share_;  // of one batch
  Needs needs_;
  GatherOptions options_;
  Rng rng_;
  Tensors first_, squares_, units_, diagonal_, product_;  // by parameter, f64
};

}  // namespace

Gathered gather(const ParameterList& listed, const Loss& loss, Index batches, Needs needs, GatherOptions options) {
  if (!loss) fail<ConfigError>("[gather] there is no loss. Hint: [&](Index batch) { return cross_entropy(...); }");
  if (batches < 1) fail<ConfigError>("[gather] batches must be at least 1, got ", batches);
  if (options.probes < 0) fail<ConfigError>("[gather] probes must not be negative, got ", options.probes);
  Gathered gathered;
  ParameterList parameters;  // each once
  for (const NamedParameter& named : listed) {
    if (gathered.has(*named.parameter)) continue;
    gathered.insert(named.parameter, {});
    parameters.push_back(named);
  }
  Gatherer gatherer(parameters, batches, needs, options);
  std::optional<detail::LayerObserver> observer;
  if (needs.inputs || needs.gram || needs.outputs || needs.output_saliency || needs.norm)
    observer.emplace(parameters, needs);
  for (Index b = 0; b < batches; ++b) {
    Batch batch(parameters, loss, b, observer ? &*observer : nullptr);
    if (gatherer.differentiates()) gatherer.add(batch, observer ? &*observer : nullptr);
  }
  for (Index b = 0; needs.hessian_gradient && b < batches; ++b) {
    Batch batch(parameters, loss, b, nullptr);
    gatherer.add_product(batch);
  }
  gatherer.write(gathered);
  if (observer) observer->write(gathered, batches);
  return gathered;
}

}  // namespace espalier::prune
