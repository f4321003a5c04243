#include "results/rows.h"

#include <array>
#include <cmath>
#include <limits>

#include "results/training.h"

namespace results {

using namespace espalier;

namespace {

struct Run {
  const Row& row;
  const Settings& settings;
  data::TrainTest data;
  Rng rng;
  std::string title;
};

Recipe recipe_of(const Run& run) {
  Recipe recipe = run.row.recipe;
  recipe.epochs = epochs_of(run.settings, recipe.epochs);
  return recipe;
}

Json counts(const ParameterList& parameters) {
  const Count total = count_of(parameters, false), live = count_of(parameters, true);
  Json layers = Json::object();
  for (const NamedParameter& named : parameters)
    if (named.parameter->value().rank() >= 2)
      layers[named.name] = static_cast<double>(prune::live_weights(*named.parameter)) /
                           static_cast<double>(named.parameter->value().size());
  return {{"weights", total.weights},
          {"weights_live", live.weights},
          {"all", total.all},
          {"all_live", live.all},
          {"left_of_layer", layers}};
}

/// What is stored once compact() has cut dead units, biases and all.
template <class Net>
Index stored_of(const Net& net, const Tensor& sample) {
  const Net deployed = prune::compact(net, sample, {.kernels = prune::Kernels::fixed});
  return count_of(deployed.parameters(), true).all;
}

Tensor sample_of(const Run& run) {
  return run.data.test.x.slice(0, 0, std::min<Index>(64, run.data.test.size())).contiguous();
}

/// Gradual pruning of the dense network of this seed, by the cubic schedule, then the recipe.
template <class Net>
void retrain(Run& run, Json& json) {
  const Row& row = run.row;
  Net net(run.rng);
  json["dense_error"] = dense_network(run.settings, row.network, run.data, net);
  const data::Dataset taught = with_teacher(run.data.train, logits_of(net, run.data.train));
  const Recipe recipe = recipe_of(run);
  ParameterList layers;
  for (const NamedParameter& named : net.parameters())
    if (named.parameter->value().rank() >= 2) layers.push_back(named);
  const double left = row.left / static_cast<double>(count_of(layers, false).weights), first_left = 0.07;

  // From what is left now to `next` of all layers together, or layer by layer to left_of_layer.
  const auto prune_gradually = [&](Index epochs, double before, double next, bool sparse) {
    Recipe gradual = recipe;
    gradual.epochs = epochs_of(run.settings, epochs);
    const Index steps = gradual.epochs * (taught.size() / std::min(recipe.batch, taught.size()));
    std::vector<prune::Pruner> pruners;
    const auto add = [&](const ParameterList& parameters, double to) {
      pruners.emplace_back(parameters,
                           prune::PrunerOptions{.schedule = prune::cubic({.final_sparsity = 1 - to,
                                                                          .initial_sparsity = 1 - before,
                                                                          .begin = 0,
                                                                          .end = std::max<Index>(1, steps * 19 / 20),
                                                                          .every = std::max<Index>(1, steps / 100)})});
    };
    if (row.left_of_layer.empty()) add(layers, next);
    for (std::size_t i = 0; i < row.left_of_layer.size(); ++i) add({layers[i]}, row.left_of_layer[i]);
    train_by(net, taught, gradual, run.rng, run.title + " prune", row.temperature, row.alpha, sparse, recipe.lr,
             [&](Index, optim::Optimizer& optimizer) {
               for (const prune::Pruner& pruner : pruners) optimizer.attach(pruner);
             });
  };
  const bool twice = row.prune_further_epochs > 0;
  prune_gradually(row.prune_epochs, 1, twice ? first_left : left, false);
  if (twice) prune_gradually(row.prune_further_epochs, first_left, left, true);
  train_by(net, taught, recipe, run.rng, run.title + " retrain", row.temperature, row.alpha, true);
  json["error"] = error_of(net, run.data.test);
  json["counts"] = counts(net.parameters());
  json["stored"] = stored_of(net, sample_of(run));
  io::save(path_of(run.settings, run.title + ".safetensors"), net);
}

/// Masks from one batch before training.
template <class Net>
void snip(Run& run, Json& json) {
  Net net(run.rng);
  draw_kaiming(net, run.rng, run.row.gain);
  data::Loader loader(run.data.train, std::min<Index>(100, run.data.train.size()), run.rng.split());
  const data::Batch batch = *loader.begin();
  prune::Pruner pruner(net.parameters(), {.score = prune::snip(),
                                          .loss = [&](Index) { return nn::cross_entropy(net(batch.x), batch.y); }});
  pruner.to_sparsity(1 - run.row.left);
  train_by(net, run.data.train, recipe_of(run), run.rng, run.title, 1, 0, true);
  json["error"] = error_of(net, run.data.test);
  json["counts"] = counts(net.parameters());
}

/// Half of the units of every group that may be cut, least important first; cut; trained on.
template <class Net>
void structured(Run& run, Json& json) {
  const Row& row = run.row;
  Net net(run.rng);
  json["dense_error"] = dense_network(run.settings, row.network, run.data, net);
  const Net dense = net;
  const data::Dataset taught = with_teacher(run.data.train, logits_of(net, run.data.train));
  const Tensor sample = sample_of(run);
  Json groups = Json::object();
  for (const prune::UnitGroup& group : prune::unit_groups(net, sample)) {
    prune::mask_units(group, group.size() / 2);
    groups[group.name] = {group.size(), group.size() - group.size() / 2};
  }
  prune::shrink(net, sample);
  train_by(net, taught, recipe_of(run), run.rng, run.title, row.temperature, row.alpha);
  json["error"] = error_of(net, run.data.test);
  json["units"] = groups;
  json["counts"] = counts(net.parameters());
  json["counts"]["dense_all"] = count_of(dense.parameters(), false).all;
  const std::array<std::function<void()>, 2> calls{[&] { dense(sample); }, [&] { net(sample); }};
  const std::vector<double> us = train::median_latencies(calls, 31);
  json["milliseconds"] = {us[0] / 1000, us[1] / 1000};
  json["speedup"] = us[0] / us[1];
  io::save(path_of(run.settings, run.title + ".safetensors"), net);
}

/// One training of the lottery: looks at the validation loss every so often.
struct LotteryTraining {
  Index early_stop = 0;  ///< iteration of the lowest validation loss
  double at_stop = 0;    ///< test error there
  double at_end = 0;     ///< and at the end
};
LotteryTraining train_ticket(const LeNet300& net, const data::Dataset& train, const data::Dataset& validation,
                             const data::Dataset& test, const LotterySettings& o, Rng rng) {
  optim::Optimizer optimizer(net.parameters(), optim::adam({.lr = o.lr}));
  data::Loader loader(train, std::min(o.batch, train.size()), rng, {.drop_last = true});
  const SparseTraining sparse(net.parameters(), {.batch = loader.batch_size()});
  LotteryTraining result;
  double lowest = std::numeric_limits<double>::infinity();
  Index iteration = 0;
  while (iteration < o.iterations) {
    for (auto& [x, y] : loader) {
      {
        Tape tape;
        tape.backward(nn::cross_entropy(net(x), y));
        optimizer.step();
      }
      if (++iteration % o.every == 0) {
        const double loss = nn::cross_entropy(logits_of(net, validation), validation.y).item();
        if (loss < lowest) {
          lowest = loss;
          result.early_stop = iteration;
          result.at_stop = error_of(net, test);
        }
      }
      if (iteration == o.iterations) break;
    }
  }
  result.at_end = error_of(net, test);
  return result;
}

Json as_json(const LotteryTraining& t) {
  return {{"early_stop", t.early_stop}, {"error_at_stop", t.at_stop}, {"error_at_end", t.at_end}};
}

void lottery(Run& run, Json& json) {
  LotterySettings o;
  if (run.settings.tiny)
    o = {.iterations = 6, .rounds = 2, .every = 2, .validation = 60, .round_21 = 1, .round_3_6 = 2};
  const Index n = run.data.train.size(), kept = n - o.validation;
  const data::Dataset train = rows_of(run.data.train, 0, kept), validation = rows_of(run.data.train, kept, n);
  const Rng order = run.rng.split();  // the same batches in every round
  LeNet300 net(run.rng);
  draw_glorot(net, run.rng);
  const prune::Rewind start(net.parameters());

  // Each round is kept, so that a run that was stopped goes on.
  const std::string model = path_of(run.settings, run.title + "-round.safetensors");
  const std::string progress = path_of(run.settings, run.title + "-rounds.json");
  Json rounds = Json::array(), random = Json::array();
  double minutes_before = 0;
  if (std::filesystem::exists(progress)) {
    Json saved = read_json(progress);
    rounds = saved.at("rounds");
    random = saved.at("random");
    minutes_before = saved.at("minutes");
    io::load(model, net);
    say(run.title + ": goes on behind round " + std::to_string(rounds.size() - 1));
  }
  const Stopwatch watch;
  LotteryTraining last;
  train::LotteryOptions options{.rounds = o.rounds,
                                .rules = {{"fc3.weight", 0.1}, {optim::select_rank(2), 0.2}},
                                .start = start,
                                .first_round = static_cast<Index>(rounds.size())};
  options.on_round = [&](const train::LotteryRound& round) {
    Json row = as_json(last);
    row["round"] = round.round;
    row["left"] = round.left;
    rounds.push_back(row);
    say(run.title + " " + row.dump());
    if (round.round == o.round_21 || round.round == o.round_3_6) {
      LeNet300 other = net;  // the same masks, other weights
      Rng fresh(run.settings.seed + 1000);
      draw_glorot(other, fresh);
      Json of_random = as_json(train_ticket(other, train, validation, run.data.test, o, order));
      of_random["round"] = round.round;
      of_random["left"] = round.left;
      random.push_back(of_random);
      say(run.title + " drawn anew " + of_random.dump());
    }
    io::save(model, net);
    write_json(progress, {{"rounds", rounds}, {"random", random}, {"minutes", minutes_before + watch.minutes()}});
  };
  if (options.first_round <= options.rounds)
    train::lottery(
        net,
        [&](const LeNet300& m, Index) {
          last = train_ticket(m, train, validation, run.data.test, o, order);
          return train::LotteryOutcome{.metric = 100 - last.at_stop, .early_stop = last.early_stop};
        },
        options);
  json["rounds"] = rounds;
  json["random"] = random;
  json["iterations"] = o.iterations;
  json["round_21"] = o.round_21;
  json["round_3_6"] = o.round_3_6;
  json["minutes_before"] = minutes_before;
}

template <class Net>
void run_with(Run& run, Json& json) {
  switch (run.row.kind) {
    case Kind::retrain:
      return retrain<Net>(run, json);
    case Kind::snip:
      return snip<Net>(run, json);
    case Kind::structured:
      return structured<Net>(run, json);
    case Kind::lottery:
      return lottery(run, json);
  }
}

}  // namespace

void run_row(const Row& row, const Settings& settings) {
  std::string title = std::string(row.name) + "-" + std::to_string(settings.seed);
  for (const std::string& change : settings.changes) title += "-" + change;
  const std::string path = path_of(settings, title + ".json");
  if (std::filesystem::exists(path)) return say(title + ": " + path + " is there already");
  Run run{row, settings, load_digits(settings, row.centred), Rng(settings.seed).split(), title};
  const Stopwatch watch;
  Json json{{"row", row.name}, {"seed", settings.seed}, {"tiny", settings.tiny}, {"choose", settings.choose}};
  if (row.network == Network::lenet300)
    run_with<LeNet300>(run, json);
  else
    run_with<LeNet5>(run, json);
  json["minutes"] = watch.minutes() + json.value("minutes_before", 0.0);
  json["threads"] = threads();
  write_json(path, json);
  say(title + ": " + json.dump());
}

}  // namespace results
