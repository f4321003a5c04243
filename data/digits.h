// Handwritten digits, 8 x 8 pixels: small enough to ship with a program.
#pragma once

#include <string>

#include "espalier/data/dataset.h"

namespace espalier::data {

/// The rows of a table of 64 pixels (0 to 16) and a class (0 to 9), plain or gzip: x f32 [N, 64], pixel / 16, and
/// y i64 [N]. Errors: IoError; FormatError, which names row and column.
/// Source: Alpaydin, Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
Dataset digits(const std::string& path);
/// The same in two parts: the rows with index % 5 == 4 are the test rows.
TrainTest split_digits(const Dataset& digits);

}  // namespace espalier::data
