// The texts of errors in gradient transforms, constraints, projections and averages.
#include <limits>

#include "espalier/optim/average.h"
#include "espalier/optim/gradient_transforms.h"
#include "espalier/optim/projection.h"
#include "espalier/optim/sgd.h"
#include "tests/messages/message.h"

namespace espalier::optim {
namespace {

using espalier::testing::Message;

TEST(Messages, OfGradientTransforms) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Message all[] = {
      {"scale by NaN", [=] { scale(nan); }, "[scale] factor must not be NaN"},
      {"negative eta", [] { add_noise({.eta = -1.0}); }, "[add_noise] eta must not be negative or NaN, got -1"},
      {"negative gamma", [] { add_noise({.eta = 1.0, .gamma = -1}); },
       "[add_noise] gamma must not be negative or NaN, got -1"},
      {"negative bound", [] { skip_large(-1.0); }, "[skip_large] bound must not be negative or NaN, got -1"},
      {"too much decay", [] { weight_decay(1.5); }, "[weight_decay] rate must lie in [0, 1], got 1.5"},
      {"negative coupled decay", [] { weight_decay(-1.0, {.how = Decay::coupled}); },
       "[weight_decay] rate must not be negative or NaN, got -1"},
      {"negative trust", [] { trust_ratio({.trust = -1.0}); },
       "[trust_ratio] trust must not be negative or NaN, got -1"},
      {"negative norm", [] { trust_ratio({.min_weight_norm = -1.0}); },
       "[trust_ratio] min_weight_norm must not be negative or NaN, got -1"},
      {"norms out of order", [] { trust_ratio({.min_weight_norm = 2.0, .max_weight_norm = 1.0}); },
       "[trust_ratio] bounds must be min <= max and not NaN, got min 2, max 1"},
      {"trust over everything", [] { trust_ratio({.over = Over::everything}); },
       "[trust_ratio] over must be Over::unit or Over::tensor"},
  };
  espalier::testing::expect_texts(all);
}

TEST(Messages, OfConstraints) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const Message all[] = {
      {"negative radius", [] { l2_ball({.radius = -1.0}); }, "[l2_ball] radius must not be negative or NaN, got -1"},
      {"ball of everything", [] { l2_ball({.over = Over::everything}); },
       "[l2_ball] over must be Over::unit or Over::tensor"},
      {"negative eps", [] { unit_norm({.eps = -1}); }, "[unit_norm] eps must not be negative, got -1"},
      {"a rate beyond 1", [] { min_max_norm({.rate = 1.5}); }, "[min_max_norm] rate must lie in [0, 1], got 1.5"},
      {"min above max", [] { min_max_norm({.min = 2.0}); },
       "[min_max_norm] bounds must be min <= max and not NaN, got min 2, max 1"},
      {"negative min", [] { min_max_norm({.min = -1.0}); }, "[min_max_norm] min must not be negative or NaN, got -1"},
      {"strength NaN", [=] { proximal_l1(nan); }, "[proximal_l1] strength must not be negative or NaN, got nan"},
      {"negative strength", [] { group_lasso(-1.0); }, "[group_lasso] strength must not be negative or NaN, got -1"},
      {"negative l1 radius", [] { l1_ball({.radius = -1.0}); }, "[l1_ball] radius must not be negative or NaN, got -1"},
      {"infinite total", [=] { simplex({.total = infinity}); }, "[simplex] total must be finite, got inf"},
      {"simplex of everything", [] { simplex({.over = Over::everything}); },
       "[simplex] over must be Over::unit or Over::tensor"},
      {"neither", [] { top_k(TopKOptions{}); }, "[top_k] takes either a count or a fraction of the weights to keep"},
      {"both", [] { top_k({.count = 3.0, .fraction = 0.5}); },
       "[top_k] takes either a count or a fraction of the weights to keep"},
      {"a count that is a fraction", [] { top_k(0.1); },
       "[top_k] count must be a whole number, got 0.1. Hint: top_k({.fraction = ...})"},
      {"a fraction that is a count", [] { top_k({.fraction = 10.0}); }, "[top_k] fraction must lie in [0, 1], got 10"},
  };
  espalier::testing::expect_texts(all);
}

TEST(Messages, OfAverages) {
  const Parameter p(Tensor::zeros({2}), "p");
  Optimizer opt(list_of(p), chain(sgd(), ema()));
  p.ref()->accumulate(Tensor::ones({2}));
  opt.step();
  const Parameter other(Tensor::zeros({3}), "p"), stranger(Tensor::zeros({2}), "q");
  const Message all[] = {
      {"decay 1", [] { ema({.decay = 1.0}); }, "[ema] decay must lie in [0, 1), got 1"},
      {"no period", [] { ema({.every = 0}); }, "[ema] every must be at least 1, got 0"},
      {"no period", [] { swa({.every = 0}); }, "[swa] every must be at least 1, got 0"},
      {"negative begin", [] { swa({.begin = -1}); }, "[swa] begin must not be negative, got -1"},
      {"no such stage", [&] { AverageGuard guard(opt, "swa"); },
       "[memory] the chain has no 'swa'. Hint: describe() shows the names"},
      {"no average", [&] { AverageGuard guard(opt, "sgd"); },
       "[average] 'sgd' is no average. Hint: ema(...) or swa(...)"},
      {"another shape", [&] { copy_average(opt, "ema", list_of(other)); },
       "[copy_average] 'p' is f32 [3], its average f32 [2]"},
      {"other names", [&] { copy_average(opt, "ema", list_of(stranger)); },
       "[copy_average] none of the 1 parameters has a name that the optimizer knows. Hint: list both models from the "
       "same root"},
  };
  espalier::testing::expect_texts(all);
}

}  // namespace
}  // namespace espalier::optim
