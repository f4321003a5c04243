#include "espalier/nn/state_dict.h"

#include <string_view>
#include <utility>

namespace espalier::nn {
namespace {

constexpr std::size_t names_shown = 8;

/// "; missing: 'a', 'b' and 3 more", or nothing.
std::string listed(const char* what, const std::vector<std::string>& names) {
  if (names.empty()) return {};
  std::string text = join("; ", what, ": ");
  for (std::size_t i = 0; i < names.size() && i < names_shown; ++i) text += join(i > 0 ? ", " : "", names[i]);
  if (names.size() > names_shown) text += join(" and ", names.size() - names_shown, " more");
  return text;
}

std::string quoted(const std::string& name) { return "'" + name + "'"; }

std::string_view last_name(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return dot == name.npos ? name : name.substr(dot + 1);
}
/// The position of a layer's generator (dropout): PyTorch has none.
bool is_generator(std::string_view name) { return last_name(name) == "rng"; }
/// Its counters of batches PyTorch's older files lack.
bool is_optional(std::string_view name) { return is_generator(name) || last_name(name) == "num_batches_tracked"; }

/// Looks up what belongs where; changes nothing.
class Matcher {
 public:
  explicit Matcher(const StateDict& dict) : dict_(dict) {}

  /// The tensor for a place called `names`, if it is there and fits.
  const Tensor* find(const std::vector<std::string>& names, const Tensor& have) {
    const Tensor* found = nullptr;
    for (const std::string& name : names) {
      const auto at = dict_.find(name);
      if (at == dict_.end()) continue;
      if (found && !(found->dtype() == at->second.dtype() && equal(*found, at->second)))
        fail<ConfigError>("[load_state_dict] ", quoted(names[0]), " and ", quoted(name),
                          " are one tensor of the model, but two different ones in the dictionary");
      found = &at->second;
    }
    if (!found) {
      if (!is_optional(names[0])) missing_.push_back(names[0]);
      return nullptr;
    }
    if (!found->defined() || !(found->shape() == have.shape()))
      shapes_.push_back(join(quoted(names[0]), " is ", have.shape(), " in the model, ",
                             found->defined() ? join(found->shape()) : std::string("undefined"), " in the dictionary"));
    else if (found->dtype() != have.dtype())
      types_.push_back(
          join(quoted(names[0]), " is ", have.dtype(), " in the model, ", found->dtype(), " in the dictionary"));
    return found;
  }

  void find_unexpected(const std::map<std::string, bool>& known) {
    for (const auto& [name, tensor] : dict_)
      if (!known.contains(name) && !is_optional(name)) unexpected_.push_back(name);
  }

  StateDictReport report(bool strict) const {
    if (strict && !(missing_.empty() && unexpected_.empty()))
      fail<ConfigError>("[load_state_dict] names differ", listed("missing", all_quoted(missing_)),
                        listed("unexpected", all_quoted(unexpected_)), listed("of other shapes", shapes_),
                        ". Hint: {.strict = false} loads what both have");
    if (!shapes_.empty()) fail<ShapeError>("[load_state_dict] shapes differ", listed("of other shapes", shapes_));
    if (!types_.empty())
      fail<DTypeError>("[load_state_dict] types differ", listed("of other types", types_),
                       ". Hint: model.to(DType::f64), or .to() on the tensors");
    return {missing_, unexpected_};
  }

 private:
  static std::vector<std::string> all_quoted(std::vector<std::string> names) {
    for (std::string& name : names) name = quoted(name);
    return names;
  }
  const StateDict& dict_;
  std::vector<std::string> missing_, unexpected_, shapes_, types_;
};

}  // namespace

StateDict state_dict(const Module& model) {
  StateDict dict;
  for (const NamedParameter& named : model.parameters()) {
    const Tensor& value = named.parameter->value();
    dict[named.name] = value.packed() ? value.densify() : value.clone();
  }
  for (const NamedBuffer& named : model.buffers())
    if (!is_generator(named.name)) dict[named.name] = named.buffer->value().clone();
  for (const Alias& alias : model.aliases()) dict[alias.name] = dict.at(alias.of);
  return dict;
}

StateDictReport load_state_dict(Module& model, const StateDict& dict, StateDictOptions options) {
  std::map<std::string, std::vector<std::string>> other_names;
  std::map<std::string, bool> known;
  for (const Alias& alias : model.aliases()) {
    other_names[alias.of].push_back(alias.name);
    known[alias.name] = true;
  }
  Matcher matcher(dict);
  std::vector<std::pair<ParameterRef, const Tensor*>> parameters;
  std::vector<std::pair<const Buffer*, const Tensor*>> buffers;
  for (const NamedParameter& named : model.parameters()) {
    std::vector<std::string> names{named.name};
    names.insert(names.end(), other_names[named.name].begin(), other_names[named.name].end());
    known[named.name] = true;
    const Tensor* found = matcher.find(names, named.parameter->value());
    if (found && named.parameter->value().packed())
      fail<ConfigError>("[load_state_dict] ", quoted(named.name),
                        " is packed: its zeros are fixed. Hint: load before compact(), or io::load a packed model");
    parameters.emplace_back(named.parameter, found);
  }
  std::map<const Buffer*, std::vector<std::string>> names_of;  // a module held twice lists its buffers twice
  for (const NamedBuffer& named : model.buffers()) {
    known[named.name] = true;
    names_of[named.buffer].push_back(named.name);
  }
  for (const NamedBuffer& named : model.buffers())
    if (const std::vector<std::string>& names = names_of[named.buffer]; names[0] == named.name)
      buffers.emplace_back(named.buffer, matcher.find(names, named.buffer->value()));
  matcher.find_unexpected(known);
  const StateDictReport report = matcher.report(options.strict);
  for (const auto& [parameter, tensor] : parameters)
    if (tensor) parameter->set_value(*tensor);
  for (const auto& [buffer, tensor] : buffers)
    if (tensor) buffer->set(tensor->clone());
  return report;
}

}  // namespace espalier::nn
