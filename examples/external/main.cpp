// A program outside Espalier's tree, built against the installed package: it trains, prunes, compacts, saves and loads.
#include <cstdio>
#include <exception>

#include "espalier/espalier.h"

using namespace espalier;

int main() try {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 2, 32), relu, nn::Linear(rng, 32, 2));
  optim::Optimizer opt(net.parameters(), optim::chain(optim::clip_by_global_norm(1.0), optim::adam({.lr = 1e-2})));
  prune::Pruner pruner(net.parameters(), {.schedule = prune::cubic({.final_sparsity = 0.5, .begin = 50, .end = 150})});
  opt.attach(pruner);

  const data::Dataset moons = data::two_moons(rng, 400);
  data::Loader loader(moons, 40, rng.split());
  train::fit(net, opt, loader,
             [](const auto& model, const Tensor& x, const Tensor& y) { return nn::cross_entropy(model(x), y); },
             {.epochs = 30});
  nn::Sequential deployed = prune::compact(net, moons.x);
  io::save("consumer.safetensors", deployed);
  nn::Sequential loaded(nn::Linear(rng, 2, 32), relu, nn::Linear(rng, 32, 2));
  io::load("consumer.safetensors", loaded);

  const double accuracy = train::accuracy(loaded(moons.x).value(), moons.y);
  std::printf("espalier %s: %.1f %% of the moons right at %.0f %% sparsity\n", version(), 100 * accuracy,
              100 * pruner.sparsity());
  return accuracy > 0.9 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
