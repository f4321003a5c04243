// What the files of the pipeline share: dispatch on the element type, loops, offsets into untyped memory, mask windows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "espalier/core/kernels/step.h"

namespace espalier::optim::detail {

/// Who wrote the values, in the texts of errors.
inline constexpr const char* op = "optimizer step";

template <class T>
T* offset(void* base, Index by) {
  return base ? static_cast<T*>(base) + by : nullptr;
}

/// f.operator()<T>() with float or double.
template <class F>
void by_type(int type, F&& f) {
  type == 0 ? f.template operator()<float>() : f.template operator()<double>();
}

/// f(begin, size) for each stretch of `block` elements of [begin, end).
template <class F>
void for_each_block(Index begin, Index end, Index block, F&& f) {
  for (Index at = begin; at < end; at += block) f(at, std::min(block, end - at));
}

/// f(k) for each k in [begin, end), some turns before near(k), and some turns before that far(k). What f looks at lies far
/// apart, and out of the cache since the last sweep: far asks for it, near for what can be found with that.
template <class Far, class Near, class F>
void for_each_far(std::size_t begin, std::size_t end, Far far, Near near, F f) {
  constexpr std::size_t turns = 8;
  for (std::size_t k = begin; k < std::min(begin + 2 * turns, end); ++k) far(k);
  for (std::size_t k = begin; k < std::min(begin + turns, end); ++k) near(k);
  for (std::size_t k = begin; k < end; ++k) {
    if (end - k > 2 * turns) far(k + 2 * turns);
    if (end - k > turns) near(k + turns);
    f(k);
  }
}

/// Bits [begin, begin + size) of a mask as words that start with the first of them: in place where a word starts there,
/// else copied. Holds at most a block.
class MaskWindow {
 public:
  const std::uint64_t* of(const std::uint64_t* words, Index begin, Index size) {
    if (!words || begin % 64 == 0) return words ? words + begin / 64 : nullptr;
    const std::uint64_t* from = words + begin / 64;
    const auto shift = static_cast<unsigned>(begin % 64);
    const Index last = (begin + size - 1) / 64 - begin / 64;  // the last word that holds a bit of ours
    for (Index k = 0; k * 64 < size; ++k) copy_[k] = from[k] >> shift | (k < last ? from[k + 1] << (64 - shift) : 0);
    return copy_;
  }

 private:
  std::uint64_t copy_[kernels::block_size / 64];
};

}  // namespace espalier::optim::detail
