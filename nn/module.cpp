#include "espalier/nn/module.h"

#include <set>
#include <unordered_map>
#include <utility>

namespace espalier::nn {

Visitor& Visitor::operator()(std::string_view name, Parameter& parameter) {
  if (parameter.defined()) on_parameter(path_ + std::string(name), parameter);
  return *this;
}

Visitor& Visitor::operator()(std::string_view name, Buffer& buffer) {
  if (buffer.defined()) on_buffer(path_ + std::string(name), buffer);
  return *this;
}

Visitor& Visitor::operator()(std::string_view name, Module& module) {
  const std::string full = path_ + std::string(name);
  on_module(full, module);
  std::string outer = std::exchange(path_, full + ".");
  module.members(*this);
  path_ = std::move(outer);
  return *this;
}

/// Everything a module lists, names checked.
class Module::Lister final : public Visitor {
 public:
  /// members() is not const, for Visitors may write; this one only reads, and marks parameters as listed.
  explicit Lister(const Module& module) { const_cast<Module&>(module).members(*this); }
  ParameterList parameters;
  BufferList buffers;
  std::vector<Alias> aliases;

 private:
  void claim(const std::string& name) {
    if (!names_.insert(name).second) fail<ConfigError>("[module] two members are called '", name, "'");
  }
  void on_parameter(const std::string& name, Parameter& parameter) override {
    claim(name);
    const ParameterRef& ref = parameter.ref();
    const auto [at, first] = seen_.emplace(ref.get(), name);
    if (!first) {
      aliases.push_back({name, at->second});
      return;
    }
    ref->mark_listed(name);
    parameters.push_back({name, ref});
  }
  void on_module(const std::string& name, Module& module) override { module.full_name_.offer(name); }
  void on_buffer(const std::string& name, Buffer& buffer) override {
    claim(name);
    buffers.push_back({name, &buffer});
  }

  std::set<std::string> names_;
  std::unordered_map<const ParameterState*, std::string> seen_;
};

void Module::locate(Error& error) const {
  if (const std::string* name = full_name_.get()) error.locate(*name);
}

ParameterList Module::parameters() const { return Lister(*this).parameters; }
BufferList Module::buffers() const { return Lister(*this).buffers; }
std::vector<Alias> Module::aliases() const { return Lister(*this).aliases; }

Index Module::parameter_count() const {
  Index n = 0;
  for (const NamedParameter& named : parameters()) n += named.parameter->value().size();
  return n;
}

void Module::set_mode(Mode mode) {
  class Setter final : public Visitor {
   public:
    explicit Setter(Mode mode) : mode_(mode) {}

   private:
    void on_module(const std::string&, Module& module) override { module.mode_ = mode_; }
    Mode mode_;
  } setter(mode);
  mode_ = mode;
  members(setter);
}

}  // namespace espalier::nn
