#include "tests/golden/chains.h"

#include <functional>
#include <limits>

#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/sgd.h"

namespace espalier::golden {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
using MakeChain = std::function<optim::Chain(const Args&)>;

optim::Chain find_and_make(const std::map<std::string, MakeChain>& table, const std::string& op, const Args& args) {
  const auto found = table.find(op);
  if (found == table.end()) throw Unsupported{"stage " + op};
  return found->second(args);
}

template <class Options>
optim::Chain adam_like(optim::Chain (*make)(Options), const Args& a) {
  Options options;
  options.lr = a.number("lr");
  if (a.has("betas")) {
    const std::vector<double> betas = a.numbers("betas");
    options.betas = {betas.at(0), betas.at(1)};
  }
  options.eps = a.number("eps", options.eps);
  options.weight_decay = a.number("weight_decay", options.weight_decay.value());
  options.amsgrad = a.flag("amsgrad");
  options.maximize = a.flag("maximize");
  return make(options);
}

optim::Chain sgd(const Args& a) {
  return optim::sgd({.lr = a.number("lr"),
                     .momentum = a.number("momentum", 0),
                     .dampening = a.number("dampening", 0),
                     .weight_decay = a.number("weight_decay", 0),
                     .nesterov = a.flag("nesterov"),
                     .maximize = a.flag("maximize")});
}

}  // namespace

optim::Chain clip_chain(const std::string& op, const Args& args) {
  static const std::map<std::string, MakeChain> table = {
      {"clip_grad_norm",
       [](const Args& a) {
         return optim::clip_by_global_norm({.max_norm = a.number("max_norm"), .p = a.number("norm_type"), .eps = 1e-6});
       }},
      {"clip_by_global_norm", [](const Args& a) { return optim::clip_by_global_norm(a.number("clip_norm")); }},
      {"clip_by_norm", [](const Args& a) { return optim::clip_per_tensor_norm(a.number("clip_norm")); }},
      {"clip_grad_value", [](const Args& a) { return optim::clip_by_value(a.number("clip_value")); }},
      {"clamp_grad",
       [](const Args& a) {
         return optim::clip_by_value({.min = a.number("min", -infinity), .max = a.number("max", infinity)});
       }},
  };
  return find_and_make(table, op, args);
}

optim::Chain optimizer_chain(const std::string& op, const Args& args) {
  static const std::map<std::string, MakeChain> table = {
      {"sgd", sgd},
      {"adam", [](const Args& a) { return adam_like(optim::adam, a); }},
      {"adamw", [](const Args& a) { return adam_like(optim::adamw, a); }},
  };
  return find_and_make(table, op, args);
}

std::vector<Tensor> numbered(const Case& golden, const std::string& prefix, DType type) {
  std::vector<Tensor> tensors;
  while (golden.has(prefix + std::to_string(tensors.size())))
    tensors.push_back(golden.get(prefix + std::to_string(tensors.size()), type));
  return tensors;
}

std::vector<Parameter> make_parameters(const std::vector<Tensor>& values) {
  std::vector<Parameter> parameters;
  for (const Tensor& value : values) parameters.emplace_back(value.clone(), "p" + std::to_string(parameters.size()));
  return parameters;
}

ParameterList list_of(const std::vector<Parameter>& parameters) {
  ParameterList list;
  for (const Parameter& parameter : parameters) list.push_back({parameter.ref()->name(), parameter.ref()});
  return list;
}

}  // namespace espalier::golden
