// What the rows share: data, one training by a recipe, errors, the dense networks, files.
#pragma once

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "results/networks.h"
#include "results/settings.h"

namespace results {

using Json = nlohmann::ordered_json;

class Stopwatch final {
 public:
  double minutes() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count() / 60;
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// MNIST, pixels normalised or from 0 to 1, or with --tiny the shipped digits enlarged to 28 x 28. x [N, 1, 28, 28], y i64 [N].
espalier::data::TrainTest load_digits(const Settings& settings, bool centred);
/// Rows from `first` up to `last`, as views.
espalier::data::Dataset rows_of(const espalier::data::Dataset& all, Index first, Index last);
/// A path in the output folder; the files of --tiny and --choose lie in folders of their own.
std::string path_of(const Settings& settings, const std::string& file);
void write_json(const std::string& path, const Json& json);
Json read_json(const std::string& path);
void say(const std::string& line);

/// Logits of all rows, computed 1,000 at a time.
template <class Net>
espalier::Tensor logits_of(const Net& net, const espalier::data::Dataset& set) {
  std::vector<espalier::Tensor> parts;
  for (Index at = 0; at < set.size(); at += 1000)
    parts.push_back(net(set.x.slice(0, at, std::min(set.size(), at + 1000))).value());
  return espalier::concatenated(parts, 0);
}
/// Share of wrong answers, in per cent.
template <class Net>
double error_of(const Net& net, const espalier::data::Dataset& set) {
  return 100 * (1 - espalier::train::accuracy(logits_of(net, set), set.y));
}
/// The same images; y [N, 20]: the label as a distribution, and what the teacher answers.
espalier::data::Dataset with_teacher(const espalier::data::Dataset& set, const espalier::Tensor& logits);

/// weights: those of layers; all: biases, too. Live ones.
struct Count {
  Index weights = 0, all = 0;
};
Count count_of(const espalier::ParameterList& parameters, bool live);

/// Dropout and loss by recipe; alpha > 0: y is with_teacher()'s.
template <class Net>
auto loss_of(const Recipe& recipe, espalier::Rng& rng, double temperature, double alpha) {
  const bool noisy = recipe.drop_input > 0 || recipe.drop_hidden > 0;
  const Noise noise{recipe.drop_input, recipe.drop_hidden, noisy ? &rng : nullptr};
  return [noise, temperature, alpha](const Net& net, const espalier::Tensor& x, const espalier::Tensor& y) {
    const espalier::Variable logits = net(x, noise);
    if (alpha == 0) return espalier::nn::cross_entropy(logits, y);
    return espalier::train::distillation_loss(logits, y.slice(1, 0, 10).contiguous(), y.slice(1, 10, 20).contiguous(),
                                              {.temperature = temperature, .alpha = alpha});
  };
}

/// Decay is for weights; biases are left out of it, and what the masks prune anyway.
inline espalier::optim::Chain chain_of(const espalier::optim::Schedule& lr, const Recipe& recipe) {
  using namespace espalier::optim;
  const auto with_decay = [&](double decay) {
    return recipe.method == Method::adamw ? adamw({.lr = lr, .weight_decay = decay})
                                          : sgd({.lr = lr, .momentum = 0.9, .weight_decay = decay, .nesterov = true});
  };
  return chain(on(select_rank(2), with_decay(recipe.weight_decay)), on(select_rank(0, 1), with_decay(0)));
}

/// Trains by the recipe. alpha > 0: with a teacher, see with_teacher(). sparse: products by the masks, where they are
/// faster. lr_held > 0: at this constant rate. attach: what is to join the optimizer.
template <class Net>
void train_by(const Net& net, const espalier::data::Dataset& set, const Recipe& recipe, espalier::Rng& rng,
              const std::string& title, double temperature = 1, double alpha = 0, bool sparse = false,
              double lr_held = 0, std::function<void(Index, espalier::optim::Optimizer&)> attach = {}) {
  namespace train = espalier::train;
  espalier::data::Loader loader(set, std::min(recipe.batch, set.size()), rng.split(), {.drop_last = true});
  espalier::Rng noise = rng.split();
  const Stopwatch watch;
  train::fine_tune(net, loader, loss_of<Net>(recipe, noise, temperature, alpha),
                   {.attach = attach,
                    .epochs = recipe.epochs,
                    .lr = lr_held > 0 ? train::constant_at(lr_held) : train::cosine_from(recipe.lr),
                    .chain = [&](const espalier::optim::Schedule& lr) { return chain_of(lr, recipe); },
                    .sparse_training = sparse,
                    .on_epoch =
                        [&](Index, const train::EpochInfo& info) {
                          say(title + " epoch " + std::to_string(info.epoch + 1) + " of " +
                              std::to_string(recipe.epochs) + "  loss " + espalier::with_decimals(info.mean_loss, 4) +
                              "  left " + espalier::percent(1 - espalier::prune::sparsity(net.parameters())) + "  " +
                              espalier::with_decimals(watch.minutes(), 2) + " min");
                        }});
}

inline Index epochs_of(const Settings& s, Index epochs) { return s.tiny ? 1 : epochs; }

/// The dense network of a seed and its error: trained once, then read from its file.
template <class Net>
double dense_network(const Settings& s, Network network, const espalier::data::TrainTest& data, Net& net) {
  const std::string stem = std::string("dense-") + name_of(network) + "-" + std::to_string(s.seed);
  const std::string model = path_of(s, stem + ".safetensors"), figures = path_of(s, stem + ".json");
  if (std::filesystem::exists(figures)) {
    espalier::io::load(model, net);
    return read_json(figures).at("error").template get<double>();
  }
  const Stopwatch watch;
  Recipe recipe = dense_recipe(network);
  recipe.epochs = epochs_of(s, recipe.epochs);
  espalier::Rng rng(s.seed);
  draw_kaiming(net, rng);
  train_by(net, data.train, recipe, rng, stem);
  const double error = error_of(net, data.test);
  espalier::io::save(model, net);
  write_json(figures, {{"network", name_of(network)},
                       {"seed", s.seed},
                       {"epochs", recipe.epochs},
                       {"error", error},
                       {"minutes", watch.minutes()},
                       {"threads", espalier::threads()}});
  say(stem + ": error " + espalier::with_decimals(error, 2) + " %");
  return error;
}

}  // namespace results
