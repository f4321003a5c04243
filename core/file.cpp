#include "espalier/core/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>

namespace espalier {
namespace {

std::string system_text(int error) { return std::generic_category().message(error); }

[[noreturn]] void refuse_file(const char* op, const char* what, const std::string& path, int error) {
  fail<IoError>("[", op, "] ", what, " ", in_quotes(path), ": ", system_text(error));
}

// The largest request that the system takes at once is a little below 2 GiB.
constexpr std::size_t largest_request = std::size_t{1} << 30;

}  // namespace

std::string in_quotes(std::string_view text) {
  constexpr std::size_t most = 120;
  constexpr const char* digits = "0123456789abcdef";
  std::string result = "'";
  for (const char c : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      result += "\\x";
      result += digits[byte >> 4];
      result += digits[byte & 15];
    } else {
      result += c;
    }
  }
  if (text.size() > most) result += "...";
  return result += "'";
}

// --- InputFile -------------------------------------------------------------------------------------------------------

InputFile::InputFile(const char* op, const std::string& path)
    : op_(op), path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_ < 0) refuse_file(op, "cannot open", path, errno);
  struct stat info;
  const bool known = ::fstat(descriptor_, &info) == 0;
  const int error = known ? (S_ISDIR(info.st_mode) ? EISDIR : EINVAL) : errno;
  if (!known || !S_ISREG(info.st_mode)) {
    ::close(descriptor_);
    refuse_file(op, known ? "not a regular file:" : "cannot look at", path, error);
  }
  size_ = static_cast<std::uint64_t>(info.st_size);
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got =
        ::pread(descriptor_, out.data(), std::min(out.size(), largest_request), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse_file(op_, "cannot read", path_, errno);
    if (got == 0)
      fail<IoError>("[", op_, "] ", in_quotes(path_), " became shorter while it was read, at byte ", offset);
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

// --- AtomicFile ------------------------------------------------------------------------------------------------------

AtomicFile::AtomicFile(const char* op, const std::string& path) : op_(op), path_(path), target_(path) {
  const std::unique_ptr<char, decltype(&::free)> resolved(::realpath(path.c_str(), nullptr), &::free);
  if (resolved) target_ = resolved.get();
  const std::size_t slash = target_.rfind('/');
  folder_ = slash == std::string::npos ? "." : slash == 0 ? "/" : target_.substr(0, slash);
  struct stat info;
  if (::stat(target_.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) refuse("cannot write", EISDIR);
    if (!S_ISREG(info.st_mode)) fail<IoError>("[", op_, "] ", in_quotes(path_), " is not a regular file");
  }
  open_temporary();
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::refuse(const char* what, int error) const { refuse_file(op_, what, path_, error); }

void AtomicFile::open_temporary() {
  // Exclusive creation decides between threads, and steps over what a killed process of this number left behind.
  for (int attempt = 0;; ++attempt) {
    std::string name = join(folder_, "/.espalier-", ::getpid(), "-", attempt, ".tmp");
    descriptor_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ >= 0) {
      temporary_ = std::move(name);
      return;
    }
    if (errno != EEXIST && errno != EINTR) refuse("cannot write into the folder of", errno);
  }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_, bytes.data(), std::min(bytes.size(), largest_request));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) refuse("cannot write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
}

void AtomicFile::keep_mode_and_owner() {
  struct stat old, now;
  if (::stat(target_.c_str(), &old) != 0 || ::fstat(descriptor_, &now) != 0) return;  // nothing to replace
  if (old.st_uid != now.st_uid || old.st_gid != now.st_gid) {
    // Only root may give files away; others keep the group where they may, and go on where not.
    if (::fchown(descriptor_, old.st_uid, old.st_gid) != 0)
      static_cast<void>(!::fchown(descriptor_, static_cast<uid_t>(-1), old.st_gid));
  }
  if (::fchmod(descriptor_, old.st_mode & 07777) != 0) refuse("cannot keep the mode of", errno);
}

void AtomicFile::commit() {
  keep_mode_and_owner();
  while (::fsync(descriptor_) != 0)
    if (errno != EINTR) refuse("cannot sync", errno);
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0 && errno != EINTR) refuse("cannot close", errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) refuse("cannot rename into", errno);
  temporary_.clear();
  sync_folder();
}

void AtomicFile::sync_folder() const {
  const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;  // a folder that may be written but not read
  const int error = ::fsync(folder) == 0 ? 0 : errno;
  ::close(folder);
  if (error != 0 && error != EINVAL) refuse("written, but cannot sync the folder of", error);
}

}  // namespace espalier
