#include "espalier/data/temporal_order.h"

namespace espalier::data {

Dataset temporal_order(Rng& rng, Index n, Index length) {
  if (n < 0) fail<ConfigError>("[temporal_order] needs n >= 0, got ", n);
  if (length < 10) fail<ConfigError>("[temporal_order] needs a length of at least 10, got ", length);
  constexpr Index symbols = temporal_order_symbols;
  Dataset result{Tensor::zeros({n, length, symbols}), Tensor::empty({n}, DType::i64)};
  float* x = result.x.write<float>("temporal_order");
  Index* y = result.y.write<Index>("temporal_order");
  const Index tenth = length / 10;
  const Index first_from = length / 10, second_from = 4 * length / 10;
  for (Index i = 0; i < n; ++i, x += length * symbols) {
    const Index first_place = first_from + rng.below(tenth), second_place = second_from + rng.below(tenth);
    const Index first = rng.below(2), second = rng.below(2);
    std::uint64_t bits = 0;  // two of them make one distractor
    for (Index t = 0; t < length; ++t) {
      if (t % 32 == 0) bits = rng.next();
      const Index symbol = t == first_place ? first : t == second_place ? second : 2 + static_cast<Index>(bits & 3);
      x[t * symbols + symbol] = 1;
      bits >>= 2;
    }
    y[i] = 2 * first + second;
  }
  return result;
}

}  // namespace espalier::data
