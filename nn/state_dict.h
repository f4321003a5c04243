// state_dict: the values of a model by name, in PyTorch's names and layouts.
//
//   nn::load_state_dict(model, io::read_state("from_pytorch.safetensors"));
//   io::write_state("to_pytorch.safetensors", nn::state_dict(model));       // safetensors.torch.load_file(...)
//
// Plain tensors, dense: masks, shapes of cut units and kernel choices travel with io::save instead.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "espalier/nn/module.h"

namespace espalier::nn {

using StateDict = std::map<std::string, Tensor>;

/// Copies of all parameters and buffers, under every name: a tied parameter's second name has an entry, too, as in
/// PyTorch. Pruned weights are 0 in it, packed ones dense. Generators of layers, buffers called "rng", are left out, for
/// PyTorch has none: a run to go on later is io::save_checkpoint's.
StateDict state_dict(const Module& model);

struct StateDictOptions {
  bool strict = true;  ///< else: what both have is loaded, and the rest is left out
};

/// What load_state_dict() passed over; empty if it was strict.
struct StateDictReport {
  std::vector<std::string> missing;     ///< in the model, not in the dictionary
  std::vector<std::string> unexpected;  ///< in the dictionary, not in the model
};

/// Writes values into the existing parameters and buffers; masks stay, and what they prune stays 0. One name is enough
/// of what has several: a tied parameter, or parameters and buffers of a module that is held twice. Generators ("rng")
/// and counters of batches ("num_batches_tracked") may be there or not.
/// Errors: ConfigError that lists all names that are missing or unexpected, if strict; ShapeError, DTypeError that list
/// all that do not fit, strict or not; ConfigError for a packed weight, or two names of one tensor that differ in
/// value. Everything is checked before anything changes.
StateDictReport load_state_dict(Module& model, const StateDict& dict, StateDictOptions options = {});

}  // namespace espalier::nn
