// The texts of errors in scores and in what gathers for them.
#include "espalier/prune/score.h"

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/prune/movement.h"
#include "espalier/prune/reconstruct.h"
#include "espalier/prune/scores_activation.h"
#include "espalier/prune/scores_curvature.h"
#include "espalier/prune/scores_gradient.h"
#include "espalier/prune/scores_weight.h"
#include "espalier/prune/synflow.h"
#include "espalier/prune/threshold.h"
#include "tests/messages/message.h"

namespace espalier::prune {
namespace {

using espalier::testing::expect_texts;
using espalier::testing::Message;

const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

TEST(Messages, OfScores) {
  const Parameter w(Tensor::ones({2, 3}), "fc.weight");
  const NamedParameter named{"fc.weight", w.ref()};
  auto ask = [=](const Score& score) { return [=] { score(named, {}); }; };
  const Message all[] = {
      {"a power of 0", [] { magnitude({.p = 0}); }, "[magnitude] p must be above 0, got 0"},
      {"a norm of 0", [] { ln_structured({.p = 0}); }, "[ln_structured] p must be above 0, got 0"},
      {"a power of NaN", [] { taylor({.p = nan}); }, "[taylor] p must be above 0, got nan"},
      {"negative damping", [] { obs({.damping = -1}); }, "[obs] damping must be at least 0 and finite, got -1"},
      {"no gradient", ask(taylor()),
       "[taylor] 'fc.weight' has no gradient, which this score needs. Hint: run backward first, or leave the parameter "
       "out of the pruner's selection"},
      {"no squares", ask(fisher()),
       "[fisher] 'fc.weight' has no squared gradient, which this score needs. Hint: gather() it from losses that "
       "depend "
       "on the parameter, or leave it out of the selection"},
      {"no curvature", ask(obd()),
       "[obd] 'fc.weight' has no diagonal of the Hessian, which this score needs. Hint: gather() it from losses that "
       "depend on the parameter, or leave it out of the selection"},
      {"no inputs", ask(wanda()),
       "[wanda] 'fc.weight' has no sums of its inputs, which this score needs. Hint: gather() it; only a parameter "
       "that "
       "linear(), conv1d() or conv2d() reads as its weight has it"},
      {"no flow", ask(synflow()),
       "[synflow] 'fc.weight' has no flow, which this score needs. Hint: gather_flow() it from the model"},
      {"no norm", ask(norm_scale()),
       "[norm_scale] 'fc.weight' has no normalisation behind it, which this score needs. Hint: gather() it; it must "
       "follow the layer directly, and have a scale for each of its units"},
      {"what was gathered before the cut",
       [=] {
         taylor()(named, {.gradient = Tensor::ones({4, 3})});
       },
       "[taylor] the statistics of 'fc.weight' were gathered when it had another shape than [2, 3]. Hint: gather() "
       "them "
       "anew"},
      {"a score of units for single weights", [=] { prune_below({named}, fpgm(), 1); },
       "[prune_below] fpgm scores whole units of 'fc.weight', and single weights are pruned here"},
      {"a threshold of NaN", [=] { prune_below({named}, magnitude(), nan); }, "[keep_at_least] the threshold is NaN"},
      {"more than all of each row", [=] { prune_rows({named}, magnitude(), 1.5); },
       "[prune_rows] the fraction must be in [0, 1], got 1.5"},
  };
  expect_texts(all);
}

TEST(Messages, OfGathering) {
  const Parameter w(Tensor::ones({2, 3}), "fc.weight");
  const ParameterList list = list_of(w);
  const Loss loss = [=](Index) { return sum(w * 1.0); };
  const Message all[] = {
      {"no loss", [=] { gather(list, {}, 1, {}); },
       "[gather] there is no loss. Hint: [&](Index batch) { return cross_entropy(...); }"},
      {"no batches", [=] { gather(list, loss, 0, {}); }, "[gather] batches must be at least 1, got 0"},
      {"fewer probes than none", [=] { gather(list, loss, 1, {}, {.probes = -1}); },
       "[gather] probes must not be negative, got -1"},
      {"a loss that returns nothing", [=] { gather(list, [](Index) { return Variable(); }, 1, {.gradient = true}); },
       "[gather] the loss is undefined"},
      {"an infinite flow",
       [] {
         struct Model {
           Parameter w{Tensor::full({1, 1}, infinity), "w"};
           ParameterList parameters() const { return list_of(w); }
           Variable operator()(const Variable& x) const { return linear(x, w); }
         };
         gather_flow(Model(), {1, 1});
       },
       "[synflow] the flow through the model is inf. Hint: it is a sum over all paths; smaller weights, or weights "
       "that "
       "are finite"},
      {"no rounds",
       [=] {
         Pruner pruner(list);
         prune_in_rounds(pruner, 0.5, 0, [](Index) { return Gathered(); });
       },
       "[prune_in_rounds] rounds must be at least 1, got 0"},
      {"no sparsity",
       [=] {
         Pruner pruner(list);
         prune_in_rounds(pruner, nan, 2, [](Index) { return Gathered(); });
       },
       "[prune_in_rounds] the sparsity must be in [0, 1], got nan"},
  };
  expect_texts(all);
}

TEST(Messages, OfMovement) {
  const Parameter w(Tensor::ones({2, 3}), "fc.weight"), other(Tensor::ones({2, 3}), "other");
  const ParameterList list = list_of(w);
  const Movement movement(list);
  auto load = [=](std::map<std::string, Tensor> state) { return [=] { Movement(list).load_state(state); }; };
  const Message all[] = {
      {"a rate of 0", [=] { Movement(list, {.lr = 0}); }, "[movement] lr must be above 0 and finite, got 0"},
      {"an infinite pull", [=] { Movement(list, {.lambda = infinity}); }, "[movement] lambda must be finite, got inf"},
      {"nothing to follow", [=] { Movement(list, {.select = "x"}); }, "[movement] none of 1 parameters is selected"},
      {"a stranger",
       [=] {
         movement.score()({"other", other.ref()}, {});
       },
       "[movement] 'other' is not among the parameters it follows"},
      {"a state without scores", load({}), "[movement] 'fc.weight' is missing in the saved state"},
      {"a state of another model", load({{"x", Tensor()}}), "[movement] 'x' is not one of its parameters"},
      {"scores of another shape", load({{"fc.weight", Tensor::zeros({3, 2}, DType::f64)}}),
       "[movement] 'fc.weight' in the saved state is f64 of shape [3, 2], expected f64 of shape [2, 3]"},
  };
  expect_texts(all);
}

TEST(Messages, OfReconstruction) {
  const Tensor w = Tensor::ones({2, 2}, DType::f64), gram = Tensor::ones({1, 2, 2}, DType::f64);
  Tensor broken = w.clone(), inputs = gram.clone();
  broken.write<double>("test")[1] = nan;
  inputs.write<double>("test")[1] = infinity;
  auto sweep = [=](SparseGptOptions o) { return [=] { sparsegpt("fc.weight", w, gram, Mask(), o); }; };
  const Message all[] = {
      {"neither", sweep({}), "[sparsegpt] either a sparsity or keep and of must be given"},
      {"both", sweep({.sparsity = 0.5, .keep = 2, .of = 4}),
       "[sparsegpt] either a sparsity or keep and of must be given"},
      {"five of four", sweep({.keep = 5, .of = 4}), "[sparsegpt] keep must be in [0, of], got 5 of 4"},
      {"more than all", sweep({.sparsity = 2}), "[sparsegpt] the fraction must be in [0, 1], got 2"},
      {"no block", sweep({.sparsity = 0.5, .block = 0}), "[sparsegpt] block must be at least 1, got 0"},
      {"damping of NaN", sweep({.sparsity = 0.5, .damping = nan}),
       "[sparsegpt] damping must be at least 0 and finite, got nan"},
      {"inputs that follow from others", sweep({.sparsity = 0.5, .damping = 0}),
       "[sparsegpt] X^T X + 0 I of 'fc.weight' is singular: column 1 follows from those before it. Hint: more batches, "
       "or a larger damping"},
      {"no sparsity", [=] { obs_prune("fc.weight", w, gram, Mask(), {}); },
       "[obs_prune] the fraction must be in [0, 1], got nan"},
      {"another Gram matrix",
       [=] {
         compensate("fc.weight", w, Tensor::ones({1, 3, 3}, DType::f64), Mask());
       },
       "[compensate] a Gram matrix [1, 3, 3] for the weight 'fc.weight' of shape [2, 2]; it must be f64 [groups, "
       "columns, columns]"},
      {"another mask", [=] { compensate("fc.weight", w, gram, Mask(3)); },
       "[compensate] a mask of 3 for the weight 'fc.weight' of shape [2, 2]"},
      {"a weight of NaN", [=] { compensate("fc.weight", broken, gram, Mask()); },
       "[compensate] 'fc.weight' is not finite at flat index 1"},
      {"an infinite input", [=] { compensate("fc.weight", w, inputs, Mask()); },
       "[compensate] the inputs that 'fc.weight' multiplies are not finite"},
  };
  expect_texts(all);
}

}  // namespace
}  // namespace espalier::prune
