#include "espalier/autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "espalier/core/elementwise.h"
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

/// A copy with a NaN behind each element.
Tensor apart(const Tensor& t) {
  Dims strides;
  Index stride = 2;
  for (int axis = 0; axis < t.rank(); ++axis) strides.push_back(0);
  for (int axis = t.rank(); axis-- > 0; stride *= std::max<Index>(1, t.shape()[axis])) strides[axis] = stride;
  Tensor copy =
      Tensor::full({stride}, std::numeric_limits<double>::quiet_NaN(), t.dtype()).as_strided(t.shape(), strides);
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
  /// `any_alone`: f can be differentiated by each input alone.
  Check(const DifferentiableFunctions& f, const std::vector<Tensor>& inputs, const GradcheckOptions& options,
        bool any_alone)
      : f_(f), options_(options), any_alone_(any_alone) {
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      const Tensor& input = inputs[k];
      if (input.defined() && input.dtype() == DType::f32)
        fail<DTypeError>("[gradcheck] input ", k, " is f32, whose differences tell nothing. Hint: .to(DType::f64)");
      inputs_.push_back(differentiable(input) ? perturbable(input) : input);
    }
    if (std::none_of(inputs_.begin(), inputs_.end(), differentiable))
      fail<ConfigError>("[gradcheck] none of ", inputs_.size(), " inputs is f64: there is nothing to compare");
  }

  GradcheckResult run() {
    const Tape alive;  // for all calls, so that modules train
    Tape tape;
    const std::vector<Variable> variables = watched_by(tape, all);
    const std::vector<Variable> outputs = f_(variables);
    if (!draw_weights(outputs)) return result_;
    std::vector<Tensor> gradients;
    try {
      gradients = differentiate(tape, outputs, variables, weights_);
      if (!holds_for_every_pass(tape, outputs, variables, gradients)) return result_;
    } catch (const ShapeError& error) {  // of a rule
      refuse(error.what());
      return result_;
    } catch (const DTypeError& error) {
      refuse(error.what());
      return result_;
    }

    const NoTape quiet;
    if (!deterministic(outputs)) return result_;
    for (std::size_t k = 0; k < inputs_.size(); ++k)
      if (differentiable(inputs_[k])) compare(k, gradients[k]);
    conclude();
    return result_;
  }

 private:
  static constexpr std::size_t all = static_cast<std::size_t>(-1);
  static bool differentiable(const Tensor& t) { return t.defined() && t.dtype() == DType::f64; }

  /// The inputs, of which the tape watches all, or one.
  std::vector<Variable> watched_by(Tape& tape, std::size_t which) const {
    std::vector<Variable> variables;
    for (std::size_t k = 0; k < inputs_.size(); ++k) {
      const bool watch = differentiable(inputs_[k]) && (which == all || which == k);
      variables.push_back(watch ? tape.watch(inputs_[k]) : Variable(inputs_[k]));
    }
    return variables;
  }

  /// d sum of <seeds, outputs> / d variable, for each; outputs without a seed are left out.
  static std::vector<Tensor> differentiate(Tape& tape, const std::vector<Variable>& outputs,
                                           const std::vector<Variable>& variables, const std::vector<Tensor>& seeds) {
    std::vector<Variable> from, weights, targets;
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      if (!seeds[k].defined() || tape.slot_of(outputs[k]) == Tape::constant) continue;
      from.push_back(outputs[k]);
      weights.emplace_back(seeds[k]);
    }
    for (const Variable& v : variables)
      if (v.recorded()) targets.push_back(v);
    std::vector<Tensor> gradients(variables.size());
    if (from.empty()) return gradients;
    const std::vector<Variable> found = tape.gradient(from, weights, targets, {.retain = true});
    for (std::size_t k = 0, at = 0; k < variables.size(); ++k)
      if (variables[k].recorded()) gradients[k] = found[at++].value();
    return gradients;
  }

  /// The gradients up to rounding; an undefined one is zero.
  static bool agree(const Tensor& a, const Tensor& b) {
    if (!a.defined() && !b.defined()) return true;
    const Tensor x = a.defined() ? a : Tensor::zeros(b.shape(), b.dtype());
    const Tensor y = b.defined() ? b : Tensor::zeros(a.shape(), a.dtype());
    if (!(x.shape() == y.shape()) || x.dtype() != y.dtype()) return false;
    double largest = 0;
    for (const double v : x.contiguous().to_vector<double>())
      if (std::isfinite(v)) largest = std::max(largest, std::abs(v));
    return allclose(x, y, 0, 1e-9 * largest + std::numeric_limits<double>::min(), true);
  }

  /// What differences cannot show: that the rules give the same whoever asks, and in whatever form gradients come.
  bool holds_for_every_pass(Tape& tape, const std::vector<Variable>& outputs, const std::vector<Variable>& variables,
                            const std::vector<Tensor>& gradients) {
    const std::vector<Tensor> again = differentiate(tape, outputs, variables, weights_);
    std::vector<Tensor> spread = weights_, ones = weights_, one = weights_;
    std::size_t weighted = 0;
    for (std::size_t k = 0; k < weights_.size(); ++k) {
      if (!weights_[k].defined()) continue;
      ++weighted;
      spread[k] = apart(weights_[k]);
      ones[k] = Tensor::ones(weights_[k].shape(), DType::f64);
      one[k] = Tensor::ones({}, DType::f64).broadcast_to(weights_[k].shape());
    }
    const std::vector<Tensor> by_spread = differentiate(tape, outputs, variables, spread),
                              by_ones = differentiate(tape, outputs, variables, ones),
                              by_one = differentiate(tape, outputs, variables, one);
    for (std::size_t k = 0; k < variables.size(); ++k) {
      const bool same =
          again[k].defined() == gradients[k].defined() && (!again[k].defined() || same_values(again[k], gradients[k]));
      if (!same) return refuse("input ", k, " got other gradients when backward ran again");
      if (!agree(by_spread[k], gradients[k]) || !agree(by_one[k], by_ones[k]))
        return refuse("input ", k,
                      " got another gradient when the gradient that came was not contiguous. Hint: a rule that reads "
                      "memory by itself takes g.value().contiguous()");
    }
    if (weighted > 1 && !adds_up(tape, outputs, variables, gradients)) return false;
    return !any_alone_ || agrees_alone(gradients);
  }
  /// The gradients of single outputs sum up to those of all.
  bool adds_up(Tape& tape, const std::vector<Variable>& outputs, const std::vector<Variable>& variables,
               const std::vector<Tensor>& gradients) {
    std::vector<Tensor> sums(variables.size());
    for (std::size_t o = 0; o < weights_.size(); ++o) {
      if (!weights_[o].defined()) continue;
      std::vector<Tensor> seeds(weights_.size());
      seeds[o] = weights_[o];
      const std::vector<Tensor> part = differentiate(tape, outputs, variables, seeds);
      for (std::size_t k = 0; k < part.size(); ++k) {
        if (!part[k].defined()) continue;
        Tensor sum = sums[k].defined() ? sums[k] : Tensor::zeros(part[k].shape(), DType::f64);
        add_in_place(sum, part[k]);
        sums[k] = sum;
      }
    }
    for (std::size_t k = 0; k < sums.size(); ++k)
      if (!agree(sums[k], gradients[k]))
        return refuse("the gradients that input ", k,
                      " gets from single outputs do not add up to that from all. Hint: the gradient of an output that "
                      "nobody uses comes undefined, and counts as zero");
    return true;
  }
  /// An input gets the same gradient if no other wants one.
  bool agrees_alone(const std::vector<Tensor>& gradients) {
    std::size_t count = 0;
    for (const Tensor& input : inputs_) count += differentiable(input);
    for (std::size_t k = 0; k < inputs_.size() && count > 1; ++k) {
      if (!differentiable(inputs_[k])) continue;
      Tape tape;
      const std::vector<Variable> variables = watched_by(tape, k);
      const std::vector<Tensor> alone = differentiate(tape, f_(variables), variables, weights_);
      if (!agree(alone[k], gradients[k]))
        return refuse("input ", k,
                      " gets another gradient where it alone wants one. Hint: `wants` says what to compute");
    }
    return true;
  }

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
        weight = y.size() == 1 && outputs.size() == 1 ? Tensor::ones(y.shape(), DType::f64)
                                                      : rng.uniform(y.shape(), -1, 1, DType::f64);
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

  void compare(std::size_t input, const Tensor& gradient) {
    const Tensor& x = inputs_[input];
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
  const GradcheckOptions options_;
  bool any_alone_;
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
  return Check(f, inputs, options, true).run();
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
  GradcheckResult result = Check(gradient, all, options, false).run();
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
