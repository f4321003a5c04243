#include "espalier/data/idx.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <vector>

#include "espalier/core/file.h"
#include "espalier/core/parallel.h"

namespace espalier::data {
namespace {

struct Header {
  unsigned type = 0;
  Shape shape;
  std::size_t bytes = 0;          // of the header itself
  std::uint64_t value_bytes = 0;  // of all values
};

template <class... Parts>
[[noreturn]] void refuse(const std::string& path, std::size_t offset, const Parts&... parts) {
  fail<FormatError>("[read_idx] ", in_quotes(path), " at byte ", offset, ": ", parts...);
}

std::uint64_t bytes_of_type(const std::string& path, unsigned type) {
  switch (type) {
    case 0x08:
    case 0x09:
      return 1;
    case 0x0B:
      return 2;
    case 0x0C:
    case 0x0D:
      return 4;
    case 0x0E:
      return 8;
    default:
      refuse(path, 2, "element type ", type, " is none of 8 (u8), 9 (i8), 11 (i16), 12 (i32), 13 (f32), 14 (f64)");
  }
}

template <class U>
U big_endian(const std::byte* bytes) {
  U value = 0;
  for (std::size_t i = 0; i < sizeof(U); ++i) value = static_cast<U>(value << 8 | static_cast<U>(bytes[i]));
  return value;
}

Header parse_header(const std::string& path, std::span<const std::byte> start) {
  if (start.size() < 4) refuse(path, start.size(), "the file ends within the magic number");
  if (start[0] != std::byte{0} || start[1] != std::byte{0})
    refuse(path, 0, "this is no IDX file: its first two bytes must be 0");
  Header header;
  header.type = static_cast<unsigned>(start[2]);
  header.value_bytes = bytes_of_type(path, header.type);
  const auto rank = static_cast<std::size_t>(start[3]);
  if (rank < 1 || rank > Dims::max_rank) refuse(path, 3, rank, " dimensions; 1 to ", Dims::max_rank, " are possible");
  header.bytes = 4 + 4 * rank;
  if (start.size() < header.bytes) refuse(path, start.size(), "the file ends within the ", rank, " lengths");
  for (std::size_t axis = 0; axis < rank; ++axis) {
    const Index length = big_endian<std::uint32_t>(&start[4 + 4 * axis]);
    header.shape.push_back(length);
  }
  // An empty tensor's other lengths may not overflow either: its strides are their product.
  std::uint64_t product = header.value_bytes;
  for (const Index length : header.shape)
    if (__builtin_mul_overflow(product, static_cast<std::uint64_t>(std::max<Index>(length, 1)), &product) ||
        product > std::uint64_t{1} << 62)
      refuse(path, 4, "the size of ", header.shape, " overflows");
  header.value_bytes *= static_cast<std::uint64_t>(count(header.shape));
  return header;
}

/// Values of type In, stored big-endian as U, as tensor elements of type Out.
template <class Out, class In, class U>
Tensor convert(const Header& header, const std::byte* values) {
  Tensor result = Tensor::empty(header.shape, dtype_of<Out>);
  Out* out = result.write<Out>("read_idx");
  parallel_for(result.size(), Index{1} << 16, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      out[i] = static_cast<Out>(std::bit_cast<In>(big_endian<U>(values + static_cast<std::size_t>(i) * sizeof(U))));
  });
  return result;
}

}  // namespace

Tensor read_idx(const std::string& path, ReadOptions options) {
  // The header first, so that a packed file is not unpacked any further than it says.
  constexpr std::size_t largest_header = 4 + 4 * Dims::max_rank;
  const Header header = parse_header(path, read_prefix(path, largest_header));
  const std::uint64_t whole = header.bytes + header.value_bytes;
  if (whole > options.max_bytes)
    refuse(path, 4, "its header asks for ", whole, " bytes, more than the limit of ", options.max_bytes,
           ". Hint: raise .max_bytes if that is meant");
  const std::vector<std::byte> content = read_prefix(path, whole + 1);
  if (content.size() < whole)
    refuse(path, content.size(), "the file ends here; its header asks for ", header.shape, ", ", whole, " bytes");
  if (content.size() > whole)
    refuse(path, whole, "the file goes on behind the values of ", header.shape, " that its header asks for");
  const std::byte* values = content.data() + header.bytes;
  switch (header.type) {
    case 0x08:
      return convert<std::uint8_t, std::uint8_t, std::uint8_t>(header, values);
    case 0x09:
      return convert<std::int32_t, std::int8_t, std::uint8_t>(header, values);
    case 0x0B:
      return convert<std::int32_t, std::int16_t, std::uint16_t>(header, values);
    case 0x0C:
      return convert<std::int32_t, std::int32_t, std::uint32_t>(header, values);
    case 0x0D:
      return convert<float, float, std::uint32_t>(header, values);
    default:
      return convert<double, double, std::uint64_t>(header, values);
  }
}

}  // namespace espalier::data
