#include "espalier/autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "espalier/core/rng.h"

namespace espalier {
namespace {

/// Elements from the first to the last that the strides reach; 0 if two positions may share an element.
Index extent_without_overlap(const Tensor& t) {
  std::vector<int> axes;
  for (int axis = 0; axis < t.rank(); ++axis)
    if (t.shape()[axis] > 1) axes.push_back(axis);
  std::sort(axes.begin(), axes.end(), [&](int a, int b) { return t.strides()[a] < t.strides()[b]; });
  Index reach = 1;
  for (int axis : axes) {
    if (t.strides()[axis] < reach) return 0;
    reach += (t.shape()[axis] - 1) * t.strides()[axis];
  }
  return reach;
}

/// A copy that may be perturbed element by element, with the strides of `t` unless they overlap; NaN between its
/// elements shows a function that reads them.
Tensor perturbable(const Tensor& t) {
  const Index extent = t.is_contiguous() ? 0 : extent_without_overlap(t);
  if (extent == 0) return t.clone();
  Tensor copy =
      Tensor::full({extent}, std::numeric_limits<double>::quiet_NaN(), t.dtype()).as_strided(t.shape(), t.strides());
  copy.copy_from(t, "gradcheck");
  return copy;
}

/// Offset in memory of the element at this row-major position.
Index offset_of(const Tensor& t, Index element) {
  Index offset = 0;
  for (int axis = t.rank(); axis-- > 0;) {
    offset += element % t.shape()[axis] * t.strides()[axis];
    element /= t.shape()[axis];
  }
  return offset;
}

std::string place(const Shape& shape, Index element) {
  Dims position = shape;
  for (int axis = shape.rank(); axis-- > 0;) {
    position[axis] = element % shape[axis];
    element /= shape[axis];
  }
  return join(position);
}

bool same_values(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) return false;
  const Tensor x = a.contiguous(), y = b.contiguous();
  return std::memcmp(x.bytes(), y.bytes(), static_cast<std::size_t>(x.size() * size_of(x.dtype()))) == 0;
}

/// One check: the inputs that are perturbed, the function, and the weights of its outputs.
class Check {
 public:
  Check(const DifferentiableFunctions& f, const std::vector<Tensor>& inputs, const GradcheckOptions& options)
      : f_(f), options_(options) {
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      const Tensor& input = inputs[k];
      if (input.defined() && input.dtype() == DType::f32)
        fail<DTypeError>("[gradcheck] input ", k, " is f32, whose differences tell nothing. Hint: .to(DType::f64)");
      inputs_.push_back(input.defined() && input.dtype() == DType::f64 ? perturbable(input) : input);
    }
  }

  GradcheckResult run() {
    Tape tape;  // alive for all calls, so that modules train
    std::vector<Variable> variables, watched;
    for (const Tensor& input : inputs_) {
      if (differentiable(input)) {
        watched.push_back(tape.watch(input));
        variables.push_back(watched.back());
      } else {
        variables.emplace_back(input);
      }
    }
    const std::vector<Variable> outputs = f_(variables);
    if (!draw_weights(outputs)) return result_;

    std::vector<Variable> from, weights;
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      if (!weights_[k].defined() || tape.slot_of(outputs[k]) == Tape::constant) continue;
      from.push_back(outputs[k]);
      weights.emplace_back(weights_[k]);
    }
    std::vector<Variable> gradients(watched.size());
    if (!from.empty()) gradients = tape.gradient(from, weights, watched, {.retain = true});

    const NoTape quiet;
    if (!deterministic(outputs)) return result_;
    std::size_t at = 0;
    for (std::size_t k = 0; k < inputs_.size(); ++k)
      if (differentiable(inputs_[k]) && !compare(k, gradients[at++].value())) return result_;
    conclude();
    return result_;
  }

 private:
  static bool differentiable(const Tensor& t) { return t.defined() && t.dtype() == DType::f64; }

  template <class... Parts>
  bool refuse(const Parts&... parts) {
    result_.passed = false;
    result_.error = std::numeric_limits<double>::infinity();
    result_.message = join("gradcheck: ", parts...);
    return false;
  }

  std::vector<Variable> evaluate() const {
    std::vector<Variable> constants(inputs_.begin(), inputs_.end());
    return f_(constants);
  }

  bool draw_weights(const std::vector<Variable>& outputs) {
    Rng rng(options_.seed);
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      const Variable& y = outputs[k];
      Tensor weight;
      if (y.defined() && y.dtype() == DType::f32) return refuse("output ", k, " is f32 although the inputs are f64");
      if (y.defined() && y.dtype() == DType::f64)
        weight = y.size() == 1 ? Tensor::ones(y.shape(), DType::f64) : rng.uniform(y.shape(), -1, 1, DType::f64);
      weights_.push_back(std::move(weight));
    }
    return true;
  }

  bool deterministic(const std::vector<Variable>& recorded) {
    const std::vector<Variable> first = evaluate(), second = evaluate();
    if (first.size() != recorded.size() || second.size() != recorded.size())
      return refuse("the function gives ", recorded.size(), " outputs, then ", first.size(), ", then ", second.size());
    for (std::size_t k = 0; k < first.size(); ++k) {
      if (!first[k].defined() || !second[k].defined()) continue;
      if (!same_values(first[k].value(), second[k].value()))
        return refuse("output ", k, " differs from call to call. Hint: seed what is random within the function");
      if (weights_[k].defined() && !allclose(first[k].value(), recorded[k].value(), 1e-9, 1e-12, true))
        return refuse("output ", k, " has other values while a tape records than under NoTape");
    }
    return true;
  }

  /// <weights, up - down>.
  double difference(const std::vector<Variable>& up, const std::vector<Variable>& down) const {
    double sum = 0;
    for (std::size_t k = 0; k < weights_.size(); ++k) {
      if (!weights_[k].defined()) continue;
      const Tensor a = up[k].value().contiguous(), b = down[k].value().contiguous();
      if (!(a.shape() == weights_[k].shape()) || !(b.shape() == weights_[k].shape()))
        return std::numeric_limits<double>::quiet_NaN();
      const double *p = a.data<double>(), *q = b.data<double>(), *w = weights_[k].data<double>();
      for (Index i = 0; i < a.size(); ++i) sum += w[i] * (p[i] - q[i]);
    }
    return sum;
  }

  double numeric(std::size_t input, Index element) {
    Tensor& x = inputs_[input];
    const Index at = offset_of(x, element);
    const double middle = x.data<double>()[at], above = middle + options_.eps, below = middle - options_.eps;
    x.write<double>("gradcheck")[at] = above;
    const std::vector<Variable> up = evaluate_apart();
    x.write<double>("gradcheck")[at] = below;
    const std::vector<Variable> down = evaluate_apart();
    x.write<double>("gradcheck")[at] = middle;
    return difference(up, down) / (above - below);
  }

  /// Outputs that do not change with the inputs: a function may return a view of one.
  std::vector<Variable> evaluate_apart() const {
    std::vector<Variable> outputs = evaluate();
    for (Variable& y : outputs)
      for (const Tensor& input : inputs_)
        if (y.defined() && y.value().shares_storage(input)) y = y.value().clone();
    return outputs;
  }

  bool compare(std::size_t input, const Tensor& gradient) {
    const Tensor& x = inputs_[input];
    if (gradient.defined() && (!(gradient.shape() == x.shape()) || gradient.dtype() != x.dtype()))
      return refuse("input ", input, " of shape ", x.shape(), " got a gradient of shape ", gradient.shape(),
                    " and type ", gradient.dtype());
    const Tensor dense = gradient.defined() ? gradient.contiguous() : Tensor();
    for (Index i = 0; i < x.size(); ++i) {
      const double expected = numeric(input, i), found = dense.defined() ? dense.data<double>()[i] : 0;
      double error = std::abs(found - expected) / (options_.atol + options_.rtol * std::abs(expected));
      if (!std::isfinite(error)) error = std::numeric_limits<double>::infinity();
      failed_ += error > 1;
      ++result_.compared;
      if (error <= result_.error && result_.compared > 1) continue;
      result_.error = error;
      result_.input = input;
      result_.element = i;
      result_.analytic = found;
      result_.numeric = expected;
      reached_ = dense.defined();
    }
    return true;
  }

  void conclude() {
    result_.passed = failed_ == 0;
    if (result_.compared == 0) {
      result_.message = "gradcheck: no elements to compare";
      return;
    }
    const Shape& shape = inputs_[result_.input].shape();
    result_.message =
        join("gradcheck: input ", result_.input, " of shape ", shape, " at ", place(shape, result_.element),
             ": analytic ", result_.analytic, reached_ ? "" : " (no gradient came)", ", numeric ", result_.numeric,
             ", ", result_.error, " times what is allowed; ", failed_, " of ", result_.compared, " elements differ");
  }

  const DifferentiableFunctions& f_;
  GradcheckOptions options_;
  std::vector<Tensor> inputs_;
  std::vector<Tensor> weights_;  // of the outputs; undefined for those that are not f64
  GradcheckResult result_;
  Index failed_ = 0;
  bool reached_ = true;
};

DifferentiableFunctions listed(const DifferentiableFunction& f) {
  return [&f](std::span<const Variable> inputs) { return std::vector<Variable>{f(inputs)}; };
}

/// The first gradients of <weights, f(inputs)> as a function of inputs and weights, which come behind each other.
std::vector<Variable> first_gradients(const DifferentiableFunctions& f, std::span<const Variable> inputs,
                                      std::span<const Variable> weights) {
  Tape* recording = Tape::recording();
  std::unique_ptr<Tape> own;  // a plain evaluation still needs a tape for the first gradients
  std::vector<Variable> x(inputs.begin(), inputs.end());
  if (!recording) {
    own = std::make_unique<Tape>();
    for (Variable& v : x)
      if (v.defined() && v.dtype() == DType::f64) v = own->watch(v.value());
  }
  Tape& tape = recording ? *recording : *own;
  const std::vector<Variable> outputs = f(x);
  std::vector<Variable> from, from_weights, watched;
  std::size_t at = 0;
  for (const Variable& y : outputs) {
    if (!y.defined() || y.dtype() != DType::f64) continue;
    const Variable& weight = weights[at++];
    if (tape.slot_of(y) == Tape::constant) continue;
    from.push_back(y);
    from_weights.push_back(weight);
  }
  for (const Variable& v : x)
    if (v.defined() && v.dtype() == DType::f64) watched.push_back(v);
  std::vector<Variable> gradients(watched.size());
  if (!from.empty()) gradients = tape.gradient(from, from_weights, watched, {.create_graph = recording != nullptr});
  for (std::size_t k = 0; k < gradients.size(); ++k) {
    Variable& g = gradients[k];
    if (!g.defined()) g = Tensor::zeros(watched[k].shape(), DType::f64);
    if (own) g = g.detach();
  }
  return gradients;
}

}  // namespace

GradcheckResult gradcheck(const DifferentiableFunctions& f, const std::vector<Tensor>& inputs,
                          GradcheckOptions options) {
  return Check(f, inputs, options).run();
}

GradcheckResult gradcheck(const DifferentiableFunction& f, const std::vector<Tensor>& inputs,
                          GradcheckOptions options) {
  return gradcheck(listed(f), inputs, options);
}

GradcheckResult gradgradcheck(const DifferentiableFunctions& f, const std::vector<Tensor>& inputs,
                              GradcheckOptions options) {
  std::vector<Tensor> all = inputs;
  {
    const Tape alive;
    const NoTape quiet;
    Rng rng(options.seed + 1);
    for (const Variable& y : f(std::vector<Variable>(inputs.begin(), inputs.end())))
      if (y.defined() && y.dtype() == DType::f64) all.push_back(rng.uniform(y.shape(), -1, 1, DType::f64));
  }
  const std::size_t n = inputs.size();
  const DifferentiableFunctions gradient = [&f, n](std::span<const Variable> v) {
    return first_gradients(f, v.first(n), v.subspan(n));
  };
  GradcheckResult result = Check(gradient, all, options).run();
  result.message = "second order: " + result.message;
  return result;
}

GradcheckResult gradgradcheck(const DifferentiableFunction& f, const std::vector<Tensor>& inputs,
                              GradcheckOptions options) {
  return gradgradcheck(listed(f), inputs, options);
}

void require(const GradcheckResult& result) {
  if (!result.passed) fail<GradError>(result.message);
}

}  // namespace espalier
