#include "espalier/nn/module.h"

#include <cstdlib>
#include <exception>
#include <set>
#include <typeinfo>
#include <unordered_map>
#include <utility>

#if __has_include(<cxxabi.h>)
#include <cxxabi.h>
#endif

#include "espalier/nn/for_each_module.h"

namespace espalier::nn {

thread_local constinit ModuleTrace* ModuleTrace::current_ = nullptr;

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

void Module::locate(Error& error) const noexcept try {
  // The error on its way outwards and the innermost module that it passed and that has a name. Holding the error keeps
  // its address from being given to another one.
  struct Passing {
    std::exception_ptr error;
    const Module* innermost = nullptr;
    std::string name;
    bool outdated = false;
  };
  static thread_local Passing passing;
  const std::exception_ptr now = std::current_exception();
  std::string name = full_name_.get() ? *full_name_.get() : std::string();
  const bool outdated = full_name_.outdated();
  if (passing.error != now) {
    passing = {now, this, {}, false};
  } else if (const std::string path = path_to(*passing.innermost); !path.empty()) {
    name = name.empty() || outdated ? path : name + "." + path;
    if (!passing.outdated && name.size() <= passing.name.size()) return;
  } else if (!passing.name.empty()) {
    return;
  } else {
    passing.innermost = this;  // the one inside is listed nowhere
  }
  if (name.empty()) return;
  error.locate(name);
  passing.name = std::move(name);
  passing.outdated = passing.innermost == this && outdated;
} catch (...) {  // a text without a name is better than another error
}

std::string Module::path_to(const Module& inner) const {
  class Search final : public Visitor {
   public:
    explicit Search(const Module& wanted) : wanted_(wanted) {}
    std::string path;

   private:
    void on_module(const std::string& name, Module& module) override {
      if (path.empty() && &module == &wanted_) path = name;
    }
    const Module& wanted_;
  } search(inner);
  const_cast<Module&>(*this).members(search);
  return search.path;
}

ParameterList Module::parameters() const { return Lister(*this).parameters; }
BufferList Module::buffers() const { return Lister(*this).buffers; }
std::vector<Alias> Module::aliases() const { return Lister(*this).aliases; }

Index Module::parameter_count() const {
  Index n = 0;
  for (const NamedParameter& named : parameters()) n += named.parameter->value().size();
  return n;
}

void Module::set_frozen(bool frozen) const {
  for (const NamedParameter& named : parameters()) named.parameter->set_frozen(frozen);
}

void Module::to(DType type) {
  const ParameterList list = parameters();
  for (const NamedParameter& named : list)  // all or nothing
    if (named.parameter->value().packed()) named.parameter->convert(type);
  for (const NamedParameter& named : list) named.parameter->convert(type);
  for (const NamedBuffer& named : buffers())
    if (const Tensor& value = named.buffer->value(); value.defined() && is_floating(value.dtype()))
      named.buffer->set(value.to(type));
}

namespace {

/// The module itself and all below it.
std::vector<Module*> all_of(Module& module) {
  std::vector<Module*> modules;
  for_each_module(module, [&](Module& m) { modules.push_back(&m); });
  return modules;
}

std::string demangled(const char* name) {
#if __has_include(<cxxabi.h>)
  int status = 0;
  if (char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status)) {
    std::string result(text);
    std::free(text);
    return result;
  }
#endif
  return name;
}

}  // namespace

std::string Module::type_name() const {
  const std::string full = demangled(typeid(*this).name());
  std::string
      bare;  // without what stands in brackets: template arguments, "(anonymous namespace)", functions' arguments
  int depth = 0;
  for (const char c : full) {
    if (c == '<' || c == '(' || c == '{') ++depth;
    if (depth == 0) bare += c;
    if (c == '>' || c == ')' || c == '}') --depth;
  }
  const std::size_t colon = bare.rfind("::");
  if (colon != bare.npos) bare = bare.substr(colon + 2);
  // A layer over so many axes is called as its alias is: Conv<2> is Conv2d.
  for (const char* axes : {"1", "2", "3"})
    if (full.ends_with(std::string("<") + axes + ">")) bare += std::string(axes) + "d";
  return bare;
}

void Module::set_mode(Mode mode) {
  for (Module* module : all_of(*this)) module->mode_ = mode;
}

EvalMode::EvalMode(const Module& module) {
  for (Module* m : all_of(const_cast<Module&>(module)))
    before_.emplace_back(m, std::exchange(m->mode_, Module::Mode::eval));
}

EvalMode::~EvalMode() {
  for (std::size_t i = before_.size(); i-- > 0;) before_[i].first->mode_ = before_[i].second;
}

}  // namespace espalier::nn
