#include <memory>

#include "bench/language_models.h"
#include "bench/models.h"
#include "bench/workloads.h"

namespace espalier::bench {
namespace {

template <class Model, class Input>
Task forward(Model made, Input x) {
  const auto model = std::make_shared<Model>(std::move(made));
  Task task;
  task.run = [model, x] { keep((*model)(x).value().template data<float>()); };
  task.figures = {microseconds("latency")};
  task.min_seconds = 0.06;
  return task;
}

/// `make` draws a model for inputs of `shape`.
Task latency(const std::function<nn::Sequential(Rng&)>& make, const Shape& shape) {
  Rng rng(0);
  nn::Sequential model = make(rng);
  return forward(std::move(model), Variable(randn(rng, shape)));
}

Task mlp(const std::vector<Index>& sizes, Index batch) {
  return latency([&](Rng& rng) { return make_mlp(rng, sizes); }, {batch, sizes.front()});
}
Task lenet5(Index batch) { return latency(make_lenet5, {batch, 1, 28, 28}); }
Task cnn6(Index batch) { return latency(make_cnn6, {batch, 3, 32, 32}); }
Task resnet20(Index batch) { return latency(make_resnet20, {batch, 3, 32, 32}); }
Task gpt(int blocks, Index heads, Index width, Index batch, Index length) {
  Rng rng(0);
  Gpt model(rng, blocks, heads, width, length);
  std::vector<std::int64_t> ids;
  for (Index i = 0; i < batch * length; ++i) ids.push_back(rng.below(characters));
  return forward(std::move(model), Tensor::from(ids, {batch, length}));
}

}  // namespace

std::vector<Workload> infer_workloads() {
  const std::vector<Index> mlp300 = {784, 300, 100, 10}, mlp1024 = {784, 1024, 1024, 10};
  return {
      {"infer", "infer_mlp300_b1", [=] { return mlp(mlp300, 1); }},
      {"infer", "infer_mlp300_b64", [=] { return mlp(mlp300, 64); }},
      {"infer", "infer_mlp1024_b1", [=] { return mlp(mlp1024, 1); }},
      {"infer", "infer_mlp1024_b64", [=] { return mlp(mlp1024, 64); }},
      {"infer", "infer_lenet5_b1", [] { return lenet5(1); }},
      {"infer", "infer_lenet5_b64", [] { return lenet5(64); }},
      {"infer", "infer_cnn6bn_b1", [] { return cnn6(1); }},
      {"infer", "infer_cnn6bn_b64", [] { return cnn6(64); }},
      {"infer", "infer_resnet20_b1", [] { return resnet20(1); }},
      {"infer", "infer_resnet20_b64", [] { return resnet20(64); }},
      {"infer", "infer_gpt4x128_t64_b1", [] { return gpt(4, 4, 128, 1, 64); }},
      {"infer", "infer_gpt4x128_t64_b64", [] { return gpt(4, 4, 128, 64, 64); }},
      {"infer", "infer_gpt6x384_t256_b1", [] { return gpt(6, 6, 384, 1, 256); }},
  };
}

}  // namespace espalier::bench
