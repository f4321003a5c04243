// Kind "e2e": short training runs, the whole way from data to parameters.
#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/loss.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/mask_gradient.h"
#include "espalier/prune/pruner.h"
#include "tests/golden/chains.h"
#include "tests/golden/e2e.h"
#include "tests/golden/rows.h"

namespace espalier::golden {

optim::Chain clip_of(const Args& args) {
  if (args.has("clip")) return clip_chain(args.object("clip").text("op"), args.object("clip"));
  return optim::clip_by_global_norm({.max_norm = std::numeric_limits<double>::infinity(), .measure_only = true});
}

optim::Chain pipeline(const Args& args) {
  const Args optimizer = args.object("optimizer");
  return chain(clip_of(args), optimizer_chain(optimizer.text("op"), optimizer));
}

void train(const Case& golden, DType type, Checker& checker, const ParameterList& parameters, optim::Chain steps,
           const std::function<Variable(Index)>& loss) {
  optim::Optimizer optimizer(parameters, std::move(steps));
  const Index count = golden.count("steps");
  Tensor losses = Tensor::zeros({count}, type), norms = Tensor::zeros({count}, type);
  for (Index t = 0; t < count; ++t) {
    Tape tape;
    const Variable value = loss(t);
    tape.backward(value);
    losses.select(0, t).copy_from(value.value());
    if (t == 0)
      for (const NamedParameter& p : parameters) checker.compare("grad0." + p.name, p.parameter->grad().clone());
    const optim::StepReport report = optimizer.step();
    norms.select(0, t).fill(report.clips().front().norm_before);
  }
  checker.compare("out.loss", losses);
  checker.compare("out.grad_norm", norms);
  for (const NamedParameter& p : parameters) {
    const Tensor& dense = p.parameter->dense();
    checker.compare("final." + p.name, dense.defined() ? dense : p.parameter->value());
  }
}

namespace {

/// linear, activation, linear, ..., linear with the parameters w1, b1, w2, ... of the case.
class Mlp {
 public:
  Mlp(const Case& golden, DType type, Variable (*activation)(const Variable&)) : activation_(activation) {
    for (int k = 1; golden.has("init.w" + std::to_string(k)); ++k) {
      for (const std::string& name : {"w" + std::to_string(k), "b" + std::to_string(k)})
        parameters.emplace_back(golden.get("init." + name, type).clone(), name);
    }
  }
  Variable operator()(Variable x) const {
    for (std::size_t k = 0; k < parameters.size(); k += 2) {
      if (k > 0) x = activation_(x);
      x = linear(x, parameters[k], parameters[k + 1]);
    }
    return x;
  }
  std::vector<Parameter> parameters;

 private:
  Variable (*activation_)(const Variable&);
};

void mlp_bce(const Case& golden, DType type, Checker& checker) {
  const Mlp model(golden, type, tanh);
  const Variable x = golden.get("data.x", type), y = golden.get("data.y", type);
  train(golden, type, checker, list_of(model.parameters), pipeline(golden.args),
        [&](Index) { return nn::binary_cross_entropy_with_logits(reshape(model(x), y.shape()), y); });
}

void mlp_ce_clip(const Case& golden, DType type, Checker& checker) {
  const Mlp model(golden, type, relu);
  const Tensor x = golden.get("data.x", type), y = golden.get("data.y", type);
  const Index batch = golden.args.integer("batch"), batches = golden.args.integer("batches");
  train(golden, type, checker, list_of(model.parameters), pipeline(golden.args), [&](Index t) {
    const Index first = batch * (t % batches);
    return nn::cross_entropy(model(x.narrow(0, first, batch)), y.narrow(0, first, batch));
  });
}

/// Pruned once, before the forward pass of a step, in soft mode: the stored weights keep their values, and those that
/// are masked get no gradient, as where the forward pass multiplies by the mask.
void mlp_prune(const Case& golden, DType type, Checker& checker) {
  const Mlp model(golden, type, relu);
  const Variable x = golden.get("data.x", type);
  const Tensor y = golden.get("data.y", type);
  prune::Pruner pruner(list_of(model.parameters), {.mode = MaskMode::soft, .min_keep = 0});
  train(golden, type, checker, list_of(model.parameters), chain(optim::mask_gradient(), pipeline(golden.args)),
        [&](Index t) {
          if (t == golden.args.integer("prune_at")) pruner.to_sparsity(golden.args.number("amount"));
          return nn::cross_entropy(model(x), y);
        });
  for (const NamedParameter& pruned : pruner.parameters())
    checker.compare("out.mask" + pruned.name.substr(1),
                    pruned.parameter->mask().to_tensor(pruned.parameter->value().shape()));
}

}  // namespace

std::vector<Row> e2e_rows() {
  std::vector<Row> rows = {{"mlp_bce", mlp_bce}, {"mlp_ce_clip", mlp_ce_clip}, {"mlp_prune", mlp_prune}};
  for (Row& row : e2e_network_rows()) rows.push_back(std::move(row));
  return rows;
}

}  // namespace espalier::golden
