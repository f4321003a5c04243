#include "espalier/core/table.h"

#include <algorithm>
#include <charconv>

namespace espalier {
namespace {

/// Characters, not bytes: UTF-8 continuation bytes take no room on the screen.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

Table::Table(std::vector<std::string> header) : header_(std::move(header)) {
  for (std::string& cell : header_) {
    const bool marked = !cell.empty() && cell[0] == '<';
    left_.push_back(marked || left_.empty());
    if (marked) cell.erase(0, 1);
  }
}

std::string Table::to_string() const {
  std::vector<std::size_t> widths(header_.size());
  auto widen = [&](const std::vector<std::string>& cells) {
    for (std::size_t c = 0; c < std::min(cells.size(), widths.size()); ++c)
      widths[c] = std::max(widths[c], width_of(cells[c]));
  };
  widen(header_);
  for (const auto& row : rows_) widen(row);

  std::string text;
  auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (std::size_t c = 0; c < widths.size(); ++c) {
      const std::string cell = c < cells.size() ? cells[c] : "";
      const std::string pad(widths[c] - width_of(cell), ' ');
      out += left_[c] ? cell + pad : pad + cell;
      if (c + 1 < widths.size()) out += "  ";
    }
    out.erase(out.find_last_not_of(' ') + 1);
    text += out + "\n";
  };
  auto rule = [&] {
    std::size_t total = widths.empty() ? 0 : 2 * (widths.size() - 1);
    for (std::size_t w : widths) total += w;
    text += std::string(total, '-') + "\n";
  };
  line(header_);
  rule();
  for (const auto& row : rows_) row.empty() ? rule() : line(row);
  return text;
}

std::string with_decimals(double value, int decimals) {
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, decimals);
  return end.ec == std::errc() ? std::string(text, end.ptr) : "overflow";
}

std::string percent(double share) { return with_decimals(100 * share, 1) + " %"; }

std::string grouped(long long value) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, ",");
  return digits;
}

}  // namespace espalier
