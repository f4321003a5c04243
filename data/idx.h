// IDX: the format of MNIST. A tensor as a four-byte magic, big-endian lengths, big-endian values.
#pragma once

#include <string>

#include "espalier/core/tensor.h"
#include "espalier/data/gzip.h"

namespace espalier::data {

/// Reads an IDX file, plain or gzip. Types: u8 -> u8; i8, i16, i32 -> i32; f32; f64.
/// Errors: IoError; FormatError, which names the file and the byte, unless magic, lengths and file size agree exactly.
/// Nothing is allocated on the word of the header alone. Source: LeCun, Cortes, Burges, "The MNIST database".
Tensor read_idx(const std::string& path, ReadOptions options = {});

}  // namespace espalier::data
