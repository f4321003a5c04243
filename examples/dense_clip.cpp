// Ten ReLU units and a linear output on 100 x 10 Gaussian inputs, trained with the global norm held at 0.5.
#include <cstdio>

#include "espalier/espalier.h"

using namespace espalier;
using namespace espalier::optim;

int main() {
  Rng rng(7);
  const Tensor x = rng.normal({100, 10}), y = rng.normal({100, 1});
  nn::Sequential net(nn::Linear(rng, 10, 10), relu, nn::Linear(rng, 10, 1));
  auto opt = Optimizer(net.parameters(), chain(clip_by_global_norm(0.5), sgd({.lr = 0.05, .momentum = 0.9})));

  double first = 0, last = 0;
  for (int step = 0; step < 300; ++step) {
    Tape tape;
    Variable loss = nn::mse_loss(net(x), y);
    tape.backward(loss);
    const auto record = opt.step()["clip_by_global_norm"];
    last = loss.item();
    if (step == 0) first = last;
    if (step % 60 == 0)
      std::printf("step %3d  loss %.4f  norm %.3f -> %.3f\n", step, last, record.norm_before, record.norm_after);
  }
  std::printf("loss %.4f -> %.4f\n", first, last);
  return last < 0.5 * first ? 0 : 1;
}
