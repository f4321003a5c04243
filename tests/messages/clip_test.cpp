// The texts of errors of clips, word by word.
#include "espalier/optim/clip.h"

#include <cmath>

#include "espalier/autograd/ops/reduce.h"
#include "espalier/optim/adaptive_clip.h"
#include "espalier/optim/backward_clip.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/soft_clip.h"
#include "tests/messages/message.h"

namespace espalier::optim {
namespace {

TEST(Messages, OfClips) {
  const Variable v(Tensor::ones({2}));
  const testing::Message all[] = {
      {"a negative bound", [] { clip_by_global_norm(-1.0); },
       "[clip_by_global_norm] max_norm must not be negative or NaN, got -1"},
      {"a bound of NaN", [] { clip_per_unit_norm(NAN); },
       "[clip_per_unit_norm] max_norm must not be negative or NaN, got nan"},
      {"p of 0", [] { clip_per_tensor_norm({.max_norm = 1, .p = 0}); },
       "[clip_per_tensor_norm] p must be positive, got 0"},
      {"a negative eps", [] { clip_by_global_norm({.max_norm = 1, .eps = -1}); },
       "[clip_by_global_norm] eps must not be negative, got -1"},
      {"rms", [] { clip_by_rms(-2.0); }, "[clip_by_rms] threshold must not be negative or NaN, got -2"},
      {"value", [] { clip_by_value(-2.0); }, "[clip_by_value] the bound must not be negative or NaN, got -2"},
      {"bounds in the wrong order", [] { clip_by_value({.min = 2, .max = 1}); },
       "[clip_by_value] bounds must be min <= max and not NaN, got min 2, max 1"},
      {"AGC", [] { clip_adaptive({.clipping = -0.5}); },
       "[clip_adaptive] clipping must not be negative or NaN, got -0.5"},
      {"AGC's eps", [] { clip_adaptive({.eps = -1}); }, "[clip_adaptive] eps must not be negative or NaN, got -1"},
      {"update ratio", [] { clip_update_ratio(-1.0); }, "[clip_update_ratio] tau must not be negative or NaN, got -1"},
      {"percentile", [] { autoclip(101.0); }, "[autoclip] percentile must lie in [0, 100], got 101"},
      {"window", [] { autoclip({.window = 0}); }, "[autoclip] window must be at least 1, got 0"},
      {"ZClip's alpha", [] { zclip({.alpha = 1}); }, "[zclip] alpha must lie in [0, 1), got 1"},
      {"ZClip's warm-up", [] { zclip({.warm_up = 0}); }, "[zclip] warm_up must be at least 1, got 0"},
      {"quantile", [] { clip_by_quantile({.quantile = 2}); }, "[clip_by_quantile] quantile must lie in [0, 1], got 2"},
      {"first bound", [] { clip_by_quantile({.initial = 0}); },
       "[clip_by_quantile] initial must be positive and finite, got 0"},
      {"bounds of the bound", [] { clip_by_quantile({.min = 3, .max = 1}); },
       "[clip_by_quantile] bounds must be 0 <= min <= max, got min 3, max 1"},
      {"smooth", [] { clip_smooth_norm(-1.0); }, "[clip_smooth_norm] tau must not be negative or NaN, got -1"},
      {"tanh", [] { clip_tanh(-1.0); }, "[clip_tanh] bound must not be negative or NaN, got -1"},
      {"backward", [&] { clip_backward_norm(v, -1.0); },
       "[clip_backward_norm] max_norm must not be negative or NaN, got -1"},
      {"backward p", [&] { clip_backward_norm(v, 1.0, {.p = -1}); }, "[clip_backward_norm] p must be positive, got -1"},
      {"backward value", [&] { clip_backward_value(v, NAN); },
       "[clip_backward_value] bound must not be negative or NaN, got nan"},
      {"a history that is dropped", [] { apply_to_gradients({}, autoclip()); },
       "[apply_to_gradients] 'autoclip' remembers something from step to step or makes updates. Hint: that needs an "
       "Optimizer"},
      {"renorm p", [&] { renorm(v, 0, 0, 1); }, "[renorm] p must be positive, got 0"},
      {"renorm bound", [&] { renorm(v, 2, 0, -1); }, "[renorm] max_norm must not be negative or NaN, got -1"},
  };
  testing::expect_texts(all);
}

}  // namespace
}  // namespace espalier::optim
