// A model in one file, and back.
//
//   io::save("model.safetensors", model);
//   io::load("model.safetensors", model);               // names, shapes and types must fit
//
// A safetensors file. What is not pruned lies there as PyTorch would write it: under its name, dense. A weight with a
// hard mask is stored as the mask, "<name>.mask" (one bit a weight, or the gaps between live weights, in a byte or two,
// whichever is smallest), and the live values, "<name>.values"; a packed one so, too, with its kernel choices, which
// load() honours. A weight with a soft mask is stored dense and unmasked, and its mask beside it. The metadata entry
// "espalier.sparse/<name>" tells which: "mode=hard mask=bits shape=300,784".
//
// Shapes travel in the file: where units were cut, it says so ("espalier.shapes"), and the model that loads it takes
// its shapes over.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "espalier/autograd/buffer.h"
#include "espalier/autograd/parameter.h"
#include "espalier/io/safetensors.h"

namespace espalier::io {

struct SaveOptions {
  std::map<std::string, std::string> metadata = {};  ///< the user's own; keys that begin with "espalier." are taken
};

struct LoadOptions {
  bool strict = true;  ///< else: what both have is loaded, the report names the rest
};

struct LoadReport {
  std::map<std::string, std::string> metadata;  ///< the user's own
  std::vector<std::string> missing;             ///< in the model, not in the file
  std::vector<std::string> unexpected;          ///< in the file, not in the model
};

/// What of a model goes into a file.
struct ModelParts {
  ParameterList parameters;
  BufferList buffers = {};
  std::vector<std::pair<std::string, std::string>> aliases = {};  ///< (second name, first name) of tied parameters
};

/// Of an nn::Module, or anything else with parameters() and perhaps buffers() and aliases(); or of a ParameterList.
inline ModelParts parts_of(const ParameterList& parameters) { return {parameters}; }
template <class Model>
requires requires(const Model& model) { ParameterList(model.parameters()); }
ModelParts parts_of(const Model& model) {
  ModelParts parts{model.parameters()};
  if constexpr (requires { model.buffers(); }) parts.buffers = model.buffers();
  if constexpr (requires { model.aliases(); })
    for (const auto& alias : model.aliases()) parts.aliases.emplace_back(alias.name, alias.of);
  return parts;
}

void save(const std::string& path, const ModelParts& parts, const SaveOptions& options);
LoadReport load(const std::string& path, const ModelParts& parts, LoadOptions options);

/// Writes the model; the file at `path` is at every moment the old or the new one (see write_safetensors).
/// Errors: IoError; ConfigError for metadata that is not the user's, names that collide, a packed weight of a kind that
/// has no file form.
template <class Model>
void save(const std::string& path, const Model& model, const SaveOptions& options = {}) {
  save(path, parts_of(model), options);
}

/// Reads a model from a file of save(), a checkpoint (its model), or any safetensors file with the right names. Values,
/// masks and their modes are taken over, gradients dropped; a weight without a mask in the file has none afterwards.
/// A second name of a tied parameter may be in the file or not.
/// Errors: IoError; FormatError; FormatError that lists names that are missing or unexpected, if strict; ShapeError;
/// DTypeError. Everything is checked before anything changes: after an error the model is as it was.
template <class Model>
LoadReport load(const std::string& path, Model& model, LoadOptions options = {}) {
  return load(path, parts_of(model), options);
}

/// Plain maps of tensors. Pruned weights of a model's file come dense, with zeros where they are pruned.
/// Errors as read_safetensors and write_safetensors.
std::map<std::string, Tensor> read_state(const std::string& path);
void write_state(const std::string& path, const std::map<std::string, Tensor>& state);

}  // namespace espalier::io
