#include "tests/golden/chains.h"

#include <array>
#include <functional>
#include <limits>

#include "espalier/optim/adagrad.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/adam_variants.h"
#include "espalier/optim/adaptive_clip.h"
#include "espalier/optim/asgd.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/rprop.h"
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

/// Settings by the names they have in PyTorch and here; those that a case leaves out keep the library's default.
template <class Options>
optim::Chain with_settings(optim::Chain (*make)(Options), const Args& a) {
  Options o;
  const auto number = [&](const char* name, optim::Scalar& setting) {
    if (a.has(name)) setting = a.number(name);
  };
  const auto pair = [&](const char* name, std::array<optim::Scalar, 2>& setting) {
    if (!a.has(name)) return;
    const std::vector<double> both = a.numbers(name);
    setting = {both.at(0), both.at(1)};
  };
  number("lr", o.lr);
  o.maximize = a.flag("maximize", o.maximize);
  if constexpr (requires { o.weight_decay; }) number("weight_decay", o.weight_decay);
  if constexpr (requires { o.betas; }) pair("betas", o.betas);
  if constexpr (requires { o.eps; }) number("eps", o.eps);
  if constexpr (requires { o.amsgrad; }) o.amsgrad = a.flag("amsgrad", o.amsgrad);
  if constexpr (requires { o.momentum; }) number("momentum", o.momentum);
  if constexpr (requires { o.dampening; }) number("dampening", o.dampening);
  if constexpr (requires { o.nesterov; }) o.nesterov = a.flag("nesterov", o.nesterov);
  if constexpr (requires { o.momentum_decay; }) number("momentum_decay", o.momentum_decay);
  if constexpr (requires { o.alpha; }) number("alpha", o.alpha);
  if constexpr (requires { o.centered; }) o.centered = a.flag("centered", o.centered);
  if constexpr (requires { o.lr_decay; }) number("lr_decay", o.lr_decay);
  if constexpr (requires { o.initial_accumulator_value; })
    number("initial_accumulator_value", o.initial_accumulator_value);
  if constexpr (requires { o.rho; }) number("rho", o.rho);
  if constexpr (requires { o.lambd; }) number("lambd", o.lambd);
  if constexpr (requires { o.t0; }) number("t0", o.t0);
  if constexpr (requires { o.etas; }) pair("etas", o.etas);
  if constexpr (requires { o.step_sizes; }) pair("step_sizes", o.step_sizes);
  return make(o);
}
template <class Options>
MakeChain made_by(optim::Chain (*make)(Options)) {
  return [make](const Args& a) { return with_settings(make, a); };
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
      {"clip_by_rms", [](const Args& a) { return optim::clip_by_rms(a.number("threshold")); }},
      {"agc",
       [](const Args& a) { return optim::clip_adaptive({.clipping = a.number("clipping"), .eps = a.number("eps")}); }},
      {"autoclip", [](const Args& a) { return optim::autoclip({.percentile = a.number("percentile"), .eps = 1e-6}); }},
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
      {"sgd", made_by(optim::sgd)},           {"adam", made_by(optim::adam)},
      {"adamw", made_by(optim::adamw)},       {"adamax", made_by(optim::adamax)},
      {"nadam", made_by(optim::nadam)},       {"radam", made_by(optim::radam)},
      {"rmsprop", made_by(optim::rmsprop)},   {"adagrad", made_by(optim::adagrad)},
      {"adadelta", made_by(optim::adadelta)}, {"asgd", made_by(optim::asgd)},
      {"rprop", made_by(optim::rprop)},
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
