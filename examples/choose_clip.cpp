// Which max_norm? A trial run measures gradient norms and suggests one; a cross-validated search tries its neighbours
// and no clip at all. Handwritten digits, an MLP, SGD with momentum at a rate that needs a clip. `choose_clip --help`
// lists the settings; a run takes a few seconds.
#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <limits>

#include "espalier/espalier.h"

using namespace espalier;

namespace {

struct Settings {
  Index epochs = 10, batch_size = 32, hidden = 64, folds = 5, values = 8;
  double lr = 0.2, percentile = 90, range = 10;
  std::uint64_t seed = 1;
  int threads = 0;
};

nn::Sequential make_network(Rng& rng, const Settings& s) {
  return nn::Sequential(nn::Linear(rng, 64, s.hidden), relu, nn::Linear(rng, s.hidden, s.hidden), relu,
                        nn::Linear(rng, s.hidden, 10));
}

optim::Chain optimizer_of(const Settings& s) { return optim::sgd({.lr = s.lr, .momentum = 0.9}); }

/// Trains a fresh network on `set` with this clip. Everything that is drawn depends on the seed alone.
nn::Sequential train_network(const data::Dataset& set, double max_norm, std::uint64_t seed, const Settings& s) {
  Rng rng(seed);
  nn::Sequential model = make_network(rng, s);
  data::Loader loader(set, s.batch_size, rng.split());
  optim::Optimizer opt(model.parameters(), optim::chain(optim::clip_by_global_norm(max_norm), optimizer_of(s)));
  const auto loss = [](const nn::Sequential& m, const Tensor& x, const Tensor& y) {
    return nn::cross_entropy(m(x), y);
  };
  train::fit(model, opt, loader, loss, {.epochs = s.epochs, .on_step = {}, .on_epoch = {}});
  return model;
}

optim::ClipSuggestion suggest(const data::Dataset& set, const Settings& s) {
  Rng rng(s.seed);
  const nn::Sequential model = make_network(rng, s);
  Rng draws = rng.split();
  const auto backward = [&](std::int64_t) {
    std::vector<Index> rows(static_cast<std::size_t>(s.batch_size));
    for (Index& row : rows) row = draws.below(set.size());
    const data::Dataset batch = set.rows(rows);
    Tape tape;
    tape.backward(nn::cross_entropy(model(batch.x), batch.y));
  };
  return optim::suggest_clip(model.parameters(), backward, optimizer_of(s), {.percentile = s.percentile});
}

int run(const Settings& s) {
  if (s.threads > 0) set_threads(s.threads);
  const data::TrainTest digits = data::split_digits(data::digits(ESPALIER_SOURCE_DIR "/examples/data/digits.csv.gz"));
  const optim::ClipSuggestion suggestion = suggest(digits.train, s);
  std::printf("a trial run without a clip\n\n%s\n", suggestion.table().c_str());

  std::vector<double> thresholds =
      train::log_grid(suggestion.max_norm / s.range, suggestion.max_norm * s.range, s.values);
  thresholds.push_back(std::numeric_limits<double>::infinity());
  Rng rng(s.seed);
  const auto validation_loss = [&](double max_norm, const train::Fold& fold, std::size_t k) {
    const nn::Sequential model = train_network(digits.train.rows(fold.train), max_norm, s.seed + k, s);
    const data::Dataset held_out = digits.train.rows(fold.validation);
    return nn::cross_entropy(model(held_out.x), held_out.y).item();
  };
  const train::GridSearch search =
      train::grid_search(thresholds, train::k_folds(digits.train.size(), s.folds, rng), validation_loss);
  std::printf("validation loss by max_norm, %lld folds\n\n%s\n", static_cast<long long>(s.folds),
              search.table().c_str());

  const double chosen = search.values[search.one_standard_error].value;
  const nn::Sequential model = train_network(digits.train, chosen, s.seed, s);
  const double accuracy = train::accuracy(model(digits.test.x).value(), digits.test.y);
  std::printf("chosen: max_norm %g; trained with it on all training rows, %s of the test rows are right\n", chosen,
              percent(accuracy).c_str());
  return 0;
}

Settings parse(int argc, char** argv) {
  Settings s;
  CLI::App app(
      "Chooses the threshold of clip_by_global_norm for an MLP on handwritten digits: suggest_clip() measures a\n"
      "trial run, grid_search() cross-validates thresholds around what it suggests.");
  app.set_version_flag("--version", std::string("espalier ") + version());
  app.option_defaults()->always_capture_default();
  app.add_option("--lr", s.lr, "Learning rate of SGD with momentum 0.9")->check(CLI::PositiveNumber);
  app.add_option("--epochs", s.epochs, "Passes over the training rows of a fold")->check(CLI::Range(1, 100000));
  app.add_option("--batch-size", s.batch_size, "Rows a step")->check(CLI::Range(1, 500));
  app.add_option("--hidden", s.hidden, "Units of each of the two hidden layers")->check(CLI::Range(1, 1 << 16));
  app.add_option("--percentile", s.percentile, "Of the norms in the trial run: the suggestion")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--values", s.values, "Thresholds to try, besides none")->check(CLI::Range(2, 1000));
  app.add_option("--range", s.range, "They lie between suggestion / range and suggestion * range")
      ->check(CLI::Range(1.0001, 1e6));
  app.add_option("--folds", s.folds, "Of the cross-validation")->check(CLI::Range(2, 100));
  app.add_option("--seed", s.seed, "Of the weights, the folds and the order of the rows");
  app.add_option("--threads", s.threads, "0 means all processors; results do not depend on it")
      ->check(CLI::Range(0, 1024));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error) == 0 ? 0 : 2);
  }
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  const Settings settings = parse(argc, argv);
  try {
    return run(settings);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "choose_clip: %s\n", error.what());
    if (dynamic_cast<const NonFiniteError*>(&error)) return 4;
    return dynamic_cast<const IoError*>(&error) || dynamic_cast<const FormatError*>(&error) ? 3 : 1;
  }
}
