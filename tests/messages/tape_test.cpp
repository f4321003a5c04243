// The texts of errors of the tape and of what modules share, word for word.
#include <gtest/gtest.h>

#include "espalier/autograd/anomaly.h"
#include "espalier/autograd/checkpoint.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/init.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/module_list.h"
#include "espalier/nn/residual.h"
#include "espalier/nn/state_dict.h"
#include "tests/messages/message.h"

namespace espalier {
namespace {

using testing::expect_texts;
using testing::Message;

/// Runs f(w, tape) on a tape of its own; w = [1, -2], in f64.
template <class F>
std::function<void()> on_tape(F f) {
  return [f] {
    const Parameter w(Tensor::from({1.0, -2.0}), "w");
    Tape tape;
    f(w, tape);
  };
}

TEST(TapeMessages, AreTheseTexts) {
  const Message messages[] = {
      {"a hook on a constant",
       on_tape([](const Parameter&, Tape& tape) { tape.hook(Tensor::ones({3}), [](const Variable& g) { return g; }); }),
       "[hook] a value of shape [3] is a constant: no gradient comes to it. Hint: hook a parameter, a watched tensor "
       "or "
       "what was computed from one while this tape recorded"},
      {"a hook of another shape", on_tape([](const Parameter& w, Tape& tape) {
         const Variable y = square(w);
         tape.hook(y, [](const Variable& g) { return sum(g); });
         tape.backward(sum(y));
       }),
       "[hook] a hook on an output of [square] was given a gradient of shape [2] and returned []"},
      {"a hook that returns nothing of a gradient", on_tape([](const Parameter& w, Tape& tape) {
         const Variable y = square(w);
         tape.hook(y, [](const Variable&) { return Variable(); });
         tape.backward(sum(y));
       }),
       "[hook] a hook on an output of [square] returned no gradient. Hint: return g as it is, or g * 0 to stop it"},
      {"backward within a backward", on_tape([](const Parameter& w, Tape& tape) {
         const Variable y = sum(square(w));
         tape.hook(y, [&](const Variable&) { tape.backward(y); });
         tape.backward(y);
       }),
       "[backward] called by a hook or a rule while a backward of the same tape runs. Hint: a Tape of its own"},
      {"a rule that returns another shape", on_tape([](const Parameter& w, Tape& tape) {
         const Variable x = w;
         tape.backward(sum(record("mine", x.value().clone(), {&x}, [](const Variable& g, Wants) { return sum(g); })));
       }),
       "[mine] its rule returned a gradient of shape [] and type f64 for input 0, which has another shape or type. "
       "Hint: "
       "sum_to(g, x.shape())"},
      {"a rule that returns too few", on_tape([](const Parameter& w, Tape& tape) {
         const Variable x = w;
         tape.backward(sum(record("mine", x.value().clone(), {&x, &x},
                                  [](const Variable& g, Wants) { return std::vector<Variable>{g}; })));
       }),
       "[tape] a rule returned 1 gradients, fewer gradients than its op has inputs, which are 2. Hint: no_gradient() "
       "for "
       "an input that wants none"},
      {"the gradient by a constant",
       on_tape([](const Parameter& w, Tape& tape) { tape.gradient(sum(square(w)), {Variable(Tensor::ones({3}))}); }),
       "[gradient] an input of shape [3] is not on the tape. Hint: x = tape.watch(tensor); for parameters, hand over "
       "the "
       "list of them: a Variable made of one under NoTape is a constant"},
      {"backward of what is frozen", on_tape([](const Parameter& w, Tape& tape) {
         w.ref()->set_frozen(true);
         tape.backward(sum(w));
       }),
       "[backward] the value was not recorded: no Tape was alive when it was computed, or it depends on no parameter "
       "that "
       "trains (frozen ones are constants) and no watched tensor"},
      {"backward twice", on_tape([](const Parameter& w, Tape& tape) {
         const Variable y = sum(w);
         tape.backward(y);
         tape.backward(y);
       }),
       "[backward] backward ran on this tape already, and its saved tensors are freed. Hint: {.retain = true} for all "
       "passes but the last, or one Tape for each step"},
      {"a saved tensor changed in place", on_tape([](const Parameter& w, Tape& tape) {
         const Variable y = sum(square(w));
         w.ref()->mutable_value().write<double>("my_step")[0] = 3;
         tape.backward(y);
       }),
       "[square] a tensor of shape [2] saved for its backward was since changed in place by [my_step]. Hint: run "
       "backward before the change, or change a clone()"},
      {"an input of a checkpoint changed in place", on_tape([](const Parameter& w, Tape& tape) {
         const Variable y = sum(checkpoint([](const Variable& x) { return square(x); }, w));
         w.ref()->mutable_value().write<double>("my_step")[0] = 3;
         tape.backward(y);
       }),
       "[checkpoint] a tensor of shape [2] saved for its backward was since changed in place by [my_step]. Hint: run "
       "backward before the change, or change a clone()"},
      {"a checkpoint that uses what was no input", on_tape([](const Parameter& w, Tape& tape) {
         const Variable h = square(w);
         tape.backward(sum(checkpoint([&](const Variable& x) { return x * h; }, w)));
       }),
       "[mul] an input of shape [2] was recorded on an outer tape, which is still alive. Hint: .detach() it, or use "
       "one "
       "tape (as a checkpoint ran its segment again. Hint: every recorded value that it uses must be one of its "
       "inputs)"},
      {"a checkpoint that returns what was no input", on_tape([](const Parameter& w, Tape&) {
         const Variable h = square(w);
         checkpoint([&](const Variable&) { return h; }, w);
       }),
       "[checkpoint] output 0 of shape [2] was recorded outside of the segment. Hint: make it an input of the "
       "checkpoint"},
      {"a checkpoint that does something else the second time", on_tape([](const Parameter& w, Tape& tape) {
         int runs = 0;
         tape.backward(sum(checkpoint([&](const Variable& x) { return runs++ ? sum(x) : x * 2.0; }, w)));
       }),
       "[checkpoint] output 0 was [2] f64, and [] f64 when the segment ran again. Hint: it must do the same each time"},
      {"a checkpoint differentiated twice", on_tape([](const Parameter& w, Tape& tape) {
         const Variable x = w, y = sum(checkpoint([](const Variable&v) { return square(v); }, x));
         tape.gradient(sum(tape.gradient(y, {x}, {.create_graph = true})[0]), {x});
       }),
       "[checkpoint] can be differentiated only once. Hint: {.create_graph = true} needs the segment itself on the "
       "tape"},
      {"a value that is not finite", on_tape([](const Parameter& w, Tape& tape) {
         const Anomaly anomaly(tape);
         const Label label("encoder.2");
         log(w);
       }),
       "[log] output 0 [2] of node 1 is nan at element 1; it read input 0 [2], finite; nearest parameters upstream: "
       "'w' "
       "(in encoder.2)"},
      {"a gradient that is not finite", on_tape([](const Parameter& w, Tape& tape) {
         const Anomaly anomaly(tape);
         tape.backward(sum(sqrt(affine(w, 0, 0))));
       }),
       "[sqrt] the gradient for input 0 [2] of node 2 is inf at element 0; it came finite for output 0 [2]; nearest "
       "parameters upstream: 'w'"},
  };
  expect_texts(messages);
}

TEST(ModuleMessages, AreTheseTexts) {
  Rng rng(1);
  nn::Linear layer(rng, 3, 2);
  nn::ModuleList<nn::Residual<nn::Linear>> list;
  list.emplace_back(nn::Linear(rng, 3, 1));
  list.parameters();
  const Tensor weight = Tensor::ones({2, 3}), bias = Tensor::ones({2});
  const Message messages[] = {
      {"other names",
       [&] {
         nn::load_state_dict(layer, {{"weight", weight}, {"Bias", bias}});
       },
       "[load_state_dict] names differ; missing: 'bias'; unexpected: 'Bias'. Hint: {.strict = false} loads what both "
       "have"},
      {"another shape",
       [&] {
         nn::load_state_dict(layer, {{"weight", Tensor::ones({3, 2})}, {"bias", bias}});
       },
       "[load_state_dict] shapes differ; of other shapes: 'weight' is [2, 3] in the model, [3, 2] in the dictionary"},
      {"another type",
       [&] {
         nn::load_state_dict(layer, {{"weight", weight.to(DType::f64)}, {"bias", bias}});
       },
       "[load_state_dict] types differ; of other types: 'weight' is f32 in the model, f64 in the dictionary. Hint: "
       "model.to(DType::f64), or .to() on the tensors"},
      {"a body of another shape",
       [&] {
         list[0](Tensor::ones({4, 3}));
       },
       "[residual] the body turns shape [4, 3] into [4, 1], so there is nothing to add it to. Hint: a body that keeps "
       "the "
       "shape, or x projected by hand (in module 0)"},
      {"a module that is not there", [&] { list[1]; }, "[module_list] no module 1 among 1"},
      {"a type that no weight has", [&] { layer.to(DType::i64); }, "[to] a parameter must hold f32 or f64, not i64"},
      {"bounds the wrong way round", [&] { nn::init::truncated_normal(rng, {2}, {.low = 1, .high = -1}); },
       "[truncated_normal] needs low < high and a positive deviation, got 1, -1 and 1"},
      {"a vector that is to be orthogonal", [&] { nn::init::orthogonal(rng, {4}); },
       "[init] fans need a weight of at least two axes, got [4]"},
  };
  expect_texts(messages);
}

}  // namespace
}  // namespace espalier
