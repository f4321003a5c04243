// The pipelines that golden cases describe, as chains of the library.
#pragma once

#include "espalier/optim/chain.h"
#include "espalier/optim/optimizer.h"
#include "tests/golden/case_file.h"

namespace espalier::golden {

/// One clip, by PyTorch's or Keras' name for it, with its arguments. Unsupported for other names.
optim::Chain clip_chain(const std::string& op, const Args& args);
/// One optimizer with its settings; settings that are missing have the library's defaults, which are PyTorch's.
optim::Chain optimizer_chain(const std::string& op, const Args& args);

/// `prefix`0, `prefix`1, ... until there is no such tensor.
std::vector<Tensor> numbered(const Case& golden, const std::string& prefix, DType type);
/// Stand-alone parameters p0, p1, ... of these values.
std::vector<Parameter> make_parameters(const std::vector<Tensor>& values);
ParameterList list_of(const std::vector<Parameter>& parameters);

}  // namespace espalier::golden
