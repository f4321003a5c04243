// RandomPlace: where in the sequence of a counter-based generator a kernel draws.
#pragma once

#include <cstdint>

namespace espalier::kernels {

/// A place in the sequence of a counter-based generator, see core/rng.h.
struct RandomPlace {
  std::uint64_t key, stream, counter;
};

}  // namespace espalier::kernels
