// The networks of the workloads.
#pragma once

#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/pool.h"
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

/// LeNet-5 as Caffe has it: 1 x 28 x 28 -> 20 of 5 x 5, pool, 50 of 5 x 5, pool, 500, ReLU, 10.
inline nn::Sequential make_lenet5(Rng& rng) {
  return nn::Sequential(
      nn::Conv2d(rng, 1, 20, 5), nn::MaxPool2d(2), nn::Conv2d(rng, 20, 50, 5), nn::MaxPool2d(2),
      [](const Variable& x) { return flatten(x, 1); }, nn::Linear(rng, 800, 500), relu, nn::Linear(rng, 500, 10));
}

}  // namespace espalier::bench
