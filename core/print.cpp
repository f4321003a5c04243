// Printing tensors as NumPy does: aligned columns, long axes cut to their ends.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ostream>

#include "espalier/core/tensor.h"

namespace espalier {
namespace {

constexpr Index full_print_limit = 1000;
constexpr Index edge = 3;  // elements shown at either end of a cut axis

std::string number(double value) {
  char text[32];
  if (std::isnan(value))
    return "nan";  // printf would show its sign
  else if (std::isfinite(value) && value == std::trunc(value) && std::abs(value) < 1e6)
    std::snprintf(text, sizeof text, "%.0f.", value);
  else
    std::snprintf(text, sizeof text, "%.4g", value);
  for (char* c = text; *c != 0; ++c)
    if (*c == ',') *c = '.';  // a locale may have chosen the comma
  return text;
}

/// Positions of an axis of length n that are printed; -1 stands for the dots.
std::vector<Index> shown(Index n, bool cut) {
  std::vector<Index> positions;
  for (Index i = 0; i < n; ++i) {
    if (cut && n > 2 * edge && i == edge) {
      positions.push_back(-1);
      i = n - edge;
    }
    positions.push_back(i);
  }
  return positions;
}

class Printer {
 public:
  /// Rows but the first are indented by `indent`, to stand below it.
  Printer(const Tensor& tensor, std::size_t indent) : cut_(tensor.size() > full_print_limit), indent_(indent) {
    if (tensor.size() == 0) {  // however long its other axes
      text = "[]";
      return;
    }
    collect(tensor);
    for (const std::string& cell : cells_) width_ = std::max(width_, cell.size());
    emit(tensor, 0);
  }
  std::string text;

 private:
  static std::string cell(const Tensor& scalar) {
    return dispatch(scalar.dtype(), [&]<class T>() -> std::string {
      const T value = *scalar.data<T>();
      if constexpr (std::is_same_v<T, bool>)
        return value ? "true" : "false";
      else if constexpr (std::is_floating_point_v<T>)
        return number(static_cast<double>(value));
      else
        return std::to_string(value);
    });
  }
  void collect(const Tensor& tensor) {
    if (tensor.rank() == 0) {
      cells_.push_back(cell(tensor));
      return;
    }
    for (Index i : shown(tensor.dim(0), cut_))
      if (i >= 0) collect(tensor.select(0, i));
  }
  void emit(const Tensor& tensor, std::size_t depth) {
    if (tensor.rank() == 0) {
      const std::string& own = cells_[next_++];
      text.append(width_ - own.size(), ' ').append(own);
      return;
    }
    text += '[';
    bool first = true;
    for (Index i : shown(tensor.dim(0), cut_)) {
      if (!first) {
        text += ',';
        if (tensor.rank() == 1)
          text += ' ';
        else
          text.append(static_cast<std::size_t>(tensor.rank() - 1), '\n').append(indent_ + depth + 1, ' ');
      }
      first = false;
      if (i < 0)
        text += "...";
      else
        emit(tensor.select(0, i), depth + 1);
    }
    text += ']';
  }

  bool cut_;
  std::size_t indent_;
  std::vector<std::string> cells_;
  std::size_t width_ = 0, next_ = 0;
};

}  // namespace

std::string Tensor::to_string() const {
  if (!defined()) return "tensor(undefined)";
  std::string text = "tensor(";
  if (packed())
    text += "packed";
  else
    text += Printer(*this, text.size()).text;
  append(text, std::string_view(", shape "));
  append(text, shape_);
  text += ", ";
  append(text, type_);
  return text + ")";
}

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) { return out << tensor.to_string(); }

}  // namespace espalier
