// Args: the arguments of a golden case, a JSON object that is read by name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/core/dims.h"

namespace espalier::golden {

/// A case that the runner, or the library, cannot run yet: counted, not failed. `why` says what is missing.
struct Unsupported {
  std::string why;
};

/// Errors of all readers: FormatError if the key is missing (and has no fallback) or of another type.
class Args {
 public:
  /// An empty object.
  Args();
  /// Errors: FormatError unless `text` is a JSON object.
  static Args parse(const std::string& text);

  /// Present and not null.
  bool has(const std::string& key) const;
  /// Numbers may be the strings "inf" and "-inf".
  double number(const std::string& key) const;
  double number(const std::string& key, double fallback) const { return has(key) ? number(key) : fallback; }
  Index integer(const std::string& key) const;
  Index integer(const std::string& key, Index fallback) const { return has(key) ? integer(key) : fallback; }
  bool flag(const std::string& key, bool fallback = false) const;
  std::string text(const std::string& key) const;
  std::string text(const std::string& key, const std::string& fallback) const {
    return has(key) ? text(key) : fallback;
  }
  bool is_list(const std::string& key) const;
  /// One integer, or a list of them.
  std::vector<Index> integers(const std::string& key) const;
  std::vector<double> numbers(const std::string& key) const;
  Dims dims(const std::string& key) const { return Dims(std::span<const Index>(integers(key))); }
  std::vector<Args> objects(const std::string& key) const;
  Args object(const std::string& key) const;

  /// Throws Unsupported unless the argument is absent or has this value.
  void expect(const std::string& key, double only_value) const;

 private:
  struct Object;
  explicit Args(std::shared_ptr<const Object> object) : object_(std::move(object)) {}
  std::shared_ptr<const Object> object_;
};

/// A JSON list of strings. Errors: FormatError.
std::vector<std::string> parse_strings(const std::string& text);

/// One step that turns a stored tensor into the view a case is about: name, and what follows it.
struct ViewStep {
  std::string name;
  std::vector<Index> numbers;
};
/// The steps of one input. Errors: FormatError.
std::vector<ViewStep> view_steps(const std::string& views, const std::string& input);

}  // namespace espalier::golden
