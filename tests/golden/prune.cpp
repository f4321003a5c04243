// Kind "prune": weights in, masks out.
#include <cmath>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/loss.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/scores_activation.h"
#include "espalier/prune/scores_gradient.h"
#include "espalier/prune/scores_weight.h"
#include "espalier/prune/synflow.h"
#include "espalier/prune/threshold.h"
#include "tests/golden/chains.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

/// By magnitude, every parameter whatever its rank, down to nothing if need be.
prune::Pruner make_pruner(const std::vector<Parameter>& parameters,
                          const prune::Granularity& granularity = prune::elements(),
                          const prune::Score& score = prune::magnitude()) {
  return prune::Pruner(list_of(parameters),
                       {.score = score, .granularity = granularity, .select = optim::Select(), .min_keep = 0});
}

/// PyTorch's ln_structured, with a norm of n: units by the mean of |w|^n, or the largest.
prune::Pruner make_structured(const std::vector<Parameter>& parameters, const Args& args) {
  const double n = args.number("n");
  const int axis = static_cast<int>(args.integer("dim"));
  if (std::isinf(n)) return make_pruner(parameters, prune::units({.axis = axis, .pool = prune::Pool::max()}));
  return make_pruner(parameters, prune::units({.axis = axis}), prune::magnitude({.p = n}));
}

/// PyTorch's amount: a number of the weights that are live, or a share of them.
void prune_amount(prune::Pruner& pruner, const Args& args) {
  if (args.flag("amount_is_int"))
    pruner.prune_count(args.integer("amount"));
  else
    pruner.prune_fraction(args.number("amount"));
}

Tensor score_of(const prune::Score& score, const Parameter& p, const prune::Gathered& gathered) {
  return score({p.ref()->name(), p.ref()}, gathered.of(*p.ref()));
}

/// true = kept; all true where nothing was pruned.
Tensor kept(const Parameter& parameter) {
  const Mask& mask = parameter.mask();
  return (mask.defined() ? mask : Mask(parameter.size())).to_tensor(parameter.shape());
}

/// Any choice among equals is right: so many go, all below the threshold among them, and none above it.
void check_ties(const Case& golden, const Parameter& weight, const Tensor& before, Checker& checker) {
  const Tensor mask = kept(weight);
  const std::vector<bool> live = [&] {
    const auto bytes = mask.to(DType::u8).to_vector<std::uint8_t>();
    return std::vector<bool>(bytes.begin(), bytes.end());
  }();
  const auto magnitudes = abs(before.to(DType::f64)).value().to_vector<double>();
  const double threshold = golden.stored("out.threshold").item();
  for (std::size_t i = 0; i < live.size(); ++i) {
    if (live[i] ? magnitudes[i] < threshold : magnitudes[i] > threshold)
      checker.report("out.threshold", "the weight at " + std::to_string(i) + " is on its wrong side");
  }
  checker.skip("out.threshold");
  const Index pruned = weight.size() - (weight.mask().defined() ? weight.mask().live() : weight.size());
  checker.compare("out.n_pruned", Tensor::from<std::int64_t>({pruned}, {}));
}

void l1_unstructured(const Case& golden, DType type, Checker& checker) {
  const Tensor before = golden.get("in.weight", type);
  const std::vector<Parameter> weight = make_parameters({before});
  prune::Pruner pruner = make_pruner(weight);
  prune_amount(pruner, golden.args);
  if (golden.metadata("check", "exact") != "exact") return check_ties(golden, weight[0], before, checker);
  checker.compare("out.mask", kept(weight[0]));
  checker.compare("out.weight", weight[0].value());
}

void global_unstructured(const Case& golden, DType type, Checker& checker) {
  const std::vector<Parameter> weights = make_parameters(numbered(golden, "in.w", type));
  prune::Pruner pruner = make_pruner(weights);
  prune_amount(pruner, golden.args);
  for (std::size_t j = 0; j < weights.size(); ++j) checker.compare("out.mask" + std::to_string(j), kept(weights[j]));
}

void iterative(const Case& golden, DType type, Checker& checker) {
  const std::vector<Parameter> weight = make_parameters({golden.get("in.weight", type)});
  prune::Pruner pruner = make_pruner(weight);
  const std::vector<Args> steps = golden.args.objects("steps");
  for (std::size_t j = 0; j < steps.size(); ++j) {
    if (steps[j].text("op") == "ln_structured") {
      prune::Pruner structured = make_structured(weight, steps[j]);
      prune_amount(structured, steps[j]);
    } else {
      prune_amount(pruner, steps[j]);
    }
    checker.compare("out.mask" + std::to_string(j), kept(weight[0]));
  }
}

/// Pruned by the pooled magnitudes, and by the score of units that has its name: the same.
void ln_structured(const Case& golden, DType type, Checker& checker) {
  const int axis = static_cast<int>(golden.args.integer("dim"));
  const prune::Score norms = prune::ln_structured({.p = golden.args.number("n"), .axis = axis});
  std::vector<prune::Pruner> pruners;
  std::vector<std::vector<Parameter>> weights;
  for (const bool pooled : {true, false}) {
    weights.push_back(make_parameters({golden.get("in.weight", type)}));
    pruners.push_back(pooled ? make_structured(weights.back(), golden.args)
                             : make_pruner(weights.back(), prune::units({.axis = axis}), norms));
  }
  checker.compare("out.norms", score_of(norms, weights[0][0], {}));
  for (std::size_t k = 0; k < pruners.size(); ++k) {
    prune_amount(pruners[k], golden.args);
    checker.compare("out.mask", kept(weights[k][0]));
    checker.compare("out.weight", weights[k][0].value());
  }
}

void n_m(const Case& golden, DType type, Checker& checker) {
  const std::vector<Parameter> weight = make_parameters({golden.get("in.weight", type)});
  const Index keep = golden.args.integer("n"), of = golden.args.integer("m");
  prune::Pruner pruner = make_pruner(weight, prune::n_m({.keep = keep, .of = of, .axis = -1}));
  pruner.to_sparsity(1 - static_cast<double>(keep) / static_cast<double>(of));
  checker.compare("out.mask", kept(weight[0]));
}

/// In hard mode the mask reaches the forward pass through the value, and the gradient where a step first reads it.
void forward_backward(const Case& golden, DType type, Checker& checker) {
  const std::vector<Parameter> weight = make_parameters({golden.get("in.weight", type)});
  prune::Pruner pruner = make_pruner(weight);
  pruner.prune_fraction(golden.args.number("amount"));
  checker.compare("out.mask", kept(weight[0]));
  Tape tape;
  const Variable y = linear(golden.get("in.x", type), weight[0]);
  checker.compare("out.y", y.value());
  tape.backward(sum(y * golden.get("gout", type)));
  optim::apply_to_gradients(list_of(weight), optim::Chain());
  checker.compare("grad.weight_orig", weight[0].grad());
}

void polynomial_schedule(const Case& golden, DType, Checker& checker) {
  const Args& a = golden.args;
  const prune::PolynomialOptions options{.final_sparsity = a.number("final_sparsity"),
                                         .initial_sparsity = a.number("initial_sparsity"),
                                         .begin = a.integer("begin_step"),
                                         .end = a.integer("end_step"),
                                         .every = a.integer("frequency"),
                                         .power = a.number("power")};
  const prune::Schedule schedule = prune::polynomial(options);
  std::vector<double> sparsity;
  std::vector<bool> update;
  for (Index t = 0; t < a.integer("total_steps"); ++t) {
    sparsity.push_back(prune::polynomial_sparsity(options, t));
    update.push_back(schedule(t).has_value());
  }
  const Shape shape = {static_cast<Index>(sparsity.size())};
  checker.compare("out.sparsity", Tensor::from(sparsity, shape));
  checker.compare("out.update", Tensor::from(update, shape));
}

// --- scores --------------------------------------------------------------------------------------------------------------

prune::Gathered inputs_of(const Case& golden, DType type, const std::vector<Parameter>& weight) {
  const Tensor x = golden.get("in.x", type);
  return prune::gather(list_of(weight), [&](Index) { return linear(x, weight[0]); }, 1, {.inputs = true});
}

void activation_weighted(const Case& golden, DType type, Checker& checker) {
  const std::vector<Parameter> weight = make_parameters({golden.get("in.weight", type)});
  const prune::Gathered gathered = inputs_of(golden, type, weight);
  checker.compare("out.score", score_of(prune::activation_weighted(), weight[0], gathered));
  checker.compare("out.neuron_score", score_of(prune::activation_weighted({.units = true}), weight[0], gathered));
  prune::Pruner pruner(list_of(weight), {.score = prune::activation_weighted(), .min_keep = 0});
  pruner.use(gathered);
  pruner.prune_fraction(golden.args.number("amount"));
  checker.compare("out.mask", kept(weight[0]));
}

void wanda(const Case& golden, DType type, Checker& checker) {
  const std::vector<Parameter> weight = make_parameters({golden.get("in.weight", type)});
  const prune::Gathered gathered = inputs_of(golden, type, weight);
  const Tensor scores = score_of(prune::wanda(), weight[0], gathered);
  checker.compare("out.score", scores);
  if (golden.has("out.mask_2_4")) {  // each run of four inputs is a row of its own
    const prune::Candidate runs{"weight", scores.reshape({-1, 4})};
    checker.compare("out.mask_2_4", prune::lowest_of_rows(runs, 0.5).to_tensor(weight[0].shape()));
  }
  prune::prune_rows(list_of(weight), prune::wanda(), golden.args.number("sparsity"), gathered);
  checker.compare("out.mask", kept(weight[0]));
}

/// relu(x w1' + b1) w2' + b2 under cross-entropy.
struct TwoLayers {
  TwoLayers(const Case& golden, DType type)
      : x(golden.get("in.x", type)),
        y(golden.stored("in.y")),
        weights(make_parameters({golden.get("in.w1", type), golden.get("in.w2", type)})),
        b1(golden.get("in.b1", type)),
        b2(golden.get("in.b2", type)) {}
  Variable loss() const {
    return nn::cross_entropy(linear(linear(x, weights[0], b1, Activation::relu), weights[1], b2), y);
  }
  /// Gathers, and compares loss and gradients.
  prune::Gathered gather(const prune::Needs& needs, Checker& checker) const {
    const prune::Gathered gathered = prune::gather(
        list_of(weights), [&](Index) { return loss(); }, 1, needs);
    checker.compare("out.loss", loss().value());
    for (std::size_t j = 0; j < 2; ++j)
      checker.compare("grad.w" + std::to_string(j + 1), gathered.of(*weights[j].ref()).gradient);
    return gathered;
  }
  Tensor x, y;
  std::vector<Parameter> weights;
  Tensor b1, b2;
};

void snip(const Case& golden, DType type, Checker& checker) {
  const TwoLayers net(golden, type);
  const prune::Gathered gathered = net.gather(prune::snip().needs(), checker);
  prune::Pruner pruner(list_of(net.weights), {.score = prune::snip(), .min_keep = 0});
  pruner.use(gathered);
  for (std::size_t j = 0; j < 2; ++j)
    checker.compare("out.score" + std::to_string(j + 1), score_of(prune::snip(), net.weights[j], gathered));
  pruner.to_sparsity(1 - golden.args.number("keep"));
  for (std::size_t j = 0; j < 2; ++j) checker.compare("out.mask" + std::to_string(j + 1), kept(net.weights[j]));
}

void taylor(const Case& golden, DType type, Checker& checker) {
  const TwoLayers net(golden, type);
  const prune::Gathered gathered =
      net.gather({.gradient = true, .unit_saliency = true, .output_saliency = true}, checker);
  const prune::Score squared = prune::taylor({.p = 2});
  for (std::size_t j = 0; j < 2; ++j)
    checker.compare("out.weight_score" + std::to_string(j + 1), score_of(squared, net.weights[j], gathered));
  const Parameter& w1 = net.weights[0];
  checker.compare("out.unit_score_sum_sq", score_of(prune::taylor_units(), w1, gathered));
  checker.compare("out.unit_score_sq_sum", prune::sum_units(score_of(squared, w1, gathered)));
  checker.compare("out.activation_score", score_of(prune::taylor_activation(), w1, gathered));
}

struct Chain {
  std::vector<Parameter> weights;
  ParameterList parameters() const { return list_of(weights); }
  Variable operator()(const Variable& x) const {
    Variable h = x;
    for (const Parameter& w : weights) h = linear(h, w);
    return h;
  }
};

void synflow(const Case& golden, DType type, Checker& checker) {
  const Chain model{make_parameters({golden.get("in.w1", type), golden.get("in.w2", type)})};
  const prune::Gathered gathered = prune::gather_flow(model, {1, model.weights[0].shape()[1]});
  for (std::size_t j = 0; j < 2; ++j)
    checker.compare("out.score" + std::to_string(j + 1), score_of(prune::synflow(), model.weights[j], gathered));
}

}  // namespace

std::vector<Row> prune_rows() {
  return {
      {"l1_unstructured", l1_unstructured},
      {"global_unstructured", global_unstructured},
      {"ln_structured", ln_structured},
      {"n_m", n_m},
      {"iterative", iterative},
      {"forward_backward", forward_backward},
      {"polynomial_schedule", polynomial_schedule},
      {"activation_weighted", activation_weighted},
      {"wanda", wanda},
      {"snip", snip},
      {"taylor", taylor},
      {"synflow", synflow},
  };
}

}  // namespace espalier::golden
