#include <memory>

#include "bench/language_models.h"
#include "bench/models.h"
#include "bench/workloads.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/loss.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/select.h"
#include "espalier/optim/sgd.h"

namespace espalier::bench {
namespace {

struct Batch {
  Tensor x, y;
};

/// One step a call, on batch after batch; no loss is read back.
template <class Model, class Loss>
Task train(Model model, std::vector<Batch> batches, Loss loss, optim::Chain chain, double items, double min_seconds) {
  struct State {
    Model model;
    optim::Optimizer optimizer;
    std::vector<Batch> batches;
    std::size_t next = 0;
    State(Model m, std::vector<Batch> b, optim::Chain c)
        : model(std::move(m)), optimizer(model.parameters(), std::move(c)), batches(std::move(b)) {}
  };
  const auto state = std::make_shared<State>(std::move(model), std::move(batches), std::move(chain));
  Task task;
  task.run = [state, loss] {
    const Batch& batch = state->batches[state->next++ % state->batches.size()];
    Tape tape;
    tape.backward(loss(state->model(batch.x), batch.y));
    state->optimizer.step();
  };
  task.figures = {per_second("train_throughput", "samples/s", items), microseconds("train_step")};
  task.min_seconds = min_seconds;
  task.extras = {{"params", static_cast<double>(state->model.parameter_count())}};
  return task;
}

/// Batches of N(0, 1) values with uniform labels.
std::vector<Batch> labelled(Rng& rng, const Shape& shape, int count = 16) {
  std::vector<Batch> batches;
  for (int k = 0; k < count; ++k) {
    std::vector<std::int64_t> labels;
    for (Index i = 0; i < shape[0]; ++i) labels.push_back(rng.below(10));
    batches.push_back({randn(rng, shape), Tensor::from(labels, {shape[0]})});
  }
  return batches;
}

/// One classifier with cross-entropy and clipping by the global norm.
Task classifier(nn::Sequential model, std::vector<Batch> batches, optim::Chain direction, Index batch) {
  return train(
      std::move(model), std::move(batches),
      [](const Variable& logits, const Tensor& y) { return nn::cross_entropy(logits, y); },
      chain(optim::clip_by_global_norm(1.0), std::move(direction)), static_cast<double>(batch), 0.4);
}

Task mlp(const std::vector<Index>& sizes, Index batch, optim::Chain direction) {
  Rng rng(0);
  nn::Sequential model = make_mlp(rng, sizes);
  return classifier(std::move(model), labelled(rng, {batch, sizes.front()}), std::move(direction), batch);
}

/// A network for images, SGD with momentum and decay.
Task images(nn::Sequential (*make)(Rng&), const Shape& shape, int batches, optim::SgdOptions options) {
  Rng rng(0);
  nn::Sequential model = make(rng);
  options.momentum = 0.9;
  return classifier(std::move(model), labelled(rng, shape, batches), optim::sgd(options), shape[0]);
}
Task lenet5() { return images(make_lenet5, {64, 1, 28, 28}, 8, {.lr = 0.01, .weight_decay = 5e-4}); }
Task cnn6() { return images(make_cnn6, {64, 3, 32, 32}, 4, {.lr = 0.1, .weight_decay = 5e-4}); }
Task resnet20() { return images(make_resnet20, {32, 3, 32, 32}, 4, {.lr = 0.1, .weight_decay = 1e-4}); }

/// Batches of uniform characters, [N, T] and the [N T] that follow.
std::vector<Batch> texts(Rng& rng, Index batch, Index length) {
  const auto draw = [&] {
    std::vector<std::int64_t> ids;
    for (Index i = 0; i < batch * length; ++i) ids.push_back(rng.below(characters));
    return Tensor::from(ids, {batch, length});
  };
  std::vector<Batch> batches;
  for (int k = 0; k < 8; ++k) {
    Tensor x = draw();
    batches.push_back({std::move(x), draw().flatten()});
  }
  return batches;
}

template <class Model>
Task writer(Model model, std::vector<Batch> batches, optim::Chain chain) {
  const auto tokens = static_cast<double>(batches.front().x.size());
  Task task = train(
      std::move(model), std::move(batches),
      [](const Variable& logits, const Tensor& next) {
        return nn::cross_entropy(reshape(logits, {-1, characters}), next);
      },
      std::move(chain), tokens, 0.4);
  task.figures[0].unit = "tokens/s";
  return task;
}

Task char_lstm(int layers) {
  Rng rng(0);
  CharLstm model(rng, 256, layers);
  return writer(std::move(model), texts(rng, 32, 64),
                chain(optim::clip_by_global_norm(5.0), optim::adam({.lr = 2e-3})));
}

Task gpt(int blocks, Index heads, Index width, Index batch, Index length) {
  Rng rng(0);
  Gpt model(rng, blocks, heads, width, length);
  const auto adamw = [](double decay) {
    return optim::adamw({.lr = 1e-3, .betas = {0.9, 0.99}, .weight_decay = decay});
  };
  return writer(std::move(model), texts(rng, batch, length),
                chain(optim::clip_by_global_norm(1.0), optim::on(optim::select_rank(2), adamw(0.1)),
                      optim::on(optim::select_rank(0, 1), adamw(0))));
}

/// y = 2 x1 - 3.4 x2 + 4.2 + noise, 10 batches of 10 rows.
Task linear_regression() {
  Rng rng(0);
  nn::Linear model(rng, 2, 1);
  const Tensor x = randn(rng, {100, 2});
  const Tensor weights = Tensor::from<float>({2.0f, -3.4f}, {2, 1});
  const Variable noise = Variable(randn(rng, {100, 1})) * 0.01;
  const Tensor y = (matmul(Variable(x), Variable(weights)) + 4.2 + noise).value();
  std::vector<Batch> batches;
  for (Index at = 0; at < 100; at += 10) batches.push_back({x.slice(0, at, at + 10), y.slice(0, at, at + 10)});
  return train(
      std::move(model), std::move(batches),
      [](const Variable& prediction, const Tensor& wanted) { return nn::mse_loss(prediction, wanted); },
      chain(optim::clip_by_global_norm(1.0), optim::sgd({.lr = 0.03})), 10, 0.4);
}

optim::Chain momentum() { return optim::sgd({.lr = 0.1, .momentum = 0.9}); }
optim::Chain adam() { return optim::adam({.lr = 1e-3}); }

}  // namespace

std::vector<Workload> train_workloads() {
  const std::vector<Index> mlp300 = {784, 300, 100, 10}, mlp1024 = {784, 1024, 1024, 10};
  return {
      {"train", "linreg_100x2_b10_sgd", linear_regression},
      {"train", "mlp300_b64_sgdm", [=] { return mlp(mlp300, 64, momentum()); }},
      {"train", "mlp300_b64_adam", [=] { return mlp(mlp300, 64, adam()); }},
      {"train", "mlp1024_b128_adam", [=] { return mlp(mlp1024, 128, adam()); }},
      {"train", "lenet5_b64_sgdm", lenet5},
      {"train", "cnn6bn_b64_sgdm", cnn6},
      {"train", "resnet20_b32_sgdm", resnet20},
      {"train", "charlstm1_b32t64_adam", [] { return char_lstm(1); }},
      {"train", "charlstm2_b32t64_adam", [] { return char_lstm(2); }},
      {"train", "gpt4x128_b12t64_adamw", [] { return gpt(4, 4, 128, 12, 64); }},
      {"train", "gpt6x384_b4t256_adamw", [] { return gpt(6, 6, 384, 4, 256); }},
  };
}

}  // namespace espalier::bench
