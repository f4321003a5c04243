#include "espalier/io/detail/sparse_code.h"

#include <bit>
#include <cstring>
#include <span>
#include <utility>

namespace espalier::io::detail {
namespace {

/// How a gap is written: in one byte or two, the largest number meaning that many and no live weight yet.
struct GapForm {
  const char* name;
  Index bytes, escape;
};
constexpr GapForm gap_forms[] = {{"gaps", 1, 255}, {"gaps16", 2, 65535}};

/// f(i) for each live weight, in order.
template <class F>
void for_each_live(const Mask& mask, F&& f) {
  const std::vector<std::uint64_t>& words = mask.words();
  for (std::size_t w = 0; w < words.size(); ++w)
    for (std::uint64_t bits = words[w]; bits != 0; bits &= bits - 1)
      f(static_cast<Index>(w) * 64 + std::countr_zero(bits));
}

Index gap_bytes(const GapForm& form, const Mask& mask) {
  Index gaps = 0, next = 0;
  for_each_live(mask, [&](Index i) {
    gaps += (i - next) / form.escape + 1;
    next = i + 1;
  });
  return (gaps + (mask.size() - next) / form.escape + 1) * form.bytes;
}

Tensor encode_gaps(const GapForm& form, const Mask& mask, Index bytes) {
  Tensor code = Tensor::empty({bytes}, DType::u8);
  std::uint8_t* out = code.write<std::uint8_t>("encode_mask");
  Index next = 0;
  auto put_number = [&](Index number) {
    for (Index k = 0; k < form.bytes; ++k) *out++ = static_cast<std::uint8_t>(number >> 8 * k & 255);
  };
  auto put = [&](Index gap) {
    for (; gap >= form.escape; gap -= form.escape) put_number(form.escape);
    put_number(gap);
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

Mask decode_gaps(const GapForm& form, std::span<const std::uint8_t> code, Index size, Index live,
                 const std::string& where) {
  const Index length = static_cast<Index>(code.size()), gaps = length / form.bytes;
  if (length % form.bytes != 0) fail<FormatError>(where, length, " bytes are no whole number of gaps");
  // Each gap stands for a bounded number of weights, so a short code cannot ask for much memory.
  if (size / form.escape > gaps) fail<FormatError>(where, length, " bytes cannot stand for ", size, " weights");
  const auto gap_at = [&](Index k) {
    Index gap = 0;
    for (Index b = 0; b < form.bytes; ++b) gap |= Index{code[static_cast<std::size_t>(k * form.bytes + b)]} << 8 * b;
    return gap;
  };
  std::vector<std::uint64_t> words = no_words(size);
  Index at = 0, found = 0;
  for (Index k = 0; k < gaps; ++k) {
    const Index gap = gap_at(k);
    at += gap;
    if (at > size) fail<FormatError>(where, "byte ", k * form.bytes, " leads behind the last weight");
    if (gap == form.escape) continue;
    if (k + 1 == gaps) break;  // the closing one
    if (at == size) fail<FormatError>(where, "byte ", k * form.bytes, " leads behind the last weight");
    words[static_cast<std::size_t>(at >> 6)] |= std::uint64_t{1} << (at & 63);
    ++at;
    ++found;
  }
  if (gaps == 0 || gap_at(gaps - 1) == form.escape || at != size)
    fail<FormatError>(where, "the gaps end at weight ", at, " of ", size);
  if (live != any_count && found != live) fail<FormatError>(where, found, " live weights, but ", live, " values");
  return size == 0 ? Mask() : Mask(size, std::move(words));
}

}  // namespace

MaskCode encode_mask(const Mask& mask) {
  const GapForm* best = nullptr;
  Index least = (mask.size() + 7) / 8;
  for (const GapForm& form : gap_forms)
    if (const Index bytes = gap_bytes(form, mask); bytes < least) {
      best = &form;
      least = bytes;
    }
  if (best) return {best->name, encode_gaps(*best, mask, least)};
  return {"bits", encode_bits(mask)};
}

Mask decode_mask(const MaskCode& code, Index size, Index live, const std::string& where) {
  if (code.bytes.dtype() != DType::u8 || code.bytes.rank() != 1)
    fail<FormatError>(where, "it must be u8 [n], and is ", code.bytes.dtype(), " ", code.bytes.shape());
  const std::span<const std::uint8_t> bytes(code.bytes.data<std::uint8_t>(),
                                            static_cast<std::size_t>(code.bytes.size()));
  for (const GapForm& form : gap_forms)
    if (code.form == form.name) return decode_gaps(form, bytes, size, live, where);
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
