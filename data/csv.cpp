#include "espalier/data/csv.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>

#include "espalier/core/file.h"

namespace espalier::data {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

/// Walks over the lines of a text.
class Lines final {
 public:
  explicit Lines(std::string_view text) : rest_(text) {
    if (rest_.starts_with("\xEF\xBB\xBF")) rest_.remove_prefix(3);  // a UTF-8 byte order mark
  }
  bool next(std::string_view& line) {
    if (rest_.empty()) return false;
    const std::size_t end = rest_.find('\n');
    line = rest_.substr(0, end);
    rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number_;
    return true;
  }
  /// From 1.
  Index number() const { return number_; }
  bool only_blank_left() const { return rest_.find_first_not_of(" \t\r\n") == std::string_view::npos; }

 private:
  std::string_view rest_;
  Index number_ = 0;
};

void split(std::string_view line, char separator, std::vector<std::string_view>& fields) {
  fields.clear();
  if (separator == ' ') {
    for (std::size_t begin = line.find_first_not_of(" \t"); begin != std::string_view::npos;) {
      const std::size_t end = std::min(line.find_first_of(" \t", begin), line.size());
      fields.push_back(line.substr(begin, end - begin));
      begin = line.find_first_not_of(" \t", end);
    }
    return;
  }
  for (std::size_t begin = 0;;) {
    const std::size_t end = line.find(separator, begin);
    fields.push_back(trimmed(line.substr(begin, end == std::string_view::npos ? end : end - begin)));
    if (end == std::string_view::npos) return;
    begin = end + 1;
  }
}

enum class Verdict { number, not_a_number, too_large };

/// The number nearest to the text. What is too small for the type is 0, as rounding would have it.
template <class T>
Verdict parse(std::string_view text, T& value) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::invalid_argument || end != text.data() + text.size()) return Verdict::not_a_number;
  if (error != std::errc::result_out_of_range) return Verdict::number;
  if constexpr (std::is_same_v<T, float>) {
    double wide = 0;
    if (const Verdict verdict = parse(text, wide); verdict != Verdict::number) return verdict;
    if (std::abs(wide) > static_cast<double>(std::numeric_limits<float>::max())) return Verdict::too_large;
    value = static_cast<float>(wide);
    return Verdict::number;
  } else {
    const std::size_t exponent = text.find_first_of("eE");
    const bool small = exponent == std::string_view::npos ? text.find_first_of("123456789") > text.find('.')
                                                          : text.substr(exponent + 1).starts_with('-');
    if (!small) return Verdict::too_large;
    value = 0;
    return Verdict::number;
  }
}

template <class T>
class Table final {
 public:
  Table(const std::string& path, const CsvOptions& options) : path_(path), options_(options) {}

  Tensor read(std::string_view text) {
    Lines lines(text);
    std::string_view line;
    if (options_.header) lines.next(line);
    while (lines.next(line)) {
      line_ = lines.number();
      if (trimmed(line).empty()) {
        if (lines.only_blank_left()) break;
        // A table of one column may have an empty field there.
        if (width_ != 1 || !options_.empty) refuse(0, "an empty line within the table");
      }
      split(line, options_.separator, fields_);
      add_row();
    }
    const auto width = static_cast<Index>(rows_ > 0 ? columns_.size() : options_.columns.size());
    return Tensor::from(std::span<const T>(values_), {rows_, width});
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(std::size_t column, const Parts&... parts) const {
    if (column == 0) fail<FormatError>("[read_csv] ", in_quotes(path_), " line ", line_, ": ", parts...);
    fail<FormatError>("[read_csv] ", in_quotes(path_), " line ", line_, ", column ", column, ": ", parts...);
  }

  void add_row() {
    if (rows_ == 0) {
      width_ = fields_.size();
      choose_columns();
    }
    if (fields_.size() != width_)
      refuse(0, fields_.size(), " fields, where the first row has ", width_, ". Hint: is the separator right? It is ",
             in_quotes(std::string_view(&options_.separator, 1)));
    for (const std::size_t column : columns_) values_.push_back(number(column));
    ++rows_;
  }

  void choose_columns() {
    const auto width = static_cast<Index>(width_);
    for (const Index wanted : options_.columns) {
      if (wanted < -width || wanted >= width)
        fail<ConfigError>("[read_csv] .columns asks for column ", wanted, ", but ", in_quotes(path_), " has ", width);
      columns_.push_back(static_cast<std::size_t>(wanted < 0 ? wanted + width : wanted));
    }
    if (options_.columns.empty())
      for (std::size_t column = 0; column < width_; ++column) columns_.push_back(column);
  }

  T number(std::size_t column) const {
    const std::string_view field = fields_[column];
    if (field.empty()) {
      if (options_.empty) return static_cast<T>(*options_.empty);
      refuse(column + 1, "an empty field. Hint: .empty = NAN gives it a value");
    }
    if (field.find('"') != std::string_view::npos)
      refuse(column + 1, "quoted fields are not read as numbers: ", in_quotes(field));
    T value = 0;
    switch (parse(field, value)) {
      case Verdict::number:
        return value;
      case Verdict::too_large:
        refuse(column + 1, "too large for ", dtype_of<T>, ": ", in_quotes(field));
      case Verdict::not_a_number:
        break;
    }
    refuse(column + 1, "not a number: ", in_quotes(field),
           rows_ == 0 && !options_.header ? ". Hint: .header = true leaves out a line of names" : "");
  }

  const std::string& path_;
  const CsvOptions& options_;
  std::vector<std::string_view> fields_;
  std::vector<std::size_t> columns_;  // those read
  std::size_t width_ = 0;             // fields of the first row
  std::vector<T> values_;
  Index rows_ = 0;
  Index line_ = 0;
};

}  // namespace

Tensor read_csv(const std::string& path, const CsvOptions& options) {
  constexpr std::string_view of_numbers("0123456789+-.\"\r\n\0", 17);
  if (of_numbers.find(options.separator) != std::string_view::npos)
    fail<ConfigError>("[read_csv] ", in_quotes(std::string_view(&options.separator, 1)), " cannot separate numbers");
  const std::vector<std::byte> bytes = read_file(path, {.max_bytes = options.max_bytes});
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return dispatch_floating("read_csv", options.dtype, [&]<class T>() { return Table<T>(path, options).read(text); });
}

}  // namespace espalier::data
