// Files: reading at an offset, and writing so that a reader never sees half a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "espalier/core/error.h"

namespace espalier {

/// `text` in single quotes for an error message: control characters as \xNN, and at most 120 characters of it, for it
/// may come from a file.
std::string in_quotes(std::string_view text);

/// A regular file, open for reading.
class InputFile final {
 public:
  /// `op` begins the error texts and is a string literal.
  /// Errors of all members: IoError, which names the path and what the system said.
  InputFile(const char* op, const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return size_; }  ///< in bytes, when it was opened
  /// Fills `out` from byte `offset` on. A file that became shorter since it was opened is an error.
  void read(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  const char* op_;
  std::string path_;
  int descriptor_;
  std::uint64_t size_ = 0;
};

/// A new content of a file that appears at once and whole: it is written to a temporary file of the same folder, synced
/// to disk, renamed over the target, and the folder is synced. Mode and, where allowed, owner of a replaced file are
/// kept; a symbolic link is followed. Destroyed before commit(), it leaves the target as it was and nothing behind.
class AtomicFile final {
 public:
  /// Errors of all members: IoError, which names the path and what the system said.
  AtomicFile(const char* op, const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();

 private:
  [[noreturn]] void refuse(const char* what, int error) const;
  void open_temporary();
  void keep_mode_and_owner();
  void sync_folder() const;

  const char* op_;
  std::string path_;    // as the user gave it, for error texts
  std::string target_;  // links followed
  std::string folder_;
  std::string temporary_;  // empty: nothing to remove
  int descriptor_ = -1;
};

}  // namespace espalier
