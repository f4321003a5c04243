// How a case of kind "ops" is run, and the helpers that turn a library function into a row of the table:
//
//   {"tanh", unary(tanh)}
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/autograd/tape.h"
#include "tests/golden/runner.h"

namespace espalier::golden {

/// The arguments of one call of an op.
class Call {
 public:
  Call(std::vector<std::pair<std::string, Variable>> inputs, const Args& arguments)
      : args(arguments), inputs_(std::move(inputs)) {}

  std::size_t size() const { return inputs_.size(); }
  /// In call order. Errors: FormatError.
  const Variable& operator[](std::size_t k) const;
  /// By name; an undefined Variable if the case leaves it out.
  Variable named(const std::string& name) const;
  /// Throws Unsupported if the case gives an input that is not among the first `count`.
  void at_most(std::size_t count) const;

  const Args& args;

 private:
  std::vector<std::pair<std::string, Variable>> inputs_;
};

using Op = std::function<std::vector<Variable>(const Call&)>;

/// Applies the views, calls `op` on a tape, compares every output, then every gradient.
Run differentiable(Op op);

using UnaryFunction = Variable (*)(const Variable&);
using BinaryFunction = Variable (*)(const Variable&, const Variable&);

/// f(input)
Run unary(UnaryFunction f);
/// f(input, other)
Run binary(BinaryFunction f);
/// f(input, args), for whatever else takes one tensor: {"clamp", with_args([](const Variable& x, const Args& a) ...)}
Run with_args(std::function<Variable(const Variable&, const Args&)> f);
/// f(input, axes, keepdim); no axes means all.
Run reduction(Variable (*f)(const Variable&, const Dims&, bool));
/// f(input, axis)
Run along_axis(Variable (*f)(const Variable&, int));
/// f of all inputs of the call.
Run of_call(std::function<Variable(const Call&)> f);

}  // namespace espalier::golden
