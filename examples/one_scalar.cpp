// One scalar: y = 2 theta is drawn to 2 by gradient descent, each gradient held within +-0.5.
#include <cmath>
#include <cstdio>

#include "espalier/espalier.h"

using namespace espalier;
using namespace espalier::optim;

int main() {
  Parameter theta(Tensor::scalar(5.0), "theta");
  const Tensor target = Tensor::scalar(2.0);
  auto opt = Optimizer(list_of(theta), chain(clip_by_value(0.5), sgd({.lr = 0.01})));

  for (int step = 1; step <= 1000; ++step) {
    Tape tape;
    Variable loss = nn::mse_loss(2.0 * theta, target);
    tape.backward(loss);
    StepReport report = opt.step();
    if (step % 200 == 0)
      std::printf("step %4d  theta %.4f  loss %.6f  clipped %s\n", step, theta.value().item(), loss.item(),
                  report.clipped() ? "yes" : "no");
  }
  return std::abs(theta.value().item() - 1.0) < 1e-3 ? 0 : 1;  // 2 theta = 2
}
