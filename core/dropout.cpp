#include "espalier/core/dropout.h"

#include <bit>
#include <cmath>

#include "espalier/core/kernels/dropout.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

constexpr Index words_per_chunk = 256;
static_assert(blocks_per_bit_word == kernels::blocks_per_word);

const std::uint64_t* words_of(const Tensor& bits) {
  return reinterpret_cast<const std::uint64_t*>(bits.data<std::int64_t>());  // signed and unsigned may alias
}

}  // namespace

std::uint64_t keep_threshold(double probability) noexcept {
  return static_cast<std::uint64_t>(std::llround((1 - probability) * 0x1p32));
}

Tensor random_bits(Rng& rng, Index n, double probability) {
  if (!(probability >= 0 && probability <= 1))
    fail<ConfigError>("[random_bits] probability ", probability, " is outside [0, 1]");
  const auto [key, stream, counter] = rng.state();
  const std::uint64_t threshold = keep_threshold(probability);
  Tensor bits = Tensor::empty({(n + 63) / 64}, DType::i64);
  auto* words = reinterpret_cast<std::uint64_t*>(bits.write<std::int64_t>("random_bits"));
  parallel_for(bits.size(), words_per_chunk,
               [&, key = key, stream = stream, counter = counter](Index begin, Index end) {
                 kernels::dropout().keep_bits(
                     {key, stream, counter + static_cast<std::uint64_t>(begin) * kernels::blocks_per_word}, threshold,
                     words + begin, end - begin);
               });
  rng.set_state({key, stream, counter + static_cast<std::uint64_t>(bits.size()) * kernels::blocks_per_word});
  return bits;
}

Tensor keep_where(const Tensor& x, const Tensor& bits, double factor) {
  if (bits.size() * 64 < x.size())
    fail<ShapeError>("[keep_where] ", bits.size(), " words of 64 bits for x ", x.shape());
  const Tensor dense = x.contiguous();
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  dispatch_floating("keep_where", x.dtype(), [&]<class T>() {
    const T* from = dense.data<T>();
    const std::uint64_t* words = words_of(bits);
    T* to = y.write<T>("keep_where");
    parallel_for(x.size(), words_per_chunk * 64, [&](Index begin, Index end) {
      kernels::dropout().keep(from + begin, words + begin / 64, static_cast<T>(factor), to + begin, end - begin);
    });
  });
  return y;
}

}  // namespace espalier
