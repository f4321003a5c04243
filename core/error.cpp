#include "espalier/core/error.h"

#include <charconv>
#include <utility>

namespace espalier {
namespace {

thread_local constinit const Label* innermost_label = nullptr;

}  // namespace

void Error::locate(std::string_view module) {
  constexpr std::string_view begins = " (in module ";
  std::string_view text = *text_;
  if (std::exchange(located_, true)) text = text.substr(0, text.rfind(begins));
  text_ = std::make_shared<const std::string>(join(text, begins, module, ")"));
}

Label::Label(std::string_view name) : name_(name), outer_(std::exchange(innermost_label, this)) {}
Label::~Label() { innermost_label = outer_; }
std::string_view Label::innermost() noexcept { return innermost_label ? std::string_view(innermost_label->name_) : ""; }

void append(std::string& text, double part) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, part).ptr;
  text.append(buffer, end);
}

namespace detail {
std::string labelled(std::string text) {
  if (const std::string_view label = Label::innermost(); !label.empty()) {
    text += " (in ";
    text += label;
    text += ")";
  }
  return text;
}
}  // namespace detail
}  // namespace espalier
