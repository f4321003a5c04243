#include "espalier/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <span>
#include <unordered_set>
#include <utility>

#include "espalier/core/file.h"
#include "espalier/core/parallel.h"

namespace espalier::io {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian, and read and written as they are");

constexpr const char* read_op = "read_safetensors";
constexpr const char* write_op = "write_safetensors";
constexpr std::uint64_t length_bytes = 8;

constexpr std::pair<std::string_view, DType> type_names[] = {{"F32", DType::f32}, {"F64", DType::f64},
                                                             {"I64", DType::i64}, {"I32", DType::i32},
                                                             {"U8", DType::u8},   {"BOOL", DType::boolean}};

std::string_view type_name(DType type) {
  for (const auto& [name, known] : type_names)
    if (known == type) return name;
  __builtin_unreachable();
}

/// A tensor as the header describes it; optional: not seen yet.
struct Entry {
  std::string name;
  std::optional<DType> type;
  std::optional<Shape> shape;
  std::optional<std::array<std::uint64_t, 2>> offsets;
};

/// Reads the header's JSON, event by event, so that nothing is built of what is not allowed, and a key given twice is
/// seen. A refusal leaves its reason in `error`.
class HeaderReader final {
 public:
  // The interface that nlohmann::json::sax_parse asks for. False ends the parse.
  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("true or false"); }
  bool number_integer(std::int64_t value) { return unexpected(join("the number ", value)); }
  bool number_float(double, const std::string& text) { return unexpected("the number " + text); }
  bool binary(std::vector<std::uint8_t>&) { return unexpected("binary"); }
  bool number_unsigned(std::uint64_t value);
  bool string(std::string& value);
  bool key(std::string& name);
  bool start_object(std::size_t);
  bool end_object();
  bool start_array(std::size_t);
  bool end_array();
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& e) {
    error = join("broken JSON at byte ", length_bytes + position - (position > 0), ": ", e.what());
    return false;
  }

  std::uint64_t most_tensors = 0;
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;

 private:
  enum class Place { outside, file, metadata, tensor, shape, offsets };

  bool refuse(std::string reason) {
    error = std::move(reason);
    return false;
  }
  /// "tensor 'a': field 'shape'", as far as it is known.
  std::string where() const {
    std::string text;
    if (place_ == Place::file && !key_.empty()) text = in_quotes(key_) + ": ";
    if (place_ == Place::metadata) text = "__metadata__ " + in_quotes(key_) + ": ";
    if (place_ >= Place::tensor) text = "tensor " + in_quotes(entries.back().name) + ": ";
    if (place_ >= Place::tensor && !field_.empty()) text += "field " + in_quotes(field_) + ": ";
    return text;
  }
  bool unexpected(const std::string& what) { return refuse(where() + what + " has no place here"); }

  Place place_ = Place::outside;
  std::string key_;    // within the file or the metadata
  std::string field_;  // within a tensor
  std::size_t offsets_seen_ = 0;
  std::unordered_set<std::string> names_;
};

bool HeaderReader::number_unsigned(std::uint64_t value) {
  if (place_ == Place::shape) {
    Shape& shape = *entries.back().shape;
    if (shape.rank() == Dims::max_rank) return refuse(where() + join("more than ", Dims::max_rank, " axes"));
    if (value > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()))
      return refuse(where() + join(value, " is no possible length"));
    shape.push_back(static_cast<Index>(value));
    return true;
  }
  if (place_ == Place::offsets) {
    if (offsets_seen_ == 2) return refuse(where() + "more than two offsets");
    (*entries.back().offsets)[offsets_seen_++] = value;
    return true;
  }
  return unexpected(join("the number ", value));
}

bool HeaderReader::string(std::string& value) {
  if (place_ == Place::metadata) {
    metadata[key_] = std::move(value);
    return true;
  }
  if (place_ != Place::tensor || field_ != "dtype") return unexpected("the text " + in_quotes(value));
  for (const auto& [name, type] : type_names)
    if (name == value) entries.back().type = type;
  if (!entries.back().type) return refuse(where() + "unknown type " + in_quotes(value));
  return true;
}

bool HeaderReader::key(std::string& name) {
  if (place_ == Place::file) {
    if (!names_.insert(name).second) return refuse("the name " + in_quotes(name) + " is given twice");
    key_ = std::move(name);
  } else if (place_ == Place::metadata) {
    if (metadata.contains(name)) return refuse("__metadata__ " + in_quotes(name) + " is given twice");
    key_ = std::move(name);
  } else {
    field_.clear();
    const Entry& entry = entries.back();
    if (name != "dtype" && name != "shape" && name != "data_offsets")
      return refuse(where() + "unknown field " + in_quotes(name));
    if ((name == "dtype" && entry.type) || (name == "shape" && entry.shape) ||
        (name == "data_offsets" && entry.offsets))
      return refuse(where() + "field " + in_quotes(name) + " is given twice");
    field_ = std::move(name);
  }
  return true;
}

bool HeaderReader::start_object(std::size_t) {
  if (place_ == Place::outside) {
    place_ = Place::file;
  } else if (place_ == Place::file && key_ == "__metadata__") {
    place_ = Place::metadata;
  } else if (place_ == Place::file) {
    if (entries.size() == most_tensors) return refuse(join("more than ", most_tensors, " tensors"));
    entries.push_back({key_, {}, {}, {}});
    field_.clear();
    place_ = Place::tensor;
  } else {
    return unexpected("an object");
  }
  return true;
}

bool HeaderReader::end_object() {
  if (place_ == Place::tensor) {
    field_.clear();
    const Entry& entry = entries.back();
    for (const auto& [given, name] :
         {std::pair(entry.type.has_value(), "dtype"), std::pair(entry.shape.has_value(), "shape"),
          std::pair(entry.offsets.has_value(), "data_offsets")})
      if (!given) return refuse(where() + "field '" + name + "' is missing");
  }
  place_ = place_ == Place::file ? Place::outside : Place::file;
  return true;
}

bool HeaderReader::start_array(std::size_t) {
  if (place_ == Place::tensor && field_ == "shape") {
    entries.back().shape = Shape{};
    place_ = Place::shape;
  } else if (place_ == Place::tensor && field_ == "data_offsets") {
    entries.back().offsets = std::array<std::uint64_t, 2>{};
    offsets_seen_ = 0;
    place_ = Place::offsets;
  } else {
    return unexpected("a list");
  }
  return true;
}

bool HeaderReader::end_array() {
  if (place_ == Place::offsets && offsets_seen_ != 2) return refuse(where() + "needs two offsets");
  place_ = Place::tensor;
  return true;
}

template <class... Parts>
[[noreturn]] void refuse(const std::string& path, const Parts&... parts) {
  fail<FormatError>("[", read_op, "] ", in_quotes(path), ": ", parts...);
}

HeaderReader parse_header(const std::string& path, std::string_view header, std::uint64_t most_tensors) {
  if (header.empty() || header.front() != '{')
    refuse(path, "the header at byte ", length_bytes, " must begin with '{'");
  // The JSON reader takes a NUL for the end of its input, and would not look at what follows.
  if (const std::size_t nul = header.find('\0'); nul != std::string_view::npos)
    refuse(path, "a NUL in the header at byte ", length_bytes + nul);
  HeaderReader reader;
  reader.most_tensors = most_tensors;
  if (!nlohmann::json::sax_parse(header.begin(), header.end(), &reader)) refuse(path, "header: ", reader.error);
  return reader;
}

/// Bytes that shape and type ask for. An empty tensor's other lengths may not overflow either.
std::uint64_t checked_bytes(const std::string& path, const Entry& entry) {
  std::uint64_t product = static_cast<std::uint64_t>(size_of(*entry.type));
  const std::uint64_t element = product;
  for (const Index length : *entry.shape) {
    if (__builtin_mul_overflow(product, static_cast<std::uint64_t>(std::max<Index>(length, 1)), &product) ||
        product > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()))
      refuse(path, "tensor ", in_quotes(entry.name), ": field 'shape': the size of ", *entry.shape, " overflows");
  }
  return element * static_cast<std::uint64_t>(count(*entry.shape));
}

void check_layout(const std::string& path, const std::vector<Entry>& entries, std::uint64_t data_bytes) {
  std::vector<std::size_t> order(entries.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (const Entry& entry : entries) {
    const auto [begin, end] = *entry.offsets;
    if (begin > end || end > data_bytes)
      refuse(path, "tensor ", in_quotes(entry.name), ": field 'data_offsets': [", begin, ", ", end,
             "] lies outside the ", data_bytes, " bytes of values");
    if (const std::uint64_t bytes = checked_bytes(path, entry); bytes != end - begin)
      refuse(path, "tensor ", in_quotes(entry.name), ": field 'data_offsets': ", end - begin, " bytes for ",
             type_name(*entry.type), " ", *entry.shape, ", which takes ", bytes);
  }
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return *entries[a].offsets < *entries[b].offsets; });
  std::uint64_t filled = 0;
  for (const std::size_t i : order) {
    const auto [begin, end] = *entries[i].offsets;
    if (begin != filled)
      refuse(path, "tensor ", in_quotes(entries[i].name), ": field 'data_offsets': begins at ", begin,
             begin < filled ? " and overlaps another, which ends at " : " and leaves a hole behind ", filled);
    filled = end;
  }
  if (filled != data_bytes)
    refuse(path, data_bytes - filled, " bytes behind the last tensor, which ends at offset ", filled);
}

void check_bools(const std::string& path, const std::string& name, const Tensor& t) {
  const std::byte* bytes = t.bytes();
  constexpr Index grain = Index{1} << 20;
  // The first wrong byte of each chunk, and of those the first.
  const Index wrong = -parallel_reduce<Index>(
      t.size(), grain,
      [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i)
          if (static_cast<unsigned>(bytes[i]) > 1) return i - t.size();
        return Index{0};
      },
      [](Index a, Index b) { return std::min(a, b); });
  if (wrong != 0)
    refuse(path, "tensor ", in_quotes(name), ": element ", t.size() - wrong, " is a bool that is not 0 or 1");
}

std::string json_text(const std::string& text, const char* what) {
  try {
    return nlohmann::json(text).dump(-1, ' ', true);
  } catch (const nlohmann::json::exception&) {
    fail<ConfigError>("[", write_op, "] the ", what, " ", in_quotes(text), " is not UTF-8");
  }
}

std::string header_text(const TensorFile& file, const std::vector<std::uint64_t>& begins) {
  std::string text = "{";
  if (!file.metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : file.metadata)
      text += join(json_text(key, "metadata key"), ":", json_text(value, "metadata value"), ",");
    text.back() = '}';
    text += ',';
  }
  for (std::size_t i = 0; i < file.tensors.size(); ++i) {
    const auto& [name, tensor] = file.tensors[i];
    text += join(json_text(name, "name"), ":{\"dtype\":\"", type_name(tensor.dtype()), "\",\"shape\":[");
    for (int axis = 0; axis < tensor.rank(); ++axis) text += join(axis > 0 ? "," : "", tensor.shape()[axis]);
    const std::uint64_t bytes = static_cast<std::uint64_t>(tensor.size() * size_of(tensor.dtype()));
    text += join("],\"data_offsets\":[", begins[i], ",", begins[i] + bytes, "]},");
  }
  if (text.back() == ',') text.pop_back();
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

const Tensor* TensorFile::find(std::string_view name) const noexcept {
  for (const NamedTensor& named : tensors)
    if (named.name == name) return &named.tensor;
  return nullptr;
}

TensorFile read_safetensors(const std::string& path, SafetensorsLimits limits) {
  const InputFile file(read_op, path);
  if (file.size() < length_bytes) refuse(path, "ends at byte ", file.size(), ", within the header's length");
  std::uint64_t header_bytes = 0;
  file.read(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
  if (header_bytes > limits.header_bytes)
    refuse(path, "at byte 0: a header of ", header_bytes, " bytes; at most ", limits.header_bytes, " are read");
  if (header_bytes > file.size() - length_bytes)
    refuse(path, "at byte 0: a header of ", header_bytes, " bytes in a file of ", file.size());
  std::string header(header_bytes, ' ');
  file.read(length_bytes, std::as_writable_bytes(std::span(header)));
  HeaderReader reader = parse_header(path, header, limits.tensors);
  const std::uint64_t data_begin = length_bytes + header_bytes;
  check_layout(path, reader.entries, file.size() - data_begin);

  TensorFile result;
  result.metadata = std::move(reader.metadata);
  result.tensors.reserve(reader.entries.size());
  for (Entry& entry : reader.entries) {
    Tensor t = Tensor::empty(*entry.shape, *entry.type);
    const auto [begin, end] = *entry.offsets;
    if (begin != end) file.read(data_begin + begin, {t.write_bytes(read_op), end - begin});
    if (*entry.type == DType::boolean) check_bools(path, entry.name, t);
    result.tensors.push_back({std::move(entry.name), std::move(t)});
  }
  return result;
}

void write_safetensors(const std::string& path, const TensorFile& file) {
  std::unordered_set<std::string_view> names{"__metadata__"};
  for (const auto& [name, tensor] : file.tensors) {
    if (!names.insert(name).second)
      fail<ConfigError>("[", write_op, "] the name ", in_quotes(name), " is given twice, or reserved");
    if (!tensor.defined() || tensor.packed())
      fail<ConfigError>("[", write_op, "] tensor ", in_quotes(name), " is ", tensor.defined() ? "packed" : "undefined");
  }
  std::vector<std::size_t> order(file.tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return size_of(file.tensors[a].tensor.dtype()) > size_of(file.tensors[b].tensor.dtype());
  });
  std::vector<std::uint64_t> begins(file.tensors.size());
  std::uint64_t end = 0;
  for (const std::size_t i : order) {
    const Tensor& t = file.tensors[i].tensor;
    begins[i] = end;
    end += static_cast<std::uint64_t>(t.size() * size_of(t.dtype()));
  }
  const std::string header = header_text(file, begins);
  const std::uint64_t header_bytes = header.size();

  AtomicFile out(write_op, path);
  out.write(std::as_bytes(std::span(&header_bytes, 1)));
  out.write(header);
  for (const std::size_t i : order) {
    const Tensor t = file.tensors[i].tensor.contiguous();
    if (t.size() > 0) out.write({t.bytes(), static_cast<std::size_t>(t.size() * size_of(t.dtype()))});
  }
  out.commit();
}

}  // namespace espalier::io
