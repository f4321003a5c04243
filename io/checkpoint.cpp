#include "espalier/io/checkpoint.h"

#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "espalier/core/file.h"
#include "espalier/io/detail/model_code.h"

namespace espalier::io::detail {

CheckpointWriter::CheckpointWriter(const ModelParts& parts) {
  encode_metadata({}, file_);
  file_.metadata[kind_key] = checkpoint_kind;
  encode_model(parts, model_prefix, file_);
}

void CheckpointWriter::add(const std::string& prefix, const std::map<std::string, Tensor>& tensors) {
  for (const auto& [key, tensor] : tensors) file_.tensors.push_back({prefix + key, tensor});
  file_.metadata["espalier.part/" + prefix] = std::to_string(tensors.size());  // a part may have no tensors
}

void CheckpointWriter::add(const std::string& name, std::span<const std::uint64_t> numbers) {
  Tensor t = Tensor::empty({static_cast<Index>(numbers.size())}, DType::i64);
  std::memcpy(t.write_bytes("save_checkpoint"), numbers.data(), numbers.size_bytes());
  file_.tensors.push_back({name, std::move(t)});
}

void CheckpointWriter::write(const std::string& path) const { write_safetensors(path, file_); }

struct CheckpointReader::Content {
  std::string path;
  TensorFile file;
  std::optional<ModelPatch> patch;
  std::set<std::string> taken;  // names of parts

  template <class... Text>
  [[noreturn]] void refuse(const Text&... text) const {
    fail<FormatError>("[load_checkpoint] ", in_quotes(path), ": ", text...);
  }
};

CheckpointReader::CheckpointReader(const std::string& path, const ModelParts& parts)
    : content_(std::make_unique<Content>()) {
  Content& c = *content_;
  c.path = path;
  c.file = read_safetensors(path);
  if (!is_checkpoint(c.file)) c.refuse("not a checkpoint. Hint: load(path, model) reads a model's file");
  c.patch.emplace(path, c.file, model_prefix, parts, LoadOptions{}, false);
}

CheckpointReader::~CheckpointReader() = default;

std::map<std::string, Tensor> CheckpointReader::tensors(const std::string& prefix) {
  Content& c = *content_;
  if (!c.file.metadata.contains("espalier.part/" + prefix)) c.refuse("the part ", in_quotes(prefix), " is missing");
  std::map<std::string, Tensor> result;
  for (const NamedTensor& named : c.file.tensors)
    if (named.name.starts_with(prefix)) result[named.name.substr(prefix.size())] = named.tensor;
  if (std::to_string(result.size()) != c.file.metadata.at("espalier.part/" + prefix))
    c.refuse("the part ", in_quotes(prefix), " has ", result.size(), " tensors, not as many as were saved");
  c.taken.insert(prefix);
  return result;
}

void CheckpointReader::numbers(const std::string& name, std::span<std::uint64_t> out) {
  Content& c = *content_;
  const Tensor* t = c.file.find(name);
  if (!t) c.refuse("the part ", in_quotes(name), " is missing");
  if (t->dtype() != DType::i64 || t->rank() != 1 || t->size() != static_cast<Index>(out.size()))
    c.refuse("tensor ", in_quotes(name), " must be i64 [", out.size(), "], and is ", t->dtype(), " ", t->shape());
  std::memcpy(out.data(), t->bytes(), out.size_bytes());
  c.taken.insert(name);
}

void CheckpointReader::check_all_taken() const {
  for (const NamedTensor& named : content_->file.tensors) {
    const std::size_t slash = named.name.find('/');
    const std::string part = named.name.substr(0, slash == std::string::npos ? slash : slash + 1);
    if (part != model_prefix && !content_->taken.contains(part))
      content_->refuse("holds ", in_quotes(part),
                       ", which was not asked for. Hint: pass what was saved; load(path, model) "
                       "reads the model alone");
  }
}

void CheckpointReader::apply_model() noexcept { content_->patch->apply(); }

}  // namespace espalier::io::detail
