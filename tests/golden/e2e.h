// What the training runs of kind "e2e" share.
#pragma once

#include <functional>

#include "tests/golden/chains.h"
#include "tests/golden/runner.h"

namespace espalier::golden {

/// The case's clip, or one that only measures.
optim::Chain clip_of(const Args& args);
/// The clip and the case's optimizer.
optim::Chain pipeline(const Args& args);

/// Runs the case's steps, `loss(step)` being the forward pass, and compares losses, norms, first gradients and the
/// parameters at the end.
void train(const Case& golden, DType type, Checker& checker, const ParameterList& parameters, optim::Chain steps,
           const std::function<Variable(Index)>& loss);

/// The networks of layers.
std::vector<Row> e2e_network_rows();

}  // namespace espalier::golden
