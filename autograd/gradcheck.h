// gradcheck: the gradients of a function against central differences, in f64.
//
//   EXPECT_TRUE(result) << result.message   with   result = gradcheck(f, {x, w});
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "espalier/autograd/tape.h"

namespace espalier {

struct GradcheckOptions {
  double eps = 1e-6;   ///< step to either side; the differences are good to about eps^2 + 1e-16 / eps
  double atol = 1e-5;  ///< allowed: |analytic - numeric| <= atol + rtol |numeric|
  double rtol = 1e-3;
  std::uint64_t seed = 0;  ///< of the weights with which outputs of several elements are summed up
};

/// What was compared, and where it fits worst.
struct GradcheckResult {
  bool passed = true;
  std::string message;    ///< says where and by how much it fails; what was compared, if it passes
  double error = 0;       ///< largest |analytic - numeric| in parts of what is allowed: passed means <= 1
  std::size_t input = 0;  ///< where that is: number of the input,
  Index element = 0;      ///< row-major position in it,
  double analytic = 0;    ///< and both values
  double numeric = 0;
  Index compared = 0;  ///< elements

  explicit operator bool() const noexcept { return passed; }
};

using DifferentiableFunction = std::function<Variable(std::span<const Variable>)>;
using DifferentiableFunctions = std::function<std::vector<Variable>(std::span<const Variable>)>;

/// Compares d <w, f(inputs)> / d input with (<w, f(x + eps)> - <w, f(x - eps)>) / 2 eps for every element of every f64
/// input, with random weights w (1 for a single element). Inputs may be views and keep their strides; integer and bool
/// inputs are handed on unchanged. f must give the same values whenever it is called with the same inputs (seed what is
/// random within f); an output that no input reaches counts as constant. f runs with a Tape alive, so modules train.
/// What differences do not show is looked at too: backward gives the same bytes again, the same gradients where the one
/// that comes is not contiguous or of one repeated element, for each output alone (others undefined) and each input alone.
/// Errors: DTypeError for an f32 input (its differences tell nothing); ConfigError without an f64 input; what f throws.
/// Cost: two calls of f for each element.
GradcheckResult gradcheck(const DifferentiableFunction& f, const std::vector<Tensor>& inputs, GradcheckOptions = {});
GradcheckResult gradcheck(const DifferentiableFunctions& f, const std::vector<Tensor>& inputs, GradcheckOptions = {});

/// The same for the gradients themselves: checks the derivatives of w -> d <w, f(x)> / dx by x and by w, which
/// gradient(..., {.create_graph = true}) gives, against differences of first gradients.
/// Errors: as gradcheck; GradError from an op whose rule is differentiable only once.
GradcheckResult gradgradcheck(const DifferentiableFunction& f, const std::vector<Tensor>& inputs,
                              GradcheckOptions = {});
GradcheckResult gradgradcheck(const DifferentiableFunctions& f, const std::vector<Tensor>& inputs,
                              GradcheckOptions = {});

/// Throws what failed as a GradError; for programs without a test framework.
void require(const GradcheckResult& result);

}  // namespace espalier
