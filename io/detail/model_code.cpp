#include "espalier/io/detail/model_code.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "espalier/core/file.h"
#include "espalier/core/packed_linear.h"
#include "espalier/io/detail/sparse_code.h"

namespace espalier::io::detail {
namespace {

constexpr std::string_view version_key = "espalier.version";
constexpr std::string_view version = "1";
constexpr std::string_view shapes_key = "espalier.shapes";
constexpr std::string_view sparse_key = "espalier.sparse/";

template <class... Parts>
[[noreturn]] void refuse(const std::string& path, const Parts&... parts) {
  fail<FormatError>("[load] ", in_quotes(path), ": ", parts...);
}

/// The metadata entry of a pruned parameter: "mode=hard mask=bits shape=300,784 kernels=sparse,sparse,dense". Mode
/// "none": a packed weight whose parameter has no mask of its own.
struct SparseEntry {
  std::string mode, form;
  Shape shape;
  std::optional<KernelChoices> kernels;
};

std::string to_text(const SparseEntry& entry) {
  std::string text = join("mode=", entry.mode, " mask=", entry.form, " shape=");
  for (int axis = 0; axis < entry.shape.rank(); ++axis) text += join(axis > 0 ? "," : "", entry.shape[axis]);
  if (const auto& k = entry.kernels)
    text += join(" kernels=", name_of(k->one), ",", name_of(k->few), ",", name_of(k->many));
  return text;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

bool parse_shape(std::string_view text, Shape& shape) {
  Index product = 1;
  for (const std::string_view part : split(text, ',')) {
    Index length = -1;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), length);
    if (error != std::errc() || end != part.data() + part.size() || length < 0) return false;
    if (shape.rank() == Dims::max_rank || __builtin_mul_overflow(product, std::max<Index>(length, 1), &product))
      return false;
    shape.push_back(length);
  }
  return product <= std::numeric_limits<Index>::max() / 8;  // in bytes
}

bool parse_kernels(std::string_view text, std::optional<KernelChoices>& kernels) {
  const std::vector<std::string_view> parts = split(text, ',');
  if (parts.size() != 3) return false;
  kernels.emplace();
  KernelChoice* const targets[] = {&kernels->one, &kernels->few, &kernels->many};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (!choice_of(parts[i], *targets[i])) return false;
  }
  return true;
}

bool parse(std::string_view text, SparseEntry& entry) {
  std::vector<std::string_view> seen;
  for (const std::string_view part : split(text, ' ')) {
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string_view key = part.substr(0, equals), value = part.substr(equals + 1);
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) return false;
    seen.push_back(key);
    if (key == "mode" && (value == "hard" || value == "soft" || value == "none"))
      entry.mode = value;
    else if (key == "mask" && (value == "bits" || value == "gaps" || value == "gaps16"))
      entry.form = value;
    else if (!(key == "shape" && parse_shape(value, entry.shape)) &&
             !(key == "kernels" && parse_kernels(value, entry.kernels)))
      return false;
  }
  const bool whole = seen.size() == (entry.kernels ? 4u : 3u) && !entry.mode.empty() && !entry.form.empty();
  const bool packable = entry.mode != "soft" && entry.shape.rank() >= 2;
  return whole && (entry.kernels ? packable : entry.mode != "none");
}

Tensor masked(const Tensor& dense, const Mask& mask) {
  Tensor value = dense.clone();
  zero_pruned(value, mask, "load");
  return value;
}

/// The tensors of a file by name, each taken once.
class Shelf final {
 public:
  Shelf(const std::string& path, const TensorFile& file, const std::string& prefix) : path_(path) {
    for (const NamedTensor& named : file.tensors)
      if (std::string_view(named.name).starts_with(prefix)) by_name_[named.name.substr(prefix.size())] = &named.tensor;
  }
  const Tensor& take(const std::string& name) {
    const auto at = by_name_.find(name);
    if (at == by_name_.end()) refuse(path_, "tensor ", in_quotes(name), ", which the metadata speaks of, is missing");
    const Tensor& t = *at->second;
    by_name_.erase(at);
    return t;
  }
  bool has(const std::string& name) const { return by_name_.contains(name); }

 private:
  const std::string& path_;
  std::unordered_map<std::string, const Tensor*> by_name_;
};

Decoded decode_sparse(const std::string& path, const std::string& name, const std::string& text, Shelf& shelf) {
  SparseEntry entry;
  if (!parse(text, entry))
    refuse(path, "metadata ", in_quotes(std::string(sparse_key) + name), ": cannot understand ", in_quotes(text));
  const Index size = count(entry.shape);
  const Tensor& mask_bytes = shelf.take(name + ".mask");
  const std::string where = join("[load] ", in_quotes(path), ": tensor ", in_quotes(name + ".mask"), ": ");
  const MaskCode code{entry.form, mask_bytes};
  if (entry.mode == "soft") {
    const Tensor& dense = shelf.take(name);
    if (!(dense.shape() == entry.shape) || !is_floating(dense.dtype()))
      refuse(path, "tensor ", in_quotes(name), " is ", dense.dtype(), " ", dense.shape(), ", the metadata says ",
             entry.shape);
    return {name, dense, decode_mask(code, size, any_count, where), MaskMode::soft};
  }
  const Tensor& values = shelf.take(name + ".values");
  if (values.rank() != 1 || !is_floating(values.dtype()))
    refuse(path, "tensor ", in_quotes(name + ".values"), " must be f32 or f64 [n], and is ", values.dtype(), " ",
           values.shape());
  if (shelf.has(name)) refuse(path, "tensor ", in_quotes(name), " is there dense as well as pruned");
  const Mask mask = decode_mask(code, size, values.size(), where);
  Tensor value = scatter_live(values, mask, entry.shape);
  if (entry.kernels) {
    for (const KernelChoice structure : {KernelChoice::blocked, KernelChoice::grouped})
      if (entry.kernels->any(structure) && structure_of(value) != structure)
        refuse(path, in_quotes(name), " has no pattern for the kernel ", in_quotes(name_of(structure)));
    value = Tensor::packed(entry.shape, value.dtype(), std::make_unique<PackedLinear>(value, *entry.kernels));
  }
  return {name, std::move(value), entry.mode == "none" ? Mask() : mask, MaskMode::hard};
}

/// At most twenty names, quoted.
std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t most = 20;
  std::string text;
  for (std::size_t i = 0; i < std::min(most, names.size()); ++i) text += join(i > 0 ? ", " : "", in_quotes(names[i]));
  if (names.size() > most) text += join(" and ", names.size() - most, " more");
  return text;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || !(a.shape() == b.shape()) || a.packed() || b.packed()) return false;
  return a.size() == 0 ||
         std::memcmp(a.bytes(), b.bytes(), static_cast<std::size_t>(a.size() * size_of(a.dtype()))) == 0;
}

void check_fit(const std::string& path, const std::string& name, const Tensor& have, const Tensor& given, bool resize) {
  if (have.dtype() != given.dtype())
    fail<DTypeError>("[load] ", in_quotes(path), ": ", in_quotes(name), " is ", given.dtype(), " in the file and ",
                     have.dtype(), " in the model. Hint: convert the one or the other with .to()");
  if (have.shape() == given.shape() || (resize && have.rank() == given.rank())) return;
  fail<ShapeError>("[load] ", in_quotes(path), ": ", in_quotes(name), " is ", given.shape(), " in the file and ",
                   have.shape(), " in the model");
}

}  // namespace

// --- writing --------------------------------------------------------------------------------------------------------

void encode_model(const ModelParts& parts, const std::string& prefix, TensorFile& file) {
  bool own_shapes = false;
  for (const auto& [name, parameter] : parts.parameters) {
    const std::string full = prefix + name;
    const Tensor& value = parameter->value();
    const Packed* packed = value.packed();
    own_shapes = own_shapes || parameter->resized() || packed;
    if (!packed && !parameter->mask().defined()) {
      file.tensors.push_back({full, value});
      continue;
    }
    const bool soft = parameter->mask_mode() == MaskMode::soft;
    const Tensor dense = soft ? parameter->dense() : value.densify();
    const Mask mask = parameter->mask().defined() ? parameter->mask() : mask_of_nonzero(dense);
    MaskCode code = encode_mask(mask);
    SparseEntry entry{soft ? "soft" : parameter->mask().defined() ? "hard" : "none", code.form, value.shape(), {}};
    if (packed) {
      const auto* linear = dynamic_cast<const PackedLinear*>(packed);
      if (!linear) fail<ConfigError>("[save] ", in_quotes(name), " has no file form: ", packed->describe());
      entry.kernels = linear->choices();
    }
    if (soft)
      file.tensors.push_back({full, dense});
    else
      file.tensors.push_back({full + ".values", gather_live(dense, mask)});
    file.tensors.push_back({full + ".mask", std::move(code.bytes)});
    file.metadata[std::string(sparse_key) + full] = to_text(entry);
  }
  for (const auto& [name, buffer] : parts.buffers) file.tensors.push_back({prefix + name, buffer->value()});
  if (own_shapes) file.metadata[std::string(shapes_key)] = "own";
}

void encode_metadata(const std::map<std::string, std::string>& user, TensorFile& file) {
  for (const auto& [key, text] : user) {
    if (key.starts_with(reserved_keys))
      fail<ConfigError>("[save] metadata keys that begin with 'espalier.' are taken: ", in_quotes(key));
    file.metadata[key] = text;
  }
  file.metadata[std::string(version_key)] = version;
}

// --- reading --------------------------------------------------------------------------------------------------------

void check_version(const std::string& path, const TensorFile& file) {
  const auto at = file.metadata.find(std::string(version_key));
  if (at != file.metadata.end() && at->second != version)
    refuse(path, "metadata '", version_key, "': version ", in_quotes(at->second), "; this library reads ", version);
}

bool is_checkpoint(const TensorFile& file) {
  const auto at = file.metadata.find(kind_key);
  return at != file.metadata.end() && at->second == checkpoint_kind;
}

std::vector<Decoded> decode_model(const std::string& path, const TensorFile& file, const std::string& prefix) {
  check_version(path, file);
  Shelf shelf(path, file, prefix);
  std::vector<Decoded> result;
  const std::string start = std::string(sparse_key) + prefix;
  for (const auto& [key, text] : file.metadata)
    if (key.starts_with(start)) result.push_back(decode_sparse(path, key.substr(start.size()), text, shelf));
  for (const auto& [name, tensor] : file.tensors) {
    if (!name.starts_with(prefix) || !shelf.has(name.substr(prefix.size()))) continue;
    result.push_back({name.substr(prefix.size()), tensor, Mask(), MaskMode::hard});
  }
  return result;
}

ModelPatch::ModelPatch(const std::string& path, const TensorFile& file, const std::string& prefix,
                       const ModelParts& parts, LoadOptions options, bool may_resize) {
  std::vector<Decoded> decoded = decode_model(path, file, prefix);
  std::unordered_map<std::string, Decoded*> by_name;
  for (Decoded& content : decoded) by_name[content.name] = &content;
  for (const auto& [second, first] : parts.aliases) {
    const auto at = by_name.find(second);
    if (at == by_name.end()) continue;
    const auto [kept, alone] = by_name.emplace(first, at->second);
    if (!alone && !same_bytes(kept->second->value, at->second->value))
      refuse(path, in_quotes(second), " and ", in_quotes(first),
             " are one parameter in the model, but differ in the file");
    by_name.erase(second);
  }

  const bool resize = may_resize && file.metadata.contains(std::string(shapes_key));
  auto take = [&](const std::string& name, const Tensor& have) -> Decoded* {
    const auto at = by_name.find(name);
    if (at == by_name.end()) {
      report.missing.push_back(name);
      return nullptr;
    }
    Decoded* content = at->second;
    by_name.erase(at);
    check_fit(path, name, have, content->value, resize);
    return content;
  };
  for (const auto& [name, parameter] : parts.parameters) {
    Decoded* content = take(name, parameter->value());
    if (!content) continue;
    const bool soft = content->mode == MaskMode::soft && content->mask.defined();
    Tensor value = soft ? masked(content->value, content->mask) : Tensor();
    parameters_.push_back({parameter, std::move(*content), std::move(value)});
  }
  for (const auto& [name, buffer] : parts.buffers) {
    Decoded* content = take(name, buffer->value());
    if (!content) continue;
    if (content->mask.defined() || content->value.packed()) refuse(path, "buffer ", in_quotes(name), " has a mask");
    buffers_.push_back({buffer, std::move(content->value)});
  }
  for (const auto& [name, content] : by_name) report.unexpected.push_back(name);
  std::sort(report.unexpected.begin(), report.unexpected.end());
  if (options.strict && (!report.missing.empty() || !report.unexpected.empty()))
    refuse(path, "not this model's file",
           report.missing.empty() ? std::string() : "; missing: " + listed(report.missing),
           report.unexpected.empty() ? std::string() : "; unexpected: " + listed(report.unexpected),
           ". Hint: .strict = false loads what both have");
  for (const auto& [key, text] : file.metadata)
    if (!key.starts_with(reserved_keys)) report.metadata[key] = text;
}

void ModelPatch::apply() noexcept {
  for (NewParameter& p : parameters_) {
    if (p.content.mode == MaskMode::soft && p.content.mask.defined()) {
      p.target->replace(std::move(p.masked), Mask());
      p.target->mutable_dense() = std::move(p.content.value);  // already there, so that set_mask allocates nothing
      p.target->set_mask(std::move(p.content.mask), MaskMode::soft);
    } else {
      p.target->replace(std::move(p.content.value), std::move(p.content.mask));
    }
  }
  for (NewBuffer& b : buffers_) b.target->set(std::move(b.value));
}

}  // namespace espalier::io::detail
