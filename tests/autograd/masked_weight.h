// What tests of sparse training share.
#pragma once

#include "espalier/autograd/sparse_training.h"
#include "espalier/core/rng.h"

namespace espalier::testing {

inline const SparseTrainingOptions every_weight{.measure = false};

/// N(0, 1), a share of them live.
inline Parameter masked_weight(const Shape& shape, double live, std::uint64_t seed, DType type = DType::f32) {
  Rng rng(seed);
  Parameter w(rng.normal(shape, 0, 1, type), "w");
  w.set_mask(Mask(rng.bernoulli({count(shape)}, live)));
  return w;
}

}  // namespace espalier::testing
