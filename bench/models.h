// The networks of the workloads.
#pragma once

#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/sequential.h"

namespace espalier::bench {

/// Linear layers with ReLU between them; weights as Linear draws them.
inline nn::Sequential make_mlp(Rng& rng, const std::vector<Index>& sizes) {
  nn::Sequential model;
  for (std::size_t k = 1; k < sizes.size(); ++k) {
    if (k > 1) model.push_back(relu);
    model.push_back(nn::Linear(rng, sizes[k - 1], sizes[k]));
  }
  return model;
}

}  // namespace espalier::bench
