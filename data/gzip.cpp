#include "espalier/data/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <new>
#include <span>

#include "espalier/core/error.h"
#include "espalier/core/file.h"

namespace espalier::data {
namespace {

constexpr const char* op = "read_file";
constexpr std::uint64_t largest_ratio = 1032;  // DEFLATE cannot do better: 258 bytes for two bits

enum class Beyond { refuse, stop };  // what to do where the limit is reached

/// Bytes of a file, a buffer at a time.
class Source final {
 public:
  explicit Source(const InputFile& file) : file_(file) {}
  /// Bytes not yet consumed; refilled when there are none. Empty at the end of the file.
  std::span<std::byte> peek() {
    if (unread_.empty() && next_ < file_.size()) {
      unread_ = std::span(buffer_).first(std::min<std::uint64_t>(buffer_.size(), file_.size() - next_));
      file_.read(next_, unread_);
      next_ += unread_.size();
    }
    return unread_;
  }
  void consume(std::size_t bytes) { unread_ = unread_.subspan(bytes); }
  std::uint64_t offset() const { return next_ - unread_.size(); }

 private:
  const InputFile& file_;
  std::uint64_t next_ = 0;
  std::span<std::byte> unread_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(std::size_t{1} << 16);
};

/// zlib's inflate, released on every way out.
struct Inflater final {
  z_stream stream{};
  Inflater() {
    constexpr int gzip_only = 16 + MAX_WBITS;
    if (inflateInit2(&stream, gzip_only) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
};

template <class... Parts>
[[noreturn]] void refuse(const InputFile& file, std::uint64_t offset, const Parts&... parts) {
  fail<FormatError>("[", op, "] ", in_quotes(file.path()), " at byte ", offset, ": ", parts...);
}

[[noreturn]] void refuse_size(const InputFile& file, std::uint64_t offset, std::uint64_t limit) {
  refuse(file, offset, "holds more than ", limit, " bytes. Hint: raise .max_bytes if that is meant");
}

/// Unpacks the member that begins at the source's place. False if the limit was reached and that means to stop.
bool unpack_member(const InputFile& file, Source& source, std::uint64_t limit, Beyond beyond,
                   std::vector<std::byte>& out) {
  Inflater inflater;
  z_stream& stream = inflater.stream;
  std::vector<std::byte> piece(std::size_t{1} << 16);
  for (int status = Z_OK; status != Z_STREAM_END;) {
    const std::span<std::byte> in = source.peek();
    stream.next_in = reinterpret_cast<Bytef*>(in.data());
    stream.avail_in = static_cast<uInt>(in.size());
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(piece.size());
    status = inflate(&stream, Z_NO_FLUSH);
    source.consume(in.size() - stream.avail_in);
    const std::uint64_t made = piece.size() - stream.avail_out;
    const std::uint64_t room = limit - out.size();
    out.insert(out.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(std::min(made, room)));
    if (made >= room && beyond == Beyond::stop) return false;
    if (made > room) refuse_size(file, source.offset(), limit);
    if (status == Z_MEM_ERROR) throw std::bad_alloc();
    if (status == Z_BUF_ERROR) refuse(file, source.offset(), "the gzip stream is cut off");
    if (status != Z_OK && status != Z_STREAM_END)
      refuse(file, source.offset(), "damaged gzip stream (", stream.msg ? stream.msg : "unreadable", ")");
  }
  return true;
}

std::vector<std::byte> unpack(const InputFile& file, std::uint64_t limit, Beyond beyond) {
  std::vector<std::byte> out;
  if (file.size() >= 18) {  // the last member's length modulo 2^32: a hint, believed only where DEFLATE could reach it
    std::array<std::byte, 4> trailer{};
    file.read(file.size() - trailer.size(), trailer);
    std::uint64_t hint = 0;
    for (std::size_t i = trailer.size(); i-- > 0;) hint = hint << 8 | static_cast<std::uint64_t>(trailer[i]);
    if (hint <= limit && hint / largest_ratio <= file.size()) out.reserve(hint);
  }
  Source source(file);
  while (unpack_member(file, source, limit, beyond, out)) {
    const std::span<const std::byte> rest = source.peek();
    if (rest.empty()) break;
    // Another member follows at once, or nothing does. (Only one byte may be left in the buffer: inflate looks on.)
    if (rest[0] != std::byte{0x1f}) refuse(file, source.offset(), "the gzip stream has ended, but the file goes on");
  }
  return out;
}

std::vector<std::byte> read(const std::string& path, std::uint64_t limit, Beyond beyond) {
  const InputFile file(op, path);
  std::array<std::byte, 2> magic{};
  if (file.size() >= magic.size()) file.read(0, magic);
  if (magic == std::array{std::byte{0x1f}, std::byte{0x8b}}) return unpack(file, limit, beyond);
  if (file.size() > limit && beyond == Beyond::refuse) refuse_size(file, limit, limit);
  std::vector<std::byte> out(std::min(file.size(), limit));
  file.read(0, out);
  return out;
}

}  // namespace

std::vector<std::byte> read_file(const std::string& path, ReadOptions options) {
  return read(path, options.max_bytes, Beyond::refuse);
}

std::vector<std::byte> read_prefix(const std::string& path, std::uint64_t bytes) {
  return read(path, bytes, Beyond::stop);
}

}  // namespace espalier::data
