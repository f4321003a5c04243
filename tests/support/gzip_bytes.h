// gzip by hand, so that the tests need no compressor: stored blocks (RFC 1951, 3.2.4) in one member (RFC 1952).
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

namespace espalier::testing {

inline std::uint32_t crc32(const std::string& bytes) {
  std::uint32_t crc = ~std::uint32_t{0};
  for (const char c : bytes) {
    crc ^= static_cast<std::uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

inline std::string little_endian(std::uint64_t value, int bytes) {
  std::string result;
  for (int i = 0; i < bytes; ++i) result += static_cast<char>(value >> (8 * i) & 255);
  return result;
}

inline std::string gzip_bytes(const std::string& content) {
  std::string result("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", 10);
  for (std::size_t at = 0;; at += 65535) {
    const std::size_t n = std::min<std::size_t>(65535, content.size() - at);
    const bool last = at + n == content.size();
    result += last ? '\1' : '\0';
    result += little_endian(n, 2) + little_endian(n ^ 0xffff, 2) + content.substr(at, n);
    if (last) break;
  }
  return result + little_endian(crc32(content), 4) + little_endian(content.size(), 4);
}

}  // namespace espalier::testing
