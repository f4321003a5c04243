// Whole networks of layers, trained for a few steps: what holds for every op alone must hold for them together.
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/rng.h"
#include "espalier/core/storage.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/dropout.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/pool.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/transformer.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/optimizer.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::Threads;

/// Embedding, LSTM, attention, a head for each place: ids [N, T] -> [N T, 11].
class Reader final : public nn::Module {
 public:
  explicit Reader(Rng& rng)
      : table(rng, 11, 24),
        lstm(rng, 24, 24, {.num_layers = 2, .batch_first = true}),
        block(rng, 24, 4, {.feedforward = 48}),
        drop(rng, 0.1),
        head(rng, 24, 11) {}
  Variable operator()(const Tensor& ids) const {
    return forward([&] { return flatten(head(drop(block(lstm(table(ids)).output))), 0, 1); });
  }
  void members(nn::Visitor& v) override { v("table", table)("lstm", lstm)("block", block)("drop", drop)("head", head); }

  nn::Embedding table;
  nn::Lstm lstm;
  nn::TransformerEncoderLayer block;
  nn::Dropout drop;
  nn::Linear head;
};

nn::Sequential make_seer(Rng& rng) {
  return nn::Sequential(
      nn::Conv2d(rng, 3, 8, 3, {.padding = 1, .bias = false}), nn::BatchNorm2d(8, {.relu = true}),
      nn::Conv2d(rng, 8, 12, 3, {.stride = 2}), nn::GroupNorm(3, 12), [](const Variable& x) { return gelu(x); },
      nn::MaxPool2d(2), nn::Flatten(), nn::Dropout(rng, 0.2), nn::Linear(rng, 12 * 3 * 3, 11));
}

/// A network with the data of one step, behind one signature.
struct Trainee {
  std::function<Variable()> loss;
  std::function<ParameterList()> parameters;
  std::function<Variable()> infer;
};

Trainee make_reader() {
  Rng rng(5);
  auto model = std::make_shared<Reader>(rng);
  const Tensor ids = rng.uniform({6, 20}, 0, 11).to(DType::i64), next = rng.uniform({120}, 0, 11).to(DType::i64);
  return {[=] { return nn::cross_entropy((*model)(ids), next); }, [=] { return model->parameters(); },
          [=] { return (*model)(ids); }};
}

Trainee make_images() {
  Rng rng(6);
  auto model = std::make_shared<nn::Sequential>(make_seer(rng));
  const Tensor x = rng.normal({9, 3, 15, 15}), labels = rng.uniform({9}, 0, 11).to(DType::i64);
  return {[=] { return nn::cross_entropy((*model)(x), labels); }, [=] { return model->parameters(); },
          [=] { return (*model)(x); }};
}

class Networks : public ::testing::TestWithParam<Trainee (*)()> {};

TEST_P(Networks, LearnAndAllocateNothingOnceWarm) {
  const Trainee net = GetParam()();
  optim::Optimizer opt(net.parameters(), optim::chain(optim::clip_by_global_norm(5.0), optim::adam({.lr = 1e-2})));
  double first = 0, last = 0;
  std::uint64_t warm = 0;
  for (int t = 0; t < 30; ++t) {
    if (t == 10) warm = allocator_statistics().system_allocations;
    Tape tape;
    const Variable loss = net.loss();
    tape.backward(loss);
    opt.step();
    (t == 0 ? first : last) = loss.item();
  }
  EXPECT_EQ(allocator_statistics().system_allocations, warm);
  EXPECT_LT(last, 0.7 * first);
}

TEST_P(Networks, EndInTheSameBytesAtAnyThreadCount) {
  std::vector<std::vector<Tensor>> ends;
  for (int n : {1, 2, 4}) {
    const Threads use(n);
    const Trainee net = GetParam()();
    optim::Optimizer opt(net.parameters(), optim::chain(optim::clip_by_global_norm(1.0), optim::adam({.lr = 1e-2})));
    for (int t = 0; t < 3; ++t) {
      Tape tape;
      tape.backward(net.loss());
      opt.step();
    }
    std::vector<Tensor>& end = ends.emplace_back();
    for (const NamedParameter& p : net.parameters()) end.push_back(p.parameter->value());
  }
  const ParameterList names = GetParam()().parameters();
  for (std::size_t run = 1; run < ends.size(); ++run)
    for (std::size_t k = 0; k < names.size(); ++k)
      EXPECT_TRUE(same_bytes(ends[run][k], ends[0][k])) << names[k].name << " in run " << run;
}

TEST_P(Networks, AreReadBySixteenThreadsAtOnce) {
  const Trainee net = GetParam()();
  const Tensor alone = net.infer().value();
  std::vector<Tensor> outputs(16);
  std::vector<std::thread> readers;
  for (Tensor& y : outputs)
    readers.emplace_back([&] {
      for (int t = 0; t < 5; ++t) y = net.infer().value();
    });
  for (std::thread& reader : readers) reader.join();
  for (const Tensor& y : outputs) EXPECT_TRUE(same_bytes(y, alone));
}

INSTANTIATE_TEST_SUITE_P(All, Networks, ::testing::Values(make_reader, make_images),
                         [](const auto& instance) { return instance.index == 0 ? "Reader" : "Images"; });

}  // namespace
}  // namespace espalier
