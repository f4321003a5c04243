// Numbers from text: comma, tab, blank or otherwise separated.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "espalier/core/tensor.h"
#include "espalier/data/gzip.h"

namespace espalier::data {

struct CsvOptions {
  char separator = ',';              ///< ' ' means any run of blanks and tabs
  bool header = false;               ///< the first line is names, and is left out
  std::vector<Index> columns = {};   ///< those to read, in this order; -1 is the last; empty: all. Others may hold text
  DType dtype = DType::f32;          ///< f32 or f64
  std::optional<double> empty = {};  ///< what stands for an empty field; without it, an error
  std::uint64_t max_bytes = ReadOptions{}.max_bytes;
};

/// A table of numbers [rows, columns], plain or gzip; line ends LF or CRLF, blanks around a number allowed. Decimals
/// have a point whatever the locale; nan and inf are numbers. No rows give [0, columns read or 0].
/// Errors: IoError; FormatError, which names file, line, column and text, for what is no number or too large for the
/// type, rows of different lengths, empty fields and lines, and quotes; ConfigError; DTypeError.
Tensor read_csv(const std::string& path, const CsvOptions& options = {});

}  // namespace espalier::data
