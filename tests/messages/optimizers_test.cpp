// The texts of errors about optimizers' settings.
#include <limits>

#include "espalier/optim/adagrad.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/adam_variants.h"
#include "espalier/optim/asgd.h"
#include "espalier/optim/lion.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/rprop.h"
#include "espalier/optim/sgd.h"
#include "tests/messages/message.h"

namespace espalier::optim {
namespace {

TEST(Messages, OfOptimizers) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const testing::Message all[] = {
      {"sgd lr", [] { sgd({.lr = -0.1}); }, "[sgd] lr must not be negative or NaN, got -0.1"},
      {"sgd dampening", [] { sgd({.dampening = -1.0}); }, "[sgd] dampening must not be negative or NaN, got -1"},
      {"sgd nesterov", [] { sgd({.momentum = 0.9, .dampening = 0.1, .nesterov = true}); },
       "[sgd] nesterov needs a momentum and no dampening"},
      {"adam betas",
       [] {
         adam({.betas = {0.9, 1.0}});
       },
       "[adam] betas[1] must lie in [0, 1), got 1"},
      {"adamw betas",
       [] {
         adamw({.betas = {-0.5, 0.9}});
       },
       "[adamw] betas[0] must lie in [0, 1), got -0.5"},
      {"adam eps", [=] { adam({.eps = nan}); }, "[adam] eps must not be negative or NaN, got nan"},
      {"adamax betas",
       [] {
         adamax({.betas = {1.5, 0.9}});
       },
       "[adamax] betas[0] must lie in [0, 1), got 1.5"},
      {"nadam momentum_decay", [] { nadam({.momentum_decay = -1.0}); },
       "[nadam] momentum_decay must not be negative or NaN, got -1"},
      {"radam weight_decay", [] { radam({.weight_decay = -1.0}); },
       "[radam] weight_decay must not be negative or NaN, got -1"},
      {"rmsprop alpha", [=] { rmsprop({.alpha = nan}); }, "[rmsprop] alpha must lie in [0, 1), got nan"},
      {"rmsprop momentum", [] { rmsprop({.momentum = -0.9}); },
       "[rmsprop] momentum must not be negative or NaN, got -0.9"},
      {"adagrad lr_decay", [] { adagrad({.lr_decay = -1.0}); },
       "[adagrad] lr_decay must not be negative or NaN, got -1"},
      {"adagrad start", [] { adagrad({.initial_accumulator_value = -1.0}); },
       "[adagrad] initial_accumulator_value must not be negative or NaN, got -1"},
      {"adadelta rho", [] { adadelta({.rho = 1.0}); }, "[adadelta] rho must lie in [0, 1), got 1"},
      {"asgd lambd", [] { asgd({.lambd = -1.0}); }, "[asgd] lambd must not be negative or NaN, got -1"},
      {"asgd t0", [] { asgd({.t0 = -1.0}); }, "[asgd] t0 must not be negative or NaN, got -1"},
      {"rprop eta minus",
       [] {
         rprop({.etas = {1.0, 1.2}});
       },
       "[rprop] etas[0] must lie in (0, 1), got 1"},
      {"rprop eta plus",
       [] {
         rprop({.etas = {0.5, 1.0}});
       },
       "[rprop] etas[1] must be above 1, got 1"},
      {"rprop step size",
       [] {
         rprop({.step_sizes = {0.0, 1.0}});
       },
       "[rprop] step_sizes[0] must be above 0, got 0"},
      {"rprop step sizes",
       [] {
         rprop({.step_sizes = {2.0, 1.0}});
       },
       "[rprop] step_sizes must be the smallest and the largest, got 2 and 1"},
      {"lion betas",
       [] {
         lion({.betas = {0.9, 2.0}});
       },
       "[lion] betas[1] must lie in [0, 1), got 2"},
      {"a schedule",
       [] {
         Parameter w(Tensor::zeros({2}), "w");
         w.ref()->accumulate(Tensor::ones({2}));
         Optimizer(list_of(w), lion({.betas = {0.9, [](std::int64_t) { return 1.25; }}})).step();
       },
       "[lion] betas[1] must lie in [0, 1), got 1.25"},
  };
  testing::expect_texts(all);
}

}  // namespace
}  // namespace espalier::optim
