#include "espalier/prune/rewind.h"

#include <algorithm>
#include <utility>

namespace espalier::prune {
namespace {

const Tensor& trained(const ParameterState& p) { return p.dense().defined() ? p.dense() : p.value(); }

void check(const std::string& name, const ParameterState& p, const Tensor& kept) {
  if (p.value().packed())
    fail<ConfigError>("[rewind] '", name, "' is packed. Hint: rewind the model that compact() was given");
  if (!(p.value().shape() == kept.shape()) || p.value().dtype() != kept.dtype())
    fail<ConfigError>("[rewind] '", name, "' was ", kept.dtype(), " ", kept.shape(), " and is ", p.value().dtype(), " ",
                      p.value().shape(), " now. Hint: give the Rewind to shrink(), and it follows the cut");
}

}  // namespace

struct Rewind::Kept {
  struct Value {
    std::string name;
    ParameterRef parameter;
    Tensor value;
  };
  struct Statistic {
    std::string name;
    const Buffer* buffer;
    Tensor value;
  };
  std::vector<Value> values;
  std::vector<Statistic> statistics;
  optim::OptimizerState optimizer;  // empty: none was given

  void check_all() const {
    for (const Value& v : values) check(v.name, *v.parameter, v.value);
  }
  void write() const {
    for (const Value& v : values) {
      v.parameter->set_value(v.value);
      v.parameter->clear_grad();
    }
    for (const Statistic& s : statistics) s.buffer->set(s.value.clone());
  }
};

Rewind::Rewind(const ParameterList& parameters, const BufferList& buffers) : kept_(std::make_shared<Kept>()) {
  if (parameters.empty()) fail<ConfigError>("[rewind] there are no parameters to keep");
  for (const NamedParameter& named : parameters) {
    const bool known = std::any_of(kept_->values.begin(), kept_->values.end(),
                                   [&](const auto& v) { return v.parameter == named.parameter; });
    if (known) continue;
    if (named.parameter->value().packed())
      fail<ConfigError>("[rewind] '", named.name, "' is packed. Hint: keep the weights before compact()");
    kept_->values.push_back({named.name, named.parameter, trained(*named.parameter).clone()});
  }
  for (const NamedBuffer& named : buffers)
    kept_->statistics.push_back({named.name, named.buffer, named.buffer->value().clone()});
}

Rewind::Rewind(const ParameterList& parameters, const optim::Optimizer& optimizer, const BufferList& buffers)
    : Rewind(parameters, buffers) {
  kept_->optimizer = optimizer.state();
}

void Rewind::rewind() const {
  kept_->check_all();
  kept_->write();
}

void Rewind::rewind(optim::Optimizer& optimizer, RewindOptions options) const {
  if (options.weights) kept_->check_all();
  const optim::OptimizerState now = optimizer.state(), &then = kept_->optimizer;
  if (then.empty() && (options.learning_rate || options.moments == Moments::as_saved))
    fail<ConfigError>(
        "[rewind] no optimizer was kept, so there is no step to go back to. Hint: Rewind(parameters, optimizer), or "
        ".learning_rate = false");
  const bool saved_moments = options.moments == Moments::as_saved;
  optim::OptimizerState next;
  for (const auto& [key, tensor] : now) {
    const std::string transform = key.substr(0, key.find('/'));
    const auto kept = then.find(key);
    if (!then.empty() && kept == then.end())
      fail<ConfigError>("[rewind] the optimizer that was kept had no '", key, "'. Hint: keep and rewind one optimizer");
    Tensor value = tensor;
    if (key == "step" || key == "skipped") {
      if (options.learning_rate) value = kept->second;
    } else if (key == "updates") {
      value = saved_moments ? kept->second : Tensor::zeros(tensor.shape(), tensor.dtype());
    } else if (key != "masks") {
      // What a transform counts belongs to its states: an average without its count would be no average.
      const bool counts = !optimizer.memory(transform).empty();
      if (saved_moments || (counts && options.learning_rate))
        value = kept->second;
      else if (!counts)
        value = Tensor::zeros(tensor.shape(), tensor.dtype());
    }
    next.emplace(key, std::move(value));
  }
  optimizer.load_state(next);
  if (options.weights)
    kept_->write();
  else
    for (const auto& v : kept_->values) v.parameter->clear_grad();
}

Index Rewind::copy_to(const ParameterList& parameters) const {
  std::vector<std::pair<ParameterRef, const Tensor*>> found;
  for (const NamedParameter& named : parameters)
    for (const auto& v : kept_->values)
      if (v.name == named.name) {
        check(named.name, *named.parameter, v.value);
        found.emplace_back(named.parameter, &v.value);
      }
  if (found.empty()) fail<ConfigError>("[rewind] none of ", parameters.size(), " parameters has a name that was kept");
  for (const auto& [parameter, value] : found) {
    parameter->set_value(*value);
    parameter->clear_grad();
  }
  return static_cast<Index>(found.size());
}

std::int64_t Rewind::step() const {
  return kept_->optimizer.empty() ? 0 : kept_->optimizer.at("step").to_vector<std::int64_t>().front();
}

const Tensor& Rewind::value(const std::string& name) const {
  for (const auto& v : kept_->values)
    if (v.name == name) return v.value;
  fail<ConfigError>("[rewind] no value of '", name, "' was kept");
}

optim::Commit Rewind::prepare_cut(std::span<const optim::ParameterCut> cuts) {
  std::vector<Tensor> left;
  for (const auto& v : kept_->values) {
    left.push_back(v.value);
    for (const optim::ParameterCut& cut : cuts)
      if (cut.parameter == v.parameter) left.back() = optim::taken(v.value, cut.kept);
  }
  return [kept = kept_, left] {
    for (std::size_t i = 0; i < left.size(); ++i) kept->values[i].value = left[i];
  };
}

RewindState Rewind::state() const {
  RewindState state;
  for (const auto& v : kept_->values) state["value/" + v.name] = v.value.clone();
  for (const auto& s : kept_->statistics) state["buffer/" + s.name] = s.value.clone();
  for (const auto& [key, tensor] : kept_->optimizer) state["optimizer/" + key] = tensor.clone();
  return state;
}

void Rewind::load_state(const RewindState& given) {
  const RewindState own = state();
  for (const auto& [key, tensor] : own) {
    const auto found = given.find(key);
    if (found == given.end()) fail<ConfigError>("[rewind] '", key, "' is missing in the saved state");
    if (!(found->second.shape() == tensor.shape()) || found->second.dtype() != tensor.dtype())
      fail<ConfigError>("[rewind] '", key, "' in the saved state is ", found->second.dtype(), " ",
                        found->second.shape(), ", expected ", tensor.dtype(), " ", tensor.shape());
  }
  for (const auto& [key, tensor] : given)
    if (!own.contains(key)) fail<ConfigError>("[rewind] '", key, "' in the saved state belongs to nothing here");
  for (auto& v : kept_->values) v.value = given.at("value/" + v.name).clone();
  for (auto& s : kept_->statistics) s.value = given.at("buffer/" + s.name).clone();
  for (auto& [key, tensor] : kept_->optimizer) tensor = given.at("optimizer/" + key).clone();
}

}  // namespace espalier::prune
