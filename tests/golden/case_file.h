// Case: one golden file, and Checker: what a run of it gave against what it should give.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "espalier/core/tensor.h"
#include "tests/golden/args.h"

namespace espalier::golden {

/// A precision that a case holds in, and how far a result may be off: |got - expected| <= atol + rtol |expected|.
struct Precision {
  DType type;
  double rtol, atol;
};

class Case {
 public:
  /// Errors: IoError, FormatError.
  explicit Case(const std::filesystem::path& file);

  std::string name, kind, op;  ///< name = path within the collection, without the ending
  Args args;
  std::vector<Precision> precisions;
  bool raises = false;  ///< the call must report an error

  /// A metadata entry, or the fallback. Errors: FormatError if there is neither.
  std::string metadata(const std::string& key) const;
  std::string metadata(const std::string& key, const std::string& fallback) const;
  Index count(const std::string& key) const;  ///< a metadata entry that is a number
  bool has(const std::string& tensor) const { return tensors_.contains(tensor); }
  /// As stored. Errors: FormatError if there is none of this name.
  const Tensor& stored(const std::string& tensor) const;
  /// As stored, floating point converted to `type`.
  Tensor get(const std::string& tensor, DType type) const;
  /// Names of the tensors that a run must reproduce: out.*, grad.*, grad0.*, final.*
  std::set<std::string> expected() const;

 private:
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Compares results with a case's expected tensors, in one precision.
class Checker {
 public:
  Checker(const Case& golden, Precision precision) : golden_(golden), precision_(precision), open_(golden.expected()) {}

  /// Errors are kept, not thrown: shape, element type, and the largest error with its place.
  void compare(const std::string& tensor, const Tensor& got);
  /// The same for a single number.
  void compare(const std::string& tensor, double got) { compare(tensor, Tensor::scalar(got, DType::f64)); }
  /// An expected tensor that the format leaves optional.
  void skip(const std::string& tensor) { open_.erase(tensor); }
  void report(const std::string& tensor, const std::string& what);

  /// One line per failure, those for expected tensors that nobody compared among them.
  std::vector<std::string> failures() const;

 private:
  const Case& golden_;
  Precision precision_;
  std::set<std::string> open_;
  std::vector<std::string> failures_;
};

}  // namespace espalier::golden
