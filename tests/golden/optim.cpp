// Kind "optim": parameters after every one of some steps with given gradients.
#include "tests/golden/chains.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

/// One chain for all parameters, or one a parameter where the case has groups.
optim::Chain direction(const std::string& op, const Args& args, const ParameterList& parameters) {
  if (!args.has("groups")) return optimizer_chain(op, args);
  const std::vector<Args> groups = args.objects("groups");
  optim::Chain all;
  for (std::size_t j = 0; j < groups.size(); ++j)
    all.append(on(optim::named(parameters.at(j).name), optimizer_chain(op, groups[j])));
  return all;
}

Row steps(const std::string& op) {
  return {op, [op](const Case& golden, DType type, Checker& checker) {
            const std::vector<Parameter> parameters = make_parameters(numbered(golden, "in.p", type));
            const std::vector<Tensor> gradients = numbered(golden, "in.g", type);
            const ParameterList list = list_of(parameters);
            optim::Optimizer optimizer(list, direction(op, golden.args, list));

            std::vector<Tensor> after;  // [step, ...]
            for (const Tensor& g : gradients) after.push_back(Tensor::zeros(g.shape(), type));
            for (Index t = 0; t < golden.count("steps"); ++t) {
              for (std::size_t j = 0; j < parameters.size(); ++j)
                parameters[j].ref()->accumulate(gradients.at(j).select(0, t).clone());
              optimizer.step();
              for (std::size_t j = 0; j < parameters.size(); ++j)
                after[j].select(0, t).copy_from(parameters[j].value());
            }
            for (std::size_t j = 0; j < parameters.size(); ++j) checker.compare("out.p" + std::to_string(j), after[j]);
          }};
}

}  // namespace

std::vector<Row> optim_rows() {
  return {steps("sgd"),     steps("adam"),    steps("adamw"),    steps("adamax"), steps("nadam"), steps("radam"),
          steps("rmsprop"), steps("adagrad"), steps("adadelta"), steps("asgd"),   steps("rprop")};
}

}  // namespace espalier::golden
