// y = 4 x1 + 5 x2 + noise from mini-batches of 10: gradients clipped, and the parameters themselves held in a range.
#include <cmath>
#include <cstdio>

#include "espalier/espalier.h"

using namespace espalier;
using namespace espalier::optim;

int main() {
  Rng rng(1);
  const data::Dataset samples = data::linear_data(rng, 1000, {4.0, 5.0}, 0.0, 0.1);
  nn::Linear model(rng, 2, 1);
  auto opt =
      Optimizer(model.parameters(), chain(clip_by_global_norm(1.0), sgd({.lr = 0.05}), clamp_parameters(-4.8, 4.8)));

  data::Loader loader(samples, 10, rng.split());
  for (int epoch = 1; epoch <= 5; ++epoch) {
    double total = 0;
    for (auto& [x, y] : loader) {
      Tape tape;
      Variable loss = nn::mse_loss(model(x), y);
      tape.backward(loss);
      opt.step();
      total += loss.item();
    }
    std::printf("epoch %d  loss %.4f  w %.3f %.3f  b %.3f\n", epoch, total / 100, model.weight.value().at({0, 0}),
                model.weight.value().at({0, 1}), model.bias.value().item());
  }
  const double w1 = model.weight.value().at({0, 0}), w2 = model.weight.value().at({0, 1});
  return std::abs(w1 - 4) < 0.05 && w2 == static_cast<double>(4.8f) ? 0 : 1;  // 5 lies beyond the clamp
}
