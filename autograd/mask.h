// Mask: one bit per weight, 1 = live. A pruned weight's mask belongs to its Parameter.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/core/tensor.h"

namespace espalier {

/// Bits in row-major order of the weight, 64 to a word, so that blocks of 64 k weights never split a word. The bits
/// behind the last weight are 0.
class Mask {
 public:
  /// Undefined: no mask, every weight is live.
  Mask() = default;
  /// All live.
  explicit Mask(Index size);
  /// Live where `keep` (bool, any shape) is true. Errors: DTypeError.
  explicit Mask(const Tensor& keep);
  /// From words as words() gives them. Errors: ShapeError if their number does not fit `size`.
  Mask(Index size, std::vector<std::uint64_t> words);

  bool defined() const noexcept { return size_ > 0; }
  Index size() const noexcept { return size_; }
  bool operator[](Index i) const noexcept { return words_[static_cast<std::size_t>(i >> 6)] >> (i & 63) & 1; }
  void set(Index i, bool live) noexcept {
    std::uint64_t& word = words_[static_cast<std::size_t>(i >> 6)];
    const std::uint64_t bit = std::uint64_t{1} << (i & 63);
    word = live ? word | bit : word & ~bit;
  }
  /// Number of live weights.
  Index live() const noexcept;
  const std::vector<std::uint64_t>& words() const noexcept { return words_; }
  /// bool tensor of this shape, true = live. Errors: ShapeError.
  Tensor to_tensor(const Shape& shape) const;

  /// Live in both, and live in one of them; an undefined mask is live everywhere. Errors: ShapeError for another size.
  Mask& operator&=(const Mask& other);
  Mask& operator|=(const Mask& other);
  /// Live where this one is not. Errors: ShapeError if undefined, which has no size.
  Mask operator~() const;

  friend bool operator==(const Mask&, const Mask&) = default;

 private:
  Index size_ = 0;
  std::vector<std::uint64_t> words_;
};

/// Sets to exactly 0 what the mask prunes. `values` is contiguous, f32 or f64, of the mask's size.
void zero_pruned(Tensor& values, const Mask& mask, const char* op);

}  // namespace espalier
