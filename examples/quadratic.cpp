// Minimises sum(theta^2) with clipped steps: far away every step has length lr * max_norm, close by it is plain
// descent.
#include <cstdio>

#include "espalier/espalier.h"

using namespace espalier;
using namespace espalier::optim;

int main() {
  Parameter theta(Tensor::from({30.0, -40.0, 0.0, 120.0}), "theta");
  auto opt = Optimizer(list_of(theta), chain(clip_by_global_norm(1.0), sgd({.lr = 0.4})));

  int steps = 0;
  for (double value = 1; value > 1e-12 && steps < 1000; ++steps) {
    Tape tape;
    Variable loss = sum(square(theta));
    tape.backward(loss);
    const auto record = opt.step()["clip_by_global_norm"];
    value = loss.item();
    if (steps % 50 == 0)
      std::printf("step %3d  loss %.4g  gradient norm %.4g, coefficient %.4g\n", steps, value, record.norm_before,
                  record.coefficient);
  }
  std::printf("minimum after %d steps: %s\n", steps, theta.value().to_string().c_str());
  return steps < 1000 ? 0 : 1;
}
