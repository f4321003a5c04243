// What hooks share that follow parameters of their own: which those are, and reading what was saved of them.
#pragma once

#include <map>
#include <string>

#include "espalier/autograd/parameter.h"
#include "espalier/optim/select.h"
#include "espalier/optim/transform.h"

namespace espalier::prune::detail {

/// Those that are selected, each once. Errors: ConfigError if there is none.
ParameterList followed(const char* op, const ParameterList& parameters, const optim::Select& select);
/// Errors: ConfigError if none of `mine` is among the optimizer's.
void check_shared(const char* op, const ParameterList& mine, const optim::StepContext& context);
/// Errors: ConfigError if it is packed, so that masks cannot be set.
void check_not_packed(const char* op, const NamedParameter& named);

/// Reads a saved state key by key. All errors: ConfigError.
class StateReader final {
 public:
  StateReader(const char* op, const std::map<std::string, Tensor>& state) : op_(op), state_(state) {}
  /// Null if there is none. Errors: another shape or type.
  const Tensor* find(const std::string& key, DType type, const Shape& shape);
  /// Errors: there is none.
  double number(const std::string& key, DType type);
  std::int64_t count(const std::string& key) { return static_cast<std::int64_t>(number(key, DType::i64)); }
  /// Errors: there are keys that nobody has asked for.
  void finish() const;

 private:
  const char* op_;
  const std::map<std::string, Tensor>& state_;
  std::size_t used_ = 0;
};

inline Tensor i64_scalar(std::int64_t value) { return Tensor::from<std::int64_t>({value}, {}); }

}  // namespace espalier::prune::detail
