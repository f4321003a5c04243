#include "espalier/autograd/mask.h"

#include <bit>

namespace espalier {

namespace {
Index checked_size(Index size) {
  if (size < 0) fail<ShapeError>("[mask] a mask of ", size, " bits");
  return size;
}
void check_same_size(const Mask& a, const Mask& b) {
  if (a.size() != b.size()) fail<ShapeError>("[mask] ", a.size(), " and ", b.size(), " bits");
}
}  // namespace

Mask::Mask(Index size)
    : size_(checked_size(size)), words_(static_cast<std::size_t>((size + 63) / 64), ~std::uint64_t{0}) {
  if (size % 64 != 0) words_.back() = (std::uint64_t{1} << (size % 64)) - 1;
}

Mask::Mask(const Tensor& keep) : Mask(keep.size()) {
  const Tensor dense = keep.contiguous();
  const bool* live = dense.data<bool>();
  for (Index i = 0; i < size_; ++i)
    if (!live[i]) set(i, false);
}

Mask::Mask(Index size, std::vector<std::uint64_t> words) : size_(checked_size(size)), words_(std::move(words)) {
  if (static_cast<Index>(words_.size()) != (size + 63) / 64)
    fail<ShapeError>("[mask] ", words_.size(), " words do not hold ", size, " bits");
  if (size % 64 != 0) words_.back() &= (std::uint64_t{1} << (size % 64)) - 1;
}

Index Mask::live() const noexcept {
  Index n = 0;
  for (std::uint64_t word : words_) n += std::popcount(word);
  return n;
}

Mask& Mask::operator&=(const Mask& other) {
  if (!other.defined()) return *this;
  if (!defined()) return *this = other;
  check_same_size(*this, other);
  for (std::size_t w = 0; w < words_.size(); ++w) words_[w] &= other.words_[w];
  return *this;
}
Mask& Mask::operator|=(const Mask& other) {
  if (!defined() || !other.defined()) return *this = Mask();
  check_same_size(*this, other);
  for (std::size_t w = 0; w < words_.size(); ++w) words_[w] |= other.words_[w];
  return *this;
}
Mask Mask::operator~() const {
  if (!defined()) fail<ShapeError>("[mask] an undefined mask has no size. Hint: Mask(size) is live everywhere");
  std::vector<std::uint64_t> words = words_;
  for (std::uint64_t& word : words) word = ~word;
  return Mask(size_, std::move(words));
}

Tensor Mask::to_tensor(const Shape& shape) const {
  if (count(shape) != size_) fail<ShapeError>("[mask] ", size_, " bits for shape ", shape);
  Tensor result = Tensor::empty(shape, DType::boolean);
  bool* live = result.write<bool>("mask");
  for (Index i = 0; i < size_; ++i) live[i] = (*this)[i];
  return result;
}

void zero_pruned(Tensor& values, const Mask& mask, const char* op) {
  dispatch_floating(op, values.dtype(), [&]<class T>() {
    T* x = values.write<T>(op);
    const Index n = values.size();
    for (std::size_t w = 0; w < mask.words().size(); ++w) {
      std::uint64_t pruned = ~mask.words()[w];
      const Index first = static_cast<Index>(w) * 64;
      if (n - first < 64) pruned &= (std::uint64_t{1} << (n - first)) - 1;
      for (; pruned != 0; pruned &= pruned - 1) x[first + std::countr_zero(pruned)] = T(0);
    }
  });
}

}  // namespace espalier
