// A model as tensors and metadata, and back. Private to io: model_file.cpp and checkpoint.cpp stand on it.
#pragma once

#include <string>
#include <vector>

#include "espalier/io/model_file.h"

namespace espalier::io::detail {

inline constexpr const char* reserved_keys = "espalier.";
inline constexpr const char* kind_key = "espalier.kind";
inline constexpr const char* checkpoint_kind = "checkpoint";
inline constexpr const char* model_prefix = "model/";  // of the model's names in a checkpoint

/// Appends the model under names that begin with `prefix`. Errors: as save().
void encode_model(const ModelParts& parts, const std::string& prefix, TensorFile& file);
/// Writes "espalier.version" and the user's metadata. Errors: ConfigError for reserved keys.
void encode_metadata(const std::map<std::string, std::string>& user, TensorFile& file);
/// Errors: FormatError for a file of a later version of the format.
void check_version(const std::string& path, const TensorFile& file);
bool is_checkpoint(const TensorFile& file);

/// What a file says of one parameter or buffer.
struct Decoded {
  std::string name;
  Tensor value;  ///< soft mode: the unmasked values
  Mask mask;
  MaskMode mode = MaskMode::hard;
};
/// All under `prefix`, names without it. Errors: FormatError.
std::vector<Decoded> decode_model(const std::string& path, const TensorFile& file, const std::string& prefix);

/// A model's new content, checked against the model: apply() cannot fail.
class ModelPatch final {
 public:
  /// Errors: as load(). A checkpoint's shapes must be the model's: its optimizer was built for them.
  ModelPatch(const std::string& path, const TensorFile& file, const std::string& prefix, const ModelParts& parts,
             LoadOptions options, bool may_resize);
  void apply() noexcept;
  LoadReport report;

 private:
  struct NewParameter {
    ParameterRef target;
    Decoded content;
    Tensor masked;  // soft mode: the value
  };
  struct NewBuffer {
    const Buffer* target;
    Tensor value;
  };
  std::vector<NewParameter> parameters_;
  std::vector<NewBuffer> buffers_;
};

}  // namespace espalier::io::detail
