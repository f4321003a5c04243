// The texts of errors in per-example clipping and the privacy accountant, word by word.
#include <cmath>
#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/optim/accountant.h"
#include "espalier/optim/per_example.h"
#include "tests/messages/message.h"

namespace espalier {
namespace {

using namespace optim;  // NOLINT: half of what stands below
using testing::Message;

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

TEST(Messages, OfPerExampleClipping) {
  const Parameter w(Tensor::ones({2, 3}), "w"), gain(Tensor::ones({2}), "gain"), other(Tensor::ones({2}), "other");
  const Tensor x = Tensor::from({1.f, 2.f, 3.f, 4.f, 5.f, 6.f, 7.f, 8.f, 9.f}, {3, 3});
  const auto listed = [&] { return list_of(w, gain); };
  /// Watches, runs `losses`, and goes back.
  const auto run = [&](auto losses) {
    w.ref()->clear_grad();
    PerExampleClip clip(listed(), {.max_norm = 1});
    Tape tape;
    clip.watch(tape);
    clip.backward(tape, losses(tape));
  };
  const Message all[] = {
      {"no parameters", [&] { PerExampleClip({}, {.max_norm = 1}); }, "[PerExampleClip] there are no parameters"},
      {"no bound", [&] { PerExampleClip(listed(), {.max_norm = 0}); },
       "[PerExampleClip] max_norm must be positive, got 0"},
      {"a bound below 0", [&] { PerExampleClip(listed(), {.max_norm = -1}); },
       "[PerExampleClip] max_norm must not be negative or NaN, got -1"},
      {"noise that is NaN", [&] { PerExampleClip(listed(), {.max_norm = 1, .noise_multiplier = nan}); },
       "[PerExampleClip] noise_multiplier must not be negative or NaN, got nan"},
      {"noise without a bound", [&] { PerExampleClip(listed(), {.max_norm = infinity, .noise_multiplier = 1}); },
       "[PerExampleClip] noise of 1 times max_norm inf is not finite"},
      {"a batch below 0", [&] { PerExampleClip(listed(), {.max_norm = 1, .expected_batch = -2}); },
       "[PerExampleClip] expected_batch must be a number of examples, got -2"},
      {"a schedule below 0",
       [&] {
         PerExampleClip clip(listed(), {.max_norm = [](std::int64_t) { return -1.0; }});
         Tape tape;
         clip.watch(tape);
         clip.backward(tape, sum(linear(x, w), {1}));
       },
       "[PerExampleClip] max_norm must not be negative or NaN, got -1"},
      {"a loss in one number", [&] { run([&](Tape&) { return sum(linear(x, w)); }); },
       "[PerExampleClip] losses must be [N], one for each example, got []. Hint: reduction none, and a sum over what "
       "one "
       "example has several of"},
      {"constant losses", [&] { run([&](Tape&) { return Variable(Tensor::ones({3})); }); },
       "[PerExampleClip] the losses were not computed on this tape from any parameter that trains"},
      {"not watched",
       [&] {
         PerExampleClip clip(listed(), {.max_norm = 1});
         Tape tape;
         clip.backward(tape, sum(linear(x, w), {1}));
       },
       "[PerExampleClip] this tape is not watched. Hint: clip.watch(tape) before the forward pass"},
      {"watched once, used twice",
       [&] {
         w.ref()->clear_grad();
         PerExampleClip clip(listed(), {.max_norm = 1});
         Tape tape;
         clip.watch(tape);
         const Variable losses = sum(linear(x, w), {1});
         clip.backward(tape, losses);
         clip.backward(tape, losses);
       },
       "[PerExampleClip] this tape is not watched. Hint: clip.watch(tape) before the forward pass"},
      {"watched late",
       [&] {
         PerExampleClip clip(listed(), {.max_norm = 1});
         Tape tape;
         const Variable y = linear(x, w);
         clip.watch(tape);
       },
       "[PerExampleClip] 'w' was read on this tape before watch(). Hint: watch a tape as soon as it is made"},
      {"a parameter that is not listed", [&] { run([&](Tape&) { return sum(mul(linear(x, w), other), {1}); }); },
       "[PerExampleClip] the parameter 'other' of shape [2] is on the tape but was not listed: its gradient would be "
       "neither clipped nor noised. Hint: list it, or freeze it"},
      {"a gradient from elsewhere",
       [&] {
         run([&](Tape&) {
           w.ref()->accumulate(Tensor::ones({2, 3}));
           return sum(linear(x, w), {1});
         });
       },
       "[PerExampleClip] 'w' has a gradient that was not clipped here: it would join those that were. Hint: step(), or "
       "clear_grad(), before the next batch"},
      {"batch_norm", [&] { run([&](Tape&) { return sum(batch_norm(linear(x, w), gain), {1}); }); },
       "[PerExampleClip] the batch_norm of 'gain' mixes examples: no gradient belongs to one of them alone. Hint: "
       "group_norm or layer_norm"},
      {"batch_norm without gains", [&] { run([&](Tape&) { return sum(batch_norm(linear(x, w)), {1}); }); },
       "[PerExampleClip] the batch_norm mixes examples: no gradient belongs to one of them alone. Hint: group_norm or "
       "layer_norm"},
      {"mixed examples",
       [&] {
         run([&](Tape&) {
           const Variable h = linear(x, w);
           return sum(square(sub(h, mean(h, {0}, true))), {1});
         });
       },
       "[PerExampleClip] the gradient of the output [3, 2] of [linear], which reads 'w', does not fall into 3 "
       "examples: "
       "behind it examples are mixed, or a hook changes gradients, or they lie along no axis of this length. Hint: "
       "losses[i] must depend on example i alone"},
      {"not finite",
       [&] {
         Tensor bad = x.clone();
         bad.select(0, 1).fill(nan);
         run([&](Tape&) { return sum(linear(bad, w), {1}); });
       },
       "[PerExampleClip] the gradient of example 1 among 3 in 'w' is not finite: its norm is nan. Hint: look at that "
       "example's loss"},
      {"no examples", [&] { run([&](Tape&) {
                              return sum(linear(Tensor::ones({0, 3}), w), {1});
                            }); },
       "[PerExampleClip] a batch without examples cannot be divided by their number. Hint: set expected_batch"},
      {"a state of another kind", [&] { PerExampleClip(listed(), {.max_norm = 1}).load_state(Tensor::ones({4})); },
       "[PerExampleClip] a state is i64 [4]: generator and steps; got f32 [4]"},
  };
  testing::expect_texts(all);
}

TEST(Messages, OfThePrivacyAccountant) {
  PrivacyAccountant accountant({1, 0.1});
  const Message all[] = {
      {"noise below 0",
       [] {
         PrivacyAccountant({-1, 0.1});
       },
       "[PrivacyAccountant] noise_multiplier must not be negative or NaN, got -1"},
      {"a rate above 1",
       [&] {
         accountant.set({1, 256});
       },
       "[PrivacyAccountant] sample_rate 256 is outside [0, 1]. Hint: it is the batch size over the number of examples"},
      {"steps below 0", [&] { accountant.step(-1); }, "[PrivacyAccountant] steps cannot be taken back, got -1"},
      {"delta", [&] { accountant.epsilon(1); },
       "[PrivacyAccountant] delta must lie between 0 and 1, got 1. Hint: less than 1 over the number of examples"},
      {"an order of 1",
       [] {
         sampled_gaussian_rdp(1, {1, 0.1});
       },
       "[sampled_gaussian_rdp] the order alpha must be a number above 1, got 1"},
      {"a state of another kind", [&] { accountant.load_state(Tensor::ones({3})); },
       "[PrivacyAccountant] a state is f64 [kinds of steps, 3], got f32 [3]"},
      {"half a step",
       [&] {
         accountant.load_state(Tensor::from({1., 0.1, 0.5}, {1, 3}));
       },
       "[PrivacyAccountant] the state counts 0.5 steps"},
      {"no budget", [] { noise_for({.epsilon = 0, .delta = 1e-5, .sample_rate = 0.1, .steps = 10}); },
       "[noise_for] epsilon must be positive, got 0"},
      {"steps below 0", [] { noise_for({.epsilon = 1, .delta = 1e-5, .sample_rate = 0.1, .steps = -1}); },
       "[noise_for] the number of steps must not be negative, got -1"},
      {"too small a budget", [] { noise_for({.epsilon = 1e-9, .delta = 1e-12, .sample_rate = 1, .steps = 1000}); },
       "[noise_for] no noise keeps 1000 steps at sample_rate 1 within epsilon 1e-09 at delta 1e-12. Hint: a larger "
       "epsilon or delta, or fewer steps"},
  };
  testing::expect_texts(all);
}

}  // namespace
}  // namespace espalier
