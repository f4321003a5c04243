#include "tests/golden/case_file.h"

#include <cmath>
#include <cstdio>

#include "espalier/io/safetensors.h"

namespace espalier::golden {
namespace {

bool starts_with_any(const std::string& name, std::initializer_list<const char*> prefixes) {
  for (const char* prefix : prefixes)
    if (name.starts_with(prefix)) return true;
  return false;
}

std::string place(Index flat, const Shape& shape) {
  Dims position = shape;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    position[axis] = flat % shape[axis];
    flat /= shape[axis];
  }
  std::string text;
  append(text, position);
  return text;
}

std::string digits(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

/// By how much `got` misses `expected`: at most 1 if it is within the tolerance, infinite if nothing would forgive it.
double miss(double got, double expected, double allowed) {
  if (std::isnan(expected) || std::isnan(got)) return std::isnan(expected) && std::isnan(got) ? 0 : INFINITY;
  if (std::isinf(expected) || std::isinf(got)) return got == expected ? 0 : INFINITY;
  const double error = std::abs(got - expected);
  if (error <= allowed) return 0;
  return allowed > 0 ? error / allowed : INFINITY;
}

}  // namespace

Case::Case(const std::filesystem::path& file) {
  io::TensorFile content = io::read_safetensors(file.string());
  for (io::NamedTensor& entry : content.tensors) tensors_.emplace(entry.name, std::move(entry.tensor));
  metadata_ = std::move(content.metadata);
  if (metadata("format", "") != "espalier-golden-1")
    fail<FormatError>("[golden] ", file.string(), " is no golden case: its metadata lack format = espalier-golden-1");
  name = metadata("case");
  kind = metadata("kind");
  op = metadata("op");
  args = Args::parse(metadata("args"));
  raises = metadata("raises", "") == "true";

  const Args tolerances = Args::parse(metadata("tol"));
  std::vector<std::string> types;
  if (const std::string list = metadata("dtypes", ""); !list.empty()) {
    types = parse_strings(list);
  } else {
    for (const char* type : {"f32", "f64"})
      if (tolerances.has(type)) types.push_back(type);
  }
  for (const std::string& type : types) {
    if (type != "f32" && type != "f64") fail<FormatError>("[golden] ", name, ": no precision ", type);
    const Args tolerance = tolerances.object(type);
    precisions.push_back({type == "f32" ? DType::f32 : DType::f64, tolerance.number("rtol"), tolerance.number("atol")});
  }
  if (precisions.empty()) fail<FormatError>("[golden] ", name, " names no precision to run in");
}

std::string Case::metadata(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) fail<FormatError>("[golden] ", name, " has no metadata entry ", key);
  return found->second;
}

std::string Case::metadata(const std::string& key, const std::string& fallback) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? fallback : found->second;
}

Index Case::count(const std::string& key) const { return Args::parse("{\"n\":" + metadata(key) + "}").integer("n"); }

const Tensor& Case::stored(const std::string& tensor) const {
  const auto found = tensors_.find(tensor);
  if (found == tensors_.end()) fail<FormatError>("[golden] ", name, " has no tensor ", tensor);
  return found->second;
}

Tensor Case::get(const std::string& tensor, DType type) const {
  const Tensor& raw = stored(tensor);
  return is_floating(raw.dtype()) ? raw.to(type) : raw;
}

std::set<std::string> Case::expected() const {
  std::set<std::string> names;
  for (const auto& [tensor, value] : tensors_)
    if (starts_with_any(tensor, {"out.", "grad.", "grad0.", "final."})) names.insert(tensor);
  return names;
}

void Checker::report(const std::string& tensor, const std::string& what) {
  open_.erase(tensor);
  failures_.push_back(tensor + ", " + name_of(precision_.type) + ": " + what);
}

void Checker::compare(const std::string& tensor, const Tensor& got) {
  open_.erase(tensor);
  const Tensor& expected = golden_.stored(tensor);
  if (!got.defined()) return report(tensor, "undefined");
  std::string text;
  if (got.shape() != expected.shape()) {
    append(text, got.shape());
    text += ", expected ";
    append(text, expected.shape());
    return report(tensor, "shape " + text);
  }
  const bool exact = !is_floating(expected.dtype());
  if (is_floating(got.dtype()) == exact)
    return report(tensor,
                  std::string("element type ") + name_of(got.dtype()) + ", expected " + name_of(expected.dtype()));

  const std::vector<double> a = got.to(DType::f64).to_vector<double>();
  const std::vector<double> b = expected.to(DType::f64).to_vector<double>();
  std::size_t wrong = 0, worst = 0;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double m = miss(a[i], b[i], exact ? 0 : precision_.atol + precision_.rtol * std::abs(b[i]));
    if (m > 0) ++wrong;
    if (m > largest) largest = m, worst = i;
  }
  if (wrong == 0) return;
  const double allowed = exact ? 0 : precision_.atol + precision_.rtol * std::abs(b[worst]);
  report(tensor, std::to_string(wrong) + " of " + std::to_string(a.size()) + " wrong; largest error at " +
                     place(static_cast<Index>(worst), got.shape()) + ": got " + digits(a[worst]) + ", expected " +
                     digits(b[worst]) + ", error " + digits(std::abs(a[worst] - b[worst])) + ", allowed " +
                     digits(allowed));
}

std::vector<std::string> Checker::failures() const {
  std::vector<std::string> all = failures_;
  for (const std::string& tensor : open_)
    all.push_back(tensor + ", " + name_of(precision_.type) + ": expected, but the runner produced none");
  return all;
}

}  // namespace espalier::golden
