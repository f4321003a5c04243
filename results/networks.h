// The two networks of the published results. x [N, 1, 28, 28] -> logits [N, 10].
#pragma once

#include "espalier/espalier.h"

namespace results {

using espalier::Index;

/// Dropout while training, by rates that the recipe gives rather than the network: a pruned network wants less of it.
struct Noise {
  double input = 0, hidden = 0;
  espalier::Rng* rng = nullptr;  ///< none: no dropout
  espalier::Variable on_input(const espalier::Variable& x) const { return rng ? dropout(x, input, *rng) : x; }
  espalier::Variable on_hidden(const espalier::Variable& x) const { return rng ? dropout(x, hidden, *rng) : x; }
};

/// 784-300-100-10 with ReLU, 266,610 weights and biases (LeCun, Bottou, Bengio, Haffner 1998).
class LeNet300 final : public espalier::nn::Module {
 public:
  explicit LeNet300(espalier::Rng& rng) : fc1(rng, 784, 300), fc2(rng, 300, 100), fc3(rng, 100, 10) {}
  espalier::Variable operator()(const espalier::Variable& x, const Noise& noise = {}) const {
    const espalier::Variable rows = flatten(x, 1, -1);
    return fc3(noise.on_hidden(relu(fc2(noise.on_hidden(relu(fc1(noise.on_input(rows))))))));
  }
  void members(espalier::nn::Visitor& v) override { v("fc1", fc1)("fc2", fc2)("fc3", fc3); }

  espalier::nn::Linear fc1, fc2, fc3;
};

/// Caffe's LeNet-5: convolutions of 20 and 50 channels, 5 x 5, each with 2 x 2 max pooling, 800-500-10; 431,080 weights
/// and biases. With ReLU behind every layer but the last, as Lee, Ajanthan and Torr 2019 have it.
class LeNet5 final : public espalier::nn::Module {
 public:
  explicit LeNet5(espalier::Rng& rng)
      : conv1(rng, 1, 20, 5), conv2(rng, 20, 50, 5), fc1(rng, 800, 500), fc2(rng, 500, 10), pool(2) {}
  espalier::Variable operator()(const espalier::Variable& x, const Noise& noise = {}) const {
    const espalier::Variable features = relu(pool(conv2(relu(pool(conv1(x))))));
    return fc2(noise.on_hidden(relu(fc1(noise.on_input(flatten(features, 1, -1))))));
  }
  void members(espalier::nn::Visitor& v) override {
    v("conv1", conv1)("conv2", conv2)("fc1", fc1)("fc2", fc2)("pool", pool);
  }

  espalier::nn::Conv2d conv1, conv2;
  espalier::nn::Linear fc1, fc2;
  espalier::nn::MaxPool2d pool;
};

/// Draws all weights anew: N(0, gain^2 / fan_in), biases 0; the gain sqrt(2) of He et al. 2015 keeps the variance of what
/// flows forward.
template <class Net>
void draw_kaiming(const Net& net, espalier::Rng& rng, double gain = espalier::nn::init::gain::relu) {
  for (const espalier::NamedParameter& named : net.parameters()) {
    const espalier::Shape& shape = named.parameter->value().shape();
    named.parameter->set_value(shape.rank() < 2 ? espalier::Tensor::zeros(shape)
                                                : espalier::nn::init::kaiming_normal(rng, shape, gain));
  }
}
/// The same after Glorot and Bengio 2010, N(0, 2 / (fan_in + fan_out)): the initialisation of the lottery ticket paper.
template <class Net>
void draw_glorot(const Net& net, espalier::Rng& rng) {
  for (const espalier::NamedParameter& named : net.parameters()) {
    const espalier::Shape& shape = named.parameter->value().shape();
    named.parameter->set_value(shape.rank() < 2 ? espalier::Tensor::zeros(shape)
                                                : espalier::nn::init::xavier_normal(rng, shape));
  }
}

}  // namespace results
