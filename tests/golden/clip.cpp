// Kind "clip": gradients in, gradients out.
#include <cstring>
#include <limits>

#include "espalier/autograd/ops/reduce.h"
#include "espalier/optim/constraint.h"
#include "espalier/optim/sgd.h"
#include "tests/golden/chains.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.defined() && a.is_contiguous() && a.shape() == b.shape() &&
         std::memcmp(a.bytes(), b.bytes(), static_cast<std::size_t>(a.size() * size_of(a.dtype()))) == 0;
}

void clip(const Case& golden, DType type, Checker& checker, const optim::Chain& stages) {
  const std::vector<Tensor> gradients = numbered(golden, "in.g", type);
  const std::vector<Parameter> parameters =
      make_parameters(golden.has("in.p0") ? numbered(golden, "in.p", type) : gradients);
  for (std::size_t j = 0; j < gradients.size(); ++j) parameters[j].ref()->accumulate(gradients[j].clone());

  const bool strict = golden.args.flag("error_if_nonfinite");
  optim::StepReport report;
  try {
    report =
        optim::apply_to_gradients(list_of(parameters), stages,
                                  {.nonfinite = strict ? optim::Nonfinite::throw_error : optim::Nonfinite::propagate});
  } catch (...) {
    for (std::size_t j = 0; j < gradients.size(); ++j)
      if (!same_bytes(parameters[j].grad(), gradients[j]))
        checker.report("in.g" + std::to_string(j), "changed, although the call reported an error");
    throw;
  }
  for (std::size_t j = 0; j < parameters.size(); ++j)
    checker.compare("out.g" + std::to_string(j), parameters[j].grad());
  if (!golden.has("out.total_norm")) return;
  for (const optim::ClipRecord& record : report.clips())
    if (record.name.starts_with("clip_by_global_norm")) checker.compare("out.total_norm", record.norm_before);
}

/// A row for one clip: its arguments are the case's.
Row stage(const std::string& op) {
  return {op, [op](const Case& golden, DType type, Checker& checker) {
            clip(golden, type, checker, clip_chain(op, golden.args));
          }};
}

void compose(const Case& golden, DType type, Checker& checker) {
  optim::Chain stages;
  for (const Args& args : golden.args.objects("stages")) stages.append(clip_chain(args.text("op"), args));
  clip(golden, type, checker, stages);
}

/// The tensors called g0, g1, ... are parameters here, constrained after a step that does not move them.
void constrain(const Case& golden, DType type, Checker& checker, const optim::Chain& constraint) {
  const std::vector<Parameter> parameters = make_parameters(numbered(golden, "in.g", type));
  for (const Parameter& p : parameters) p.ref()->accumulate(Tensor::zeros(p.shape(), type));
  optim::Optimizer optimizer(list_of(parameters), chain(optim::sgd(), constraint));
  optimizer.step();
  for (std::size_t j = 0; j < parameters.size(); ++j)
    checker.compare("out.g" + std::to_string(j), parameters[j].value());
}

void clamp_param(const Case& golden, DType type, Checker& checker) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constrain(golden, type, checker,
            optim::clamp_parameters(golden.args.number("min", -infinity), golden.args.number("max", infinity)));
}

/// Keras's rule; its axes are all but the first.
void max_norm(const Case& golden, DType type, Checker& checker) {
  constrain(golden, type, checker, optim::max_norm({.max_norm = golden.args.number("max_value", 0), .eps = 1e-7}));
}

/// A clip with a history: steps of one run, from 0 at a rate of 1, climbing, so that the weight is the clipped gradient.
void autoclip(const Case& golden, DType type, Checker& checker) {
  const std::vector<Tensor> gradients = numbered(golden, "in.g", type);
  std::vector<Tensor> values, clipped;
  for (const Tensor& g : gradients) {
    values.push_back(Tensor::zeros(g.select(0, 0).shape(), type));
    clipped.push_back(Tensor::zeros(g.shape(), type));
  }
  const std::vector<Parameter> parameters = make_parameters(values);
  optim::Optimizer optimizer(list_of(parameters),
                             chain(clip_chain("autoclip", golden.args), optim::sgd({.lr = 1, .maximize = true})));
  std::vector<double> norms, bounds;
  for (Index t = 0; t < golden.args.integer("steps"); ++t) {
    for (std::size_t j = 0; j < parameters.size(); ++j) {
      parameters[j].ref()->set_value(values[j]);
      parameters[j].ref()->accumulate(gradients[j].select(0, t).clone());
    }
    const optim::StepReport report = optimizer.step();
    for (std::size_t j = 0; j < parameters.size(); ++j) clipped[j].select(0, t).copy_from(parameters[j].value());
    norms.push_back(report["autoclip"].norm_before);
    bounds.push_back(report["autoclip"].bound);
  }
  for (std::size_t j = 0; j < parameters.size(); ++j) checker.compare("out.g" + std::to_string(j), clipped[j]);
  checker.compare("out.norms", Tensor::from(norms, {static_cast<Index>(norms.size())}));
  checker.compare("out.threshold", Tensor::from(bounds, {static_cast<Index>(bounds.size())}));
}

void renormed(const Case& golden, DType type, Checker& checker) {
  const Args& a = golden.args;
  checker.compare("out.g0", renorm(golden.get("in.g0", type), a.number("p"), static_cast<int>(a.integer("dim")),
                                   a.number("maxnorm"))
                                .value());
}

}  // namespace

std::vector<Row> clip_rows() {
  return {
      stage("clip_grad_norm"),  stage("clip_by_global_norm"), stage("clip_by_norm"),
      stage("clip_grad_value"), stage("clamp_grad"),          stage("agc"),
      stage("clip_by_rms"),     {"autoclip", autoclip},       {"compose", compose},
      {"renorm", renormed},     {"clamp_param", clamp_param}, {"max_norm", max_norm},
  };
}

}  // namespace espalier::golden
