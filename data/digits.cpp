#include "espalier/data/digits.h"

#include <cmath>

#include "espalier/core/file.h"
#include "espalier/data/csv.h"

namespace espalier::data {

Dataset digits(const std::string& path) {
  constexpr Index pixels = 64;
  constexpr float brightest = 16, last_class = 9;
  const Tensor table = read_csv(path);
  if (table.dim(1) != pixels + 1)
    fail<FormatError>("[digits] ", in_quotes(path), " has ", table.dim(1), " columns, not ", pixels,
                      " pixels and a class");
  const Index n = table.dim(0);
  Tensor x = Tensor::empty({n, pixels});
  Tensor y = Tensor::empty({n}, DType::i64);
  const float* from = table.data<float>();
  float* to = x.write<float>("digits");
  Index* label = y.write<Index>("digits");
  for (Index row = 0; row < n; ++row, from += pixels + 1, to += pixels) {
    for (Index column = 0; column <= pixels; ++column) {
      const float value = from[column];
      const bool is_class = column == pixels;
      const bool valid = value >= 0 && value <= (is_class ? last_class : brightest) && value == std::trunc(value);
      if (!valid)
        fail<FormatError>("[digits] ", in_quotes(path), " row ", row, ", column ", column, ": ",
                          static_cast<double>(value), is_class ? " is no class 0 to 9" : " is no pixel 0 to 16");
      if (!is_class) to[column] = value / brightest;
    }
    label[row] = static_cast<Index>(from[pixels]);
  }
  return {x, y};
}

TrainTest split_digits(const Dataset& digits) { return split_every(digits, 5, 4); }

}  // namespace espalier::data
