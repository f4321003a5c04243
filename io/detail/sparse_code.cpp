#include "espalier/io/detail/sparse_code.h"

#include <bit>
#include <cstring>
#include <span>
#include <utility>

namespace espalier::io::detail {
namespace {

constexpr Index escape = 255;

/// f(i) for each live weight, in order.
template <class F>
void for_each_live(const Mask& mask, F&& f) {
  const std::vector<std::uint64_t>& words = mask.words();
  for (std::size_t w = 0; w < words.size(); ++w)
    for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1)
      f(static_cast<Index>(w) * 64 + std::countr_zero(bits));
}

Index gap_bytes(const Mask& mask) {
  Index bytes = 0, next = 0;
  for_each_live(mask, [&](Index i) {
    bytes += (i - next) / escape + 1;
    next = i + 1;
  });
  return bytes + (mask.size() - next) / escape + 1;
}

Tensor encode_gaps(const Mask& mask, Index bytes) {
  Tensor code = Tensor::empty({bytes}, DType::u8);
  std::uint8_t* out = code.write<std::uint8_t>("encode_mask");
  Index next = 0;
  auto put = [&](Index gap) {
    for (; gap >= escape; gap -= escape) *out++ = escape;
    *out++ = static_cast<std::uint8_t>(gap);
  };
  for_each_live(mask, [&](Index i) {
    put(i - next);
    next = i + 1;
  });
  put(mask.size() - next);
  return code;
}

Tensor encode_bits(const Mask& mask) {
  Tensor code = Tensor::empty({(mask.size() + 7) / 8}, DType::u8);
  std::memcpy(code.write_bytes("encode_mask"), mask.words().data(), static_cast<std::size_t>(code.size()));
  return code;
}

std::vector<std::uint64_t> no_words(Index size) {
  return std::vector<std::uint64_t>(static_cast<std::size_t>((size + 63) / 64));
}

Mask decode_bits(std::span<const std::uint8_t> code, Index size, const std::string& where) {
  if (static_cast<Index>(code.size()) != size / 8 + (size % 8 != 0))
    fail<FormatError>(where, code.size(), " bytes for ", size, " bits");
  if (size % 8 != 0 && code.back() >> size % 8 != 0) fail<FormatError>(where, "a bit behind the last weight is set");
  std::vector<std::uint64_t> words = no_words(size);
  if (!code.empty()) std::memcpy(words.data(), code.data(), code.size());
  return Mask(size, std::move(words));
}

Mask decode_gaps(std::span<const std::uint8_t> code, Index size, Index live, const std::string& where) {
  // Each byte stands for at most 255 weights, so a short code cannot ask for much memory.
  if (size / escape > static_cast<Index>(code.size()))
    fail<FormatError>(where, code.size(), " bytes cannot stand for ", size, " weights");
  std::vector<std::uint64_t> words = no_words(size);
  Index at = 0, found = 0;
  for (std::size_t k = 0; k < code.size(); ++k) {
    at += code[k];
    if (at > size) fail<FormatError>(where, "byte ", k, " leads behind the last weight");
    if (code[k] == escape) continue;
    if (k + 1 == code.size()) break;  // the closing byte
    if (at == size) fail<FormatError>(where, "byte ", k, " leads behind the last weight");
    words[static_cast<std::size_t>(at >> 6)] |= std::uint64_t{1} << (at & 63);
    ++at;
    ++found;
  }
  if (code.empty() || code.back() == escape || at != size)
    fail<FormatError>(where, "the gaps end at weight ", at, " of ", size);
  if (live != any_count && found != live) fail<FormatError>(where, found, " live weights, but ", live, " values");
  return size == 0 ? Mask() : Mask(size, std::move(words));
}

}  // namespace

MaskCode encode_mask(const Mask& mask) {
  const Index gaps = gap_bytes(mask);
  if (gaps < (mask.size() + 7) / 8) return {"gaps", encode_gaps(mask, gaps)};
  return {"bits", encode_bits(mask)};
}

Mask decode_mask(const MaskCode& code, Index size, Index live, const std::string& where) {
  if (code.bytes.dtype() != DType::u8 || code.bytes.rank() != 1)
    fail<FormatError>(where, "it must be u8 [n], and is ", code.bytes.dtype(), " ", code.bytes.shape());
  const std::span<const std::uint8_t> bytes(code.bytes.data<std::uint8_t>(),
                                            static_cast<std::size_t>(code.bytes.size()));
  if (code.form == "gaps") return decode_gaps(bytes, size, live, where);
  if (code.form != "bits") fail<FormatError>(where, "unknown form");
  Mask mask = decode_bits(bytes, size, where);
  if (const Index found = mask.live(); live != any_count && found != live)
    fail<FormatError>(where, found, " live weights, but ", live, " values");
  return mask;
}

Tensor gather_live(const Tensor& dense, const Mask& mask) {
  Tensor values = Tensor::empty({mask.live()}, dense.dtype());
  dispatch_floating("gather_live", dense.dtype(), [&]<class T>() {
    const Tensor plain = dense.contiguous();
    const T* from = plain.data<T>();
    T* to = values.write<T>("gather_live");
    for_each_live(mask, [&](Index i) { *to++ = from[i]; });
  });
  return values;
}

Tensor scatter_live(const Tensor& values, const Mask& mask, const Shape& shape) {
  Tensor dense = Tensor::zeros(shape, values.dtype());
  dispatch_floating("scatter_live", values.dtype(), [&]<class T>() {
    const T* from = values.data<T>();
    T* to = dense.write<T>("scatter_live");
    for_each_live(mask, [&](Index i) { to[i] = *from++; });
  });
  return dense;
}

Mask mask_of_nonzero(const Tensor& dense) {
  const Tensor plain = dense.contiguous();
  std::vector<std::uint64_t> words = no_words(dense.size());
  dispatch_floating("mask_of_nonzero", dense.dtype(), [&]<class T>() {
    const T* values = plain.data<T>();
    for (Index i = 0; i < dense.size(); ++i)
      words[static_cast<std::size_t>(i >> 6)] |= static_cast<std::uint64_t>(values[i] != T(0)) << (i & 63);
  });
  return dense.size() == 0 ? Mask() : Mask(dense.size(), std::move(words));
}

}  // namespace espalier::io::detail
