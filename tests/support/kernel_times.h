// What the measuring of kernels promises, whatever the machine and its load: that the choice follows from the times.
#pragma once

#include <gtest/gtest.h>

#include "espalier/core/packed_linear.h"

namespace espalier::testing {

/// The rule of measure_kernels, for one class of batches.
inline KernelChoice choice_by(const KernelTimes& times, std::size_t batch) {
  const bool structured = times.structure != KernelChoice::sparse;
  const double dense = times.dense_us[batch], sparse = times.sparse_us[batch], blocks = times.structured_us[batch];
  const bool take_blocks = structured && blocks <= 1.05 * sparse;
  if (dense < 1.10 * (take_blocks ? blocks : sparse)) return KernelChoice::dense;
  return take_blocks ? times.structure : KernelChoice::sparse;
}

inline void expect_choices_follow(const KernelTimes& times, const KernelChoices& choices) {
  const KernelChoice chosen[] = {choices.one, choices.few, choices.many};
  for (std::size_t k = 0; k < 3; ++k) {
    EXPECT_GT(times.dense_us[k], 0);
    EXPECT_GT(times.sparse_us[k], 0);
    EXPECT_EQ(times.structured_us[k] > 0, times.structure != KernelChoice::sparse);
    EXPECT_EQ(chosen[k], choice_by(times, k)) << "class " << k;
  }
}

}  // namespace espalier::testing
