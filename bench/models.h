// The networks of the workloads that classify; those that write text are in language_models.h.
#pragma once

#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
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
  return nn::Sequential(nn::Conv2d(rng, 1, 20, 5), nn::MaxPool2d(2), nn::Conv2d(rng, 20, 50, 5), nn::MaxPool2d(2),
                        nn::Flatten(), nn::Linear(rng, 800, 500), relu, nn::Linear(rng, 500, 10));
}

inline nn::Conv2d make_conv3(Rng& rng, Index in, Index out, Index stride = 1) {
  return nn::Conv2d(rng, in, out, 3, {.stride = stride, .padding = 1, .bias = false});
}

/// 3 x 32 x 32 -> two convolutions each of 32, 64 and 128 channels with batch norm and ReLU, a pool behind each pair, 10.
inline nn::Sequential make_cnn6(Rng& rng) {
  nn::Sequential model;
  Index in = 3;
  for (const Index width : {32, 64, 128}) {
    for (int k = 0; k < 2; ++k, in = width) {
      model.push_back(make_conv3(rng, in, width));
      model.push_back(nn::BatchNorm2d(width, {.relu = true}));
    }
    model.push_back(nn::MaxPool2d(2));
  }
  model.push_back(nn::Flatten());
  model.push_back(nn::Linear(rng, 128 * 4 * 4, 10));
  return model;
}

/// Two convolutions around which the input is added; where the shape changes it is thinned out and padded with channels
/// of zeros (He et al. 2016, option A).
class BasicBlock final : public nn::Module {
 public:
  BasicBlock(Rng& rng, Index in, Index out, Index stride)
      : c1_(make_conv3(rng, in, out, stride)),
        c2_(make_conv3(rng, out, out)),
        b1_(out, {.relu = true}),
        b2_(out),
        stride_(stride),
        more_((out - in) / 2) {}
  Variable operator()(const Variable& x) const {
    const Variable y = b2_(c2_(b1_(c1_(x))));
    if (stride_ == 1 && more_ == 0) return relu(y + x);
    const Variable thin = slice(slice(x, 2, 0, x.dim(2), stride_), 3, 0, x.dim(3), stride_);
    return relu(y + pad(thin, {0, 0, 0, 0, more_, more_}));
  }
  void members(nn::Visitor& v) override { v("c1", c1_)("b1", b1_)("c2", c2_)("b2", b2_); }

 private:
  nn::Conv2d c1_, c2_;
  nn::BatchNorm2d b1_, b2_;
  Index stride_, more_;
};

inline nn::Sequential make_resnet20(Rng& rng) {
  nn::Sequential model(make_conv3(rng, 3, 16), nn::BatchNorm2d(16, {.relu = true}));
  Index in = 16;
  for (const Index width : {16, 32, 64})
    for (int k = 0; k < 3; ++k, in = width) model.push_back(BasicBlock(rng, in, width, width > 16 && k == 0 ? 2 : 1));
  model.push_back(nn::AvgPool2d(8));
  model.push_back(nn::Flatten());
  model.push_back(nn::Linear(rng, 64, 10));
  return model;
}

}  // namespace espalier::bench
