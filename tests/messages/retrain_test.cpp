// The texts of errors of rewinding, the lottery and fine-tuning.
#include "espalier/data/synthetic.h"
#include "espalier/nn/linear.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/sgd.h"
#include "espalier/train/fine_tune.h"
#include "espalier/train/lottery.h"
#include "tests/messages/message.h"

namespace espalier::train {
namespace {

using espalier::testing::Message;

TEST(Messages, OfRewinding) {
  Rng rng(1);
  const nn::Linear layer(rng, 3, 2), other(rng, 3, 2);
  optim::Optimizer adam(layer.parameters(), optim::adam()), sgd(other.parameters(), optim::sgd());
  const prune::Rewind plain(layer.parameters()), with_sgd(other.parameters(), sgd);
  const Parameter wide(Tensor::zeros({3}), "bias");
  prune::RewindState missing = plain.state(), unknown = missing, longer = missing;
  missing.erase("value/bias");
  unknown["value/gain"] = Tensor::zeros({2});
  longer["value/bias"] = Tensor::zeros({3});
  const auto load = [&](const prune::RewindState& state) { prune::Rewind(layer.parameters()).load_state(state); };
  const Message all[] = {
      {"nothing to keep", [] { prune::Rewind(ParameterList{}); }, "[rewind] there are no parameters to keep"},
      {"no optimizer", [&] { plain.rewind(adam); },
       "[rewind] no optimizer was kept, so there is no step to go back to. Hint: Rewind(parameters, optimizer), or "
       ".learning_rate = false"},
      {"another optimizer", [&] { with_sgd.rewind(adam); },
       "[rewind] the optimizer that was kept had no 'adam/m/bias'. Hint: keep and rewind one optimizer"},
      {"another shape", [&] { plain.copy_to(list_of(wide)); },
       "[rewind] 'bias' was f32 [2] and is f32 [3] now. Hint: give the Rewind to shrink(), and it follows the cut"},
      {"no known name", [&] { plain.copy_to({}); }, "[rewind] none of 0 parameters has a name that was kept"},
      {"unknown name", [&] { plain.value("gain"); }, "[rewind] no value of 'gain' was kept"},
      {"a key missing", [&] { load(missing); }, "[rewind] 'value/bias' is missing in the saved state"},
      {"a key too many", [&] { load(unknown); }, "[rewind] 'value/gain' in the saved state belongs to nothing here"},
      {"another length", [&] { load(longer); },
       "[rewind] 'value/bias' in the saved state is f32 [3], expected f32 [2]"},
  };
  espalier::testing::expect_texts(all);
}

TEST(Messages, OfTheLottery) {
  Rng rng(1);
  nn::Linear layer(rng, 3, 2);
  const auto run = [&](LotteryOptions options) {
    lottery(
        layer, [](const nn::Linear&, Index) { return LotteryOutcome{}; }, options);
  };
  const Message all[] = {
      {"negative rounds", [&] { run({.rounds = -1}); },
       "[lottery] rounds must not be negative and first_round not behind them, got -1 and 0"},
      {"first behind last", [&] { run({.rounds = 2, .first_round = 3}); },
       "[lottery] rounds must not be negative and first_round not behind them, got 2 and 3"},
      {"no start to go on", [&] { run({.rounds = 2, .first_round = 1}); },
       "[lottery] to go on at round 1 there must be a .start. Hint: keep the Rewind of the first call"},
      {"no rules", [&] { run({.rules = {}}); }, "[lottery] there are no rules, so nothing would be pruned"},
      {"everything goes",
       [&] {
         run({.rules = {{"*", 1.0}}});
       },
       "[lottery] the fraction of rule 1 must be in [0, 1), got 1"},
      {"a rule for nothing",
       [&] {
         run({.rules = {{"weight", 0.2}, {"conv*", 0.1}}});
       },
       "[lottery] rule 2 selects no parameter that an earlier one leaves"},
  };
  espalier::testing::expect_texts(all);
}

TEST(Messages, OfFineTuning) {
  Rng rng(1);
  const nn::Linear layer(rng, 2, 2);
  data::Loader loader(data::two_moons(rng, 20), 10, rng.split());
  const auto loss = [](const nn::Linear& m, const Tensor& x, const Tensor& y) { return nn::cross_entropy(m(x), y); };
  const Tensor z = Tensor::zeros({2, 3}), y = Tensor::zeros({2}, DType::i64);
  const Message all[] = {
      {"no stages", [&] { fine_tune(layer, loader, loss, {.stages = 0}); },
       "[fine_tune] stages and epochs must be at least 1, got 0 and 1"},
      {"no epochs", [&] { fine_tune(layer, loader, loss, {.epochs = 0}); },
       "[fine_tune] stages and epochs must be at least 1, got 1 and 0"},
      {"no temperature", [&] { distillation_loss(z, y, z, {.temperature = 0}); },
       "[distill] temperature must be positive and alpha within [0, 1], got 0 and 0.5"},
      {"more than the whole", [&] { distillation_loss(z, y, z, {.alpha = 1.5}); },
       "[distill] temperature must be positive and alpha within [0, 1], got 1 and 1.5"},
      {"back before the start", [&] { rewound(optim::constant({.lr = 1}), -2)(0, 10); },
       "[rewound] k must not be negative, got -2"},
  };
  espalier::testing::expect_texts(all);
}

}  // namespace
}  // namespace espalier::train
