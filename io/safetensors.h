// safetensors: named tensors and a little text in one file, without code in it.
//
//   [header length: u64, little-endian] [header: JSON, padded with blanks] [values, little-endian, row-major]
//
// The format of huggingface/safetensors, read strictly: a file that two readers could understand differently is
// refused.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/core/tensor.h"

namespace espalier::io {

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// What such a file holds.
struct TensorFile {
  std::vector<NamedTensor> tensors;  ///< in the header's order
  std::map<std::string, std::string> metadata;

  /// The tensor of that name, or null. Cost: a walk over the list.
  const Tensor* find(std::string_view name) const noexcept;
};

struct SafetensorsLimits {
  std::uint64_t header_bytes = 100'000'000;
  std::uint64_t tensors = 1'000'000;
};

/// Types F32, F64, I64, I32, U8, BOOL; at most 8 axes.
/// Errors: IoError; FormatError, which names file, byte, tensor and field, for anything the format forbids: a length or
/// an offset beyond the file, offsets that do not match shape and type, overlaps, holes, bytes behind the last tensor,
/// a key given twice, unknown fields and types, deep or broken JSON, metadata that is no text, bools other than 0
/// and 1. Everything is checked before memory for values is taken. Cost: values are read straight into their tensors.
TensorFile read_safetensors(const std::string& path, SafetensorsLimits limits = {});

/// Writes so that the file at `path` is at every moment either the old or the new one. The header keeps the order of
/// `file.tensors`; values lie sorted by element size, so that each is aligned for readers that map the file.
/// Errors: IoError; ConfigError for a name given twice, an undefined or packed tensor, text that is not UTF-8.
void write_safetensors(const std::string& path, const TensorFile& file);

}  // namespace espalier::io
