#include <cmath>
#include <memory>

#include "bench/workloads.h"
#include "espalier/core/rng.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"

namespace espalier::bench {
namespace {

/// `tensors` parameters of `size` floats each.
struct Size {
  const char* prefix;
  Index tensors, size;
  double megabytes() const { return static_cast<double>(tensors * size) * 4e-6; }
};

/// Parameters, and the gradients that every call starts from.
struct Weights {
  explicit Weights(const Size& size) {
    Rng rng(0);
    for (Index k = 0; k < size.tensors; ++k) {
      parameters.emplace_back(rng.normal({size.size}, 0, 0.02), "p" + std::to_string(k));
      gradients.push_back(rng.normal({size.size}, 0, 1e-2));
      list.push_back({parameters.back().ref()->name(), parameters.back().ref()});
    }
  }
  /// Gives every parameter its gradient, without a copy: a step consumes the handle, and leaves the values alone unless
  /// the chain must store them.
  void refill() {
    for (std::size_t k = 0; k < list.size(); ++k) list[k].parameter->mutable_grad() = gradients[k];
  }
  std::vector<Parameter> parameters;
  std::vector<Tensor> gradients;
  ParameterList list;
};

/// `arrays`: how many arrays of the parameters' size must be read or written at least.
Task finish(std::function<void()> run, const Size& size, double arrays) {
  Task task;
  task.run = std::move(run);
  task.figures = {milliseconds("time")};
  task.min_seconds = 0.15;
  task.extras = {{"floor_MB", arrays * size.megabytes()}};
  return task;
}

Task step(const Size& size, optim::Chain chain, double arrays) {
  const auto weights = std::make_shared<Weights>(size);
  const auto optimizer = std::make_shared<optim::Optimizer>(weights->list, std::move(chain));
  return finish(
      [weights, optimizer] {
        weights->refill();
        optimizer->step();
      },
      size, arrays);
}

/// Gradients in, clipped gradients out, in place.
Task clip(const Size& size, optim::Chain chain, double arrays) {
  const auto weights = std::make_shared<Weights>(size);
  weights->refill();
  return finish(
      [weights, chain = std::move(chain), calls = std::int64_t{0}]() mutable {
        optim::apply_to_gradients(weights->list, chain, {.step = calls++});
      },
      size, arrays);
}

/// A bound a little below the last one's, so that every call has something to clip.
double falling_bound(std::int64_t call) { return std::pow(1 - 1e-5, static_cast<double>(call)); }

constexpr double rate = 1e-6;
optim::Chain norm() { return optim::clip_by_global_norm(1.0); }
optim::Chain momentum() { return optim::sgd({.lr = rate, .momentum = 0.9}); }
optim::Chain adam() { return optim::adam({.lr = rate}); }

}  // namespace

std::vector<Workload> optim_workloads() {
  std::vector<Workload> rows;
  for (const Size size : {Size{"optim10M_", 100, 100'000}, Size{"optim1M1000_", 1000, 1000}}) {
    const auto add = [&](const char* name, std::function<Task()> make) {
      rows.push_back({"optim", std::string(size.prefix) + name, std::move(make)});
    };
    add("clip_grad_norm", [=] { return clip(size, optim::clip_by_global_norm(falling_bound), 3); });
    add("clip_grad_value", [=] { return clip(size, optim::clip_by_value(0.01), 2); });
    add("sgdm_step", [=] { return step(size, momentum(), 5); });
    add("adam_step", [=] { return step(size, adam(), 7); });
    add("adamw_step", [=] { return step(size, optim::adamw({.lr = rate, .weight_decay = 0.01}), 7); });
    add("clipnorm+adam", [=] { return step(size, chain(norm(), adam()), 8); });
    add("clipnorm+sgdm", [=] { return step(size, chain(norm(), momentum()), 6); });
  }
  return rows;
}

}  // namespace espalier::bench
