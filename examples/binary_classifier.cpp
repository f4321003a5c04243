// A binary classifier 2-10-1 with sigmoids. It is trained, its five least important hidden units are removed, and it
// trains on with the five that are left.
#include <cstdio>

#include "espalier/espalier.h"

using namespace espalier;
using namespace espalier::optim;

int main() {
  Rng rng(3);
  const data::Dataset moons = data::two_moons(rng, 400, 0.1);
  const Tensor target = moons.y.to(DType::f32).reshape({400, 1});
  nn::Sequential net(nn::Linear(rng, 2, 10), sigmoid, nn::Linear(rng, 10, 1), sigmoid);

  auto train = [&](nn::Sequential& model, int epochs) {
    auto opt = Optimizer(model.parameters(), chain(clip_by_global_norm(1.0), sgd({.lr = 0.01})));
    data::Loader loader({moons.x, target}, 20, rng.split());
    double loss = 0;
    for (int epoch = 0; epoch < epochs; ++epoch)
      for (auto& [x, y] : loader) {
        Tape tape;
        Variable value = nn::binary_cross_entropy(model(x), y);
        tape.backward(value);
        opt.step();
        loss = value.item();
      }
    return loss;
  };
  std::printf("10 hidden units: loss %.4f\n", train(net, 100));
  auto& hidden = net.get<nn::Linear>(0);
  auto& output = net.get<nn::Linear>(2);
  prune::mask_units(hidden.weight, hidden.bias, output.weight, 5);
  nn::Sequential smaller = prune::compact(net, moons.x);  // 2-5-1: the units are gone, not merely zero
  std::printf("%zu of 10 units left: loss %.4f\n",
              static_cast<std::size_t>(smaller.get<nn::Linear>(0).weight.shape()[0]), train(smaller, 100));
  return smaller.get<nn::Linear>(0).weight.shape() == Shape{5, 2} ? 0 : 1;
}
