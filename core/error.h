// Error: the exceptions of Espalier, and how their texts are put together.
//
// A text reads `[op] what is wrong, with both shapes. Hint: what to do.`; where the user has set a Label it ends with
// the innermost one. Checks stay on in release builds and cost one compare: the throwing part is out of line and cold.
#pragma once

#include <concepts>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace espalier {

/// Signed count, offset or axis length, in elements unless said otherwise.
using Index = std::int64_t;

/// Base of everything Espalier throws (memory exhaustion is std::bad_alloc).
class Error : public std::exception {
 public:
  explicit Error(std::string text) : text_(std::make_shared<const std::string>(std::move(text))) {}
  const char* what() const noexcept override { return text_->c_str(); }
  /// Names the module it was raised in, at the end of the text, in place of a name given before.
  void locate(std::string_view module);

 private:
  std::shared_ptr<const std::string> text_;  // shared, for copying an exception must not throw
  bool located_ = false;
};
/// Shapes do not fit each other or the operation.
class ShapeError final : public Error {
  using Error::Error;
};
/// An element type other than the one needed. Types are never promoted silently.
class DTypeError final : public Error {
  using Error::Error;
};
/// An index, label or axis outside its range.
class IndexError final : public Error {
  using Error::Error;
};
/// The tape was used in a way that has no meaning: backward twice, a value of another tape, a changed saved tensor.
class GradError final : public Error {
  using Error::Error;
};
/// An option, a module or a pipeline that cannot work as set up.
class ConfigError final : public Error {
  using Error::Error;
};
/// The operating system refused to read or write.
class IoError final : public Error {
  using Error::Error;
};
/// A file whose contents break its format.
class FormatError final : public Error {
  using Error::Error;
};
/// A NaN or an infinity where the policy forbids it.
class NonFiniteError final : public Error {
  using Error::Error;
};

/// Names what the code in this scope works on; error texts thrown meanwhile on this thread end with the innermost one.
///
///   Label label("encoder.2");
class [[nodiscard]] Label {
 public:
  explicit Label(std::string_view name);
  ~Label();
  Label(const Label&) = delete;
  Label& operator=(const Label&) = delete;

  /// The innermost label of this thread, empty if there is none.
  static std::string_view innermost() noexcept;

 private:
  std::string name_;
  const Label* outer_;
};

/// Parts an error text may be made of. A type of its own joins by declaring append(std::string&, const T&) beside it.
inline void append(std::string& text, std::string_view part) { text += part; }
void append(std::string& text, double part);  ///< shortest form that reads back to the same number
template <std::same_as<bool> T>  // a template, for a string literal would rather be a bool than a string_view
void append(std::string& text, T part) {
  text += part ? "true" : "false";
}
template <std::integral T>
requires(!std::same_as<T, bool>) void append(std::string& text, T part) { text += std::to_string(part); }

/// The parts, joined.
template <class... Parts>
[[gnu::cold, gnu::noinline]] std::string join(const Parts&... parts) {
  std::string text;
  (append(text, parts), ...);
  return text;
}

namespace detail {
/// `text`, with the innermost label behind it.
std::string labelled(std::string text);
}  // namespace detail

/// Throws E with the parts joined and the innermost Label behind them.
template <std::derived_from<Error> E, class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void fail(const Parts&... parts) {
  throw E(detail::labelled(join(parts...)));
}

}  // namespace espalier
