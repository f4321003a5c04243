#include "tests/golden/ops.h"

#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"

namespace espalier::golden {
namespace {

bool is_expand(const ViewStep& step) { return step.name == "expand"; }

/// A step that only selects and reorders elements.
Tensor viewed(const Tensor& x, const ViewStep& step) {
  const std::vector<Index>& n = step.numbers;
  if (step.name == "permute") return x.permute(Dims(std::span<const Index>(n)));
  if (step.name == "slice" && n.size() == 4) return x.slice(static_cast<int>(n[0]), n[1], n[2], n[3]);
  throw Unsupported{"view step " + step.name};
}

/// A step behind an expand, where several elements of the view are one element of the base.
Variable viewed(const Variable& x, const ViewStep& step) {
  const Dims numbers{std::span<const Index>(step.numbers)};
  if (is_expand(step)) return broadcast_to(x, numbers);
  if (step.name == "permute") return permute(x, numbers);
  throw Unsupported{"view step " + step.name + " behind an expand"};
}

/// One input: the leaf is a strided view of the stored base, so that the op sees it as a user's view.
class Input {
 public:
  Input(const Case& golden, const std::string& name, DType type) : base_(golden.get("in." + name, type)) {
    const std::string views = golden.metadata("views", "{}");
    for (const ViewStep& step : view_steps(views, name))
      (later_.empty() && !is_expand(step) ? steps_ : later_).push_back(step);
  }

  /// What the op gets. `leaf` is what a gradient is asked for.
  Variable make(Tape* tape, bool wanted) {
    Tensor view = base_;
    for (const ViewStep& step : steps_) view = viewed(view, step);
    leaf = wanted ? tape->watch(view) : Variable(view);
    Variable argument = leaf;
    for (const ViewStep& step : later_) argument = viewed(argument, step);
    return argument;
  }

  /// The leaf's gradient put back where the leaf's elements lie in the base; 0 where none came.
  Tensor gradient_of_base(const Variable& gradient) const {
    if (gradient.defined() && steps_.empty()) return gradient.value();
    Tensor all = Tensor::zeros(base_.shape(), base_.dtype());
    if (!gradient.defined()) return all;
    Tensor part = all;
    for (const ViewStep& step : steps_) part = viewed(part, step);
    part.copy_from(gradient.value());
    return all;
  }

  Variable leaf;

 private:
  Tensor base_;
  std::vector<ViewStep> steps_, later_;
};

void run_op(const Op& op, const Case& golden, DType type, Checker& checker) {
  const std::vector<std::string> names = parse_strings(golden.metadata("inputs"));
  const std::vector<std::string> wanted = parse_strings(golden.metadata("wrt", "[]"));
  const auto is_wanted = [&](const std::string& name) { return golden.has("grad." + name); };

  Tape tape;
  std::vector<Input> inputs;
  std::vector<std::pair<std::string, Variable>> arguments;
  for (const std::string& name : names) {
    inputs.emplace_back(golden, name, type);
    arguments.emplace_back(name, inputs.back().make(&tape, is_wanted(name)));
  }
  const Index due = golden.count("nout");
  const std::vector<Variable> outputs = op(Call(std::move(arguments), golden.args));
  if (static_cast<Index>(outputs.size()) != due)
    checker.report("out", std::to_string(outputs.size()) + " outputs, expected " + std::to_string(due));

  // An output that no gradient arrives at, or that is a constant, has no part in the backward pass.
  std::vector<Variable> from, weights;
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    const std::string place = std::to_string(k);
    if (!golden.has("out." + place)) continue;
    checker.compare("out." + place, outputs[k].value());
    if (!golden.has("gout." + place) || !outputs[k].recorded()) continue;
    from.push_back(outputs[k]);
    weights.emplace_back(golden.get("gout." + place, type));
  }

  std::vector<Variable> leaves;
  for (std::size_t k = 0; k < names.size(); ++k)
    if (is_wanted(names[k])) leaves.push_back(inputs[k].leaf);
  std::vector<Variable> gradients(leaves.size());
  if (!from.empty() && !leaves.empty()) gradients = tape.gradient(from, weights, leaves);
  for (std::size_t k = 0, g = 0; k < names.size(); ++k)
    if (is_wanted(names[k])) checker.compare("grad." + names[k], inputs[k].gradient_of_base(gradients[g++]));
}

}  // namespace

const Variable& Call::operator[](std::size_t k) const {
  if (k >= inputs_.size()) fail<FormatError>("[golden] the case has ", inputs_.size(), " inputs, the op reads more");
  return inputs_[k].second;
}

Variable Call::named(const std::string& name) const {
  for (const auto& [key, value] : inputs_)
    if (key == name) return value;
  return {};
}

void Call::at_most(std::size_t count) const {
  if (inputs_.size() > count) throw Unsupported{"input " + inputs_[count].first};
}

Run differentiable(Op op) {
  return [op = std::move(op)](const Case& golden, DType type, Checker& checker) { run_op(op, golden, type, checker); };
}

Run of_call(std::function<Variable(const Call&)> f) {
  return differentiable([f = std::move(f)](const Call& call) { return std::vector<Variable>{f(call)}; });
}

Run unary(UnaryFunction f) {
  return of_call([f](const Call& call) { return f(call[0]); });
}

Run binary(BinaryFunction f) {
  return of_call([f](const Call& call) { return f(call[0], call[1]); });
}

Run with_args(std::function<Variable(const Variable&, const Args&)> f) {
  return of_call([f = std::move(f)](const Call& call) { return f(call[0], call.args); });
}

Run reduction(Variable (*f)(const Variable&, const Dims&, bool)) {
  return with_args([f](const Variable& x, const Args& args) {
    return f(x, args.has("dim") ? args.dims("dim") : Dims{}, args.flag("keepdim"));
  });
}

Run along_axis(Variable (*f)(const Variable&, int)) {
  return with_args([f](const Variable& x, const Args& args) { return f(x, static_cast<int>(args.integer("dim"))); });
}

}  // namespace espalier::golden
