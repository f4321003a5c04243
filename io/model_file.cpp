#include "espalier/io/model_file.h"

#include "espalier/io/detail/model_code.h"

namespace espalier::io {

void save(const std::string& path, const ModelParts& parts, const SaveOptions& options) {
  TensorFile file;
  detail::encode_metadata(options.metadata, file);
  detail::encode_model(parts, "", file);
  write_safetensors(path, file);
}

LoadReport load(const std::string& path, const ModelParts& parts, LoadOptions options) {
  const TensorFile file = read_safetensors(path);
  const char* prefix = detail::is_checkpoint(file) ? detail::model_prefix : "";
  detail::ModelPatch patch(path, file, prefix, parts, options, true);
  patch.apply();
  return std::move(patch.report);
}

std::map<std::string, Tensor> read_state(const std::string& path) {
  std::map<std::string, Tensor> state;
  for (detail::Decoded& content : detail::decode_model(path, read_safetensors(path), "")) {
    Tensor value = content.value.densify();
    if (content.mask.defined()) zero_pruned(value, content.mask, "read_state");  // soft mode: unmasked in the file
    state.emplace(std::move(content.name), std::move(value));
  }
  return state;
}

void write_state(const std::string& path, const std::map<std::string, Tensor>& state) {
  TensorFile file;
  for (const auto& [name, tensor] : state) file.tensors.push_back({name, tensor});
  write_safetensors(path, file);
}

}  // namespace espalier::io
