// Kind "prune": weights in, masks out.
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/prune/pruner.h"
#include "tests/golden/chains.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

/// By magnitude, every parameter whatever its rank, down to nothing if need be.
prune::Pruner make_pruner(const std::vector<Parameter>& parameters, MaskMode mode = MaskMode::hard) {
  return prune::Pruner(list_of(parameters), {.select = optim::Select(), .mode = mode, .min_keep = 0});
}

/// PyTorch's amount: a number of the weights that are live, or a share of them.
void prune_amount(prune::Pruner& pruner, const Args& args) {
  if (args.flag("amount_is_int"))
    pruner.prune_count(args.integer("amount"));
  else
    pruner.prune_fraction(args.number("amount"));
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
  for (const Args& step : steps)
    if (step.text("op") != "l1_unstructured") throw Unsupported{"step " + step.text("op")};
  for (std::size_t j = 0; j < steps.size(); ++j) {
    prune_amount(pruner, steps[j]);
    checker.compare("out.mask" + std::to_string(j), kept(weight[0]));
  }
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

}  // namespace

std::vector<Row> prune_rows() {
  return {
      {"l1_unstructured", l1_unstructured},   {"global_unstructured", global_unstructured}, {"iterative", iterative},
      {"forward_backward", forward_backward}, {"polynomial_schedule", polynomial_schedule},
  };
}

}  // namespace espalier::golden
