// Table: text in aligned columns.
#pragma once

#include <string>
#include <vector>

namespace espalier {

/// The first column is set to the left, the others to the right, unless a header cell begins with '<'.
class Table final {
 public:
  explicit Table(std::vector<std::string> header);
  /// Missing cells are empty. A row without cells is a rule.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string to_string() const;

 private:
  std::vector<std::string> header_;
  std::vector<bool> left_;
  std::vector<std::vector<std::string>> rows_;
};

/// A number with this many decimals, with a point whatever the locale.
std::string with_decimals(double value, int decimals);
/// "91.3 %" of the share 0.913
std::string percent(double share);
/// "267,200"
std::string grouped(long long value);

}  // namespace espalier
