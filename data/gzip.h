// Whole files as bytes, unpacked if they are gzip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace espalier::data {

struct ReadOptions {
  std::uint64_t max_bytes = std::uint64_t{4} << 30;  ///< more than this, unpacked, is an error
};

/// The content of a file. One that begins with 1f 8b is gzip (RFC 1952, one or more members) and is unpacked.
/// Errors: IoError if it cannot be read; FormatError, which names the file and the offset in it, for gzip that is cut,
/// damaged, followed by something else, or larger than options.max_bytes. Memory follows what was really unpacked.
std::vector<std::byte> read_file(const std::string& path, ReadOptions options = {});
/// The first `bytes` bytes of that content, or all if there are fewer.
std::vector<std::byte> read_prefix(const std::string& path, std::uint64_t bytes);

}  // namespace espalier::data
