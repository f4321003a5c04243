#include "espalier/io/checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/data/loader.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/optimizer.h"
#include "espalier/prune/compact.h"
#include "espalier/prune/pruner.h"
#include "tests/support/temp_folder.h"

namespace espalier::io {
namespace {

using espalier::testing::read_bytes;
using espalier::testing::TempFolder;
using espalier::testing::write_bytes;

class Mlp final : public nn::Module {
 public:
  explicit Mlp(Rng& rng, Index hidden = 12) : in_(rng, 6, hidden), out_(rng, hidden, 3) {}
  Variable operator()(const Variable& x) const { return out_(relu(in_(x))); }
  void members(nn::Visitor& v) override { v("in", in_)("out", out_); }

 private:
  nn::Linear in_, out_;
};

data::Dataset task() {
  Rng rng(1);
  Tensor y = Tensor::empty({40}, DType::i64);
  Index* label = y.write<Index>("test");
  for (Index i = 0; i < 40; ++i) label[i] = rng.below(3);
  return {rng.normal({40, 6}), y};
}

/// All that takes part in a run.
struct Training {
  explicit Training(std::uint64_t seed, Index hidden = 12)
      : rng(seed),
        model(rng, hidden),
        optimizer(model.parameters(), optim::chain(optim::clip_by_global_norm(1.0), optim::adam({.lr = 1e-2}))),
        pruner(model.parameters(),
               {.scope = prune::Scope::global,
                .schedule = prune::cubic({.final_sparsity = 0.7, .begin = 2, .end = 30, .every = 3})}),
        loader(task(), 8, rng.split()) {
    optimizer.attach(pruner);
  }
  /// Steps until the optimizer has made `steps`, over as many epochs as that takes.
  void train(Index steps) {
    while (optimizer.steps() < steps) {
      for (auto& [x, y] : loader) {
        Tape tape;
        const Tensor noise = rng.normal(x.shape(), 0, 0.01);
        Tensor noisy = x;
        noisy.copy_from(x);
        float* v = noisy.write<float>("test");
        for (Index i = 0; i < noisy.size(); ++i) v[i] += noise.data<float>()[i];
        tape.backward(nn::cross_entropy(model(noisy), y));
        optimizer.step();
        if (optimizer.steps() == steps) return;
      }
    }
  }
  void save(const std::string& path) const { save_checkpoint(path, model, optimizer, pruner, rng, loader); }
  void load(const std::string& path) { load_checkpoint(path, model, optimizer, pruner, rng, loader); }

  Rng rng;
  Mlp model;
  optim::Optimizer optimizer;
  prune::Pruner pruner;
  data::Loader loader;
};

class Checkpoint : public ::testing::Test {
 protected:
  /// Everything a run consists of, as bytes.
  std::string bytes_of(const Training& run) {
    run.save(folder / "look");
    return read_bytes(folder / "look");
  }
  TempFolder folder;
  const std::string path = folder / "run.safetensors";
};

TEST_F(Checkpoint, AResumedRunEndsInTheSameBytes) {
  Training unbroken(1);
  unbroken.train(40);
  for (const Index stop : {1, 3, 5, 13, 20}) {  // 5 and 20: behind the last batch of an epoch
    Training first(1);
    first.train(stop);
    first.save(path);
    Training second(99);
    second.load(path);
    EXPECT_EQ(bytes_of(second), read_bytes(path)) << stop;
    second.train(40);
    EXPECT_EQ(bytes_of(second), bytes_of(unbroken)) << stop;
  }
}

TEST_F(Checkpoint, PartsMayBeLeftOut) {
  Training run(1), other(2);
  run.train(5);
  save_checkpoint(path, run.model, run.optimizer);
  load_checkpoint(path, other.model, other.optimizer);
  save_checkpoint(path + "2", other.model, other.optimizer);
  EXPECT_EQ(read_bytes(path), read_bytes(path + "2"));
  save_checkpoint(path, run.model, run.optimizer, run.rng);
  Rng rng(5);
  load_checkpoint(path, other.model, other.optimizer, rng);
  EXPECT_EQ(rng.state(), run.rng.state());
}

TEST_F(Checkpoint, OtherPartsThanWereSavedAreRefused) {
  Training run(1), other(2);
  run.train(5);
  const std::string before = bytes_of(other);
  run.save(path);
  EXPECT_ERROR(
      FormatError, [&] { load_checkpoint(path, other.model, other.optimizer); }, "which was not asked for");
  save_checkpoint(path, run.model, run.optimizer);
  EXPECT_ERROR(
      FormatError, [&] { other.load(path); }, "'prune/' is missing");
  EXPECT_EQ(bytes_of(other), before);
}

TEST_F(Checkpoint, ALaterPartThatRefusesPutsTheEarlierOnesBack) {
  Training run(1), other(2);
  run.train(9);
  other.train(4);
  const std::string before = bytes_of(other);
  data::Dataset small = task();
  const std::vector<Index> few{0, 1, 2};
  small = small.rows(few);
  data::Loader wrong(small, 1, Rng(1));
  save_checkpoint(path, run.model, run.optimizer, run.pruner, run.rng, wrong);
  EXPECT_ERROR(
      ConfigError, [&] { other.load(path); }, "dataset of 3 rows");
  EXPECT_EQ(bytes_of(other), before);
}

TEST_F(Checkpoint, EveryCutChangesNothing) {
  Training run(1), other(2);
  run.train(7);
  other.train(3);
  const std::string before = bytes_of(other);
  run.save(path);
  const std::string whole = read_bytes(path);
  for (std::size_t n = 0; n < whole.size(); n += 17) {
    write_bytes(path, whole.substr(0, n));
    EXPECT_THROW(other.load(path), FormatError) << n;
  }
  EXPECT_EQ(bytes_of(other), before);
}

TEST_F(Checkpoint, ForgedParts) {
  Training run(1), other(2);
  run.train(3);
  const std::string before = bytes_of(other);
  run.save(path);
  const TensorFile good = read_safetensors(path);
  auto with = [&](auto&& change) {
    TensorFile file = good;
    change(file);
    write_safetensors(path, file);
    EXPECT_ANY_THROW(other.load(path));
    EXPECT_EQ(bytes_of(other), before);
  };
  for (std::size_t i = 0; i < good.tensors.size(); ++i) {
    with([&](TensorFile& f) { f.tensors.erase(f.tensors.begin() + static_cast<std::ptrdiff_t>(i)); });
    with([&](TensorFile& f) { f.tensors[i].tensor = Tensor::ones({3, 1, 3}, DType::i32); });
    with([&](TensorFile& f) { f.tensors[i].name += "x"; });
  }
  for (const auto& [key, value] : good.metadata) {
    if (key == "espalier.version") continue;  // a file may come without
    with([&, k = key](TensorFile& f) { f.metadata.erase(k); });
  }
  with([](TensorFile& f) { f.metadata["espalier.version"] = "99"; });
}

TEST_F(Checkpoint, OtherShapesAreRefusedBeforeAnythingChanges) {
  Training run(1, 10), other(2, 12);
  run.train(3);
  const std::string before = bytes_of(other);
  run.save(path);
  EXPECT_ERROR(
      ShapeError, [&] { other.load(path); }, "'in.weight' is [10, 6] in the file and [12, 6] in the model");
  EXPECT_EQ(bytes_of(other), before);
}

TEST_F(Checkpoint, LoadReadsItsModel) {
  Training run(1), other(2);
  run.train(12);
  run.save(path);
  load(path, other.model);
  save(path + "1", run.model);
  save(path + "2", other.model);
  EXPECT_EQ(read_bytes(path + "1"), read_bytes(path + "2"));
  EXPECT_ERROR(
      FormatError, [&] { other.load(path + "1"); }, "not a checkpoint");
}

TEST_F(Checkpoint, ACompactedModelGoesIntoAFreshOne) {
  Rng rng(3);
  Mlp model(rng, 40);
  prune::Pruner(model.parameters()).to_sparsity(0.95);  // leaves hidden units without any input
  const Tensor x = rng.normal({5, 6});
  const Mlp deployed = prune::compact(model, x, {.kernels = prune::Kernels::fixed});
  save(path, deployed);
  Mlp fresh(rng, 40);
  load(path, fresh);
  EXPECT_TRUE(equal(fresh(x).value(), deployed(x).value()));
  EXPECT_LT(fresh.parameters()[0].parameter->value().dim(0), 40);
  save(path + "2", fresh);
  EXPECT_EQ(read_bytes(path), read_bytes(path + "2"));
}

TEST_F(Checkpoint, AnInterruptedSaveLeavesTheOldOne) {
  Training run(1);
  run.save(path);
  const std::string old = read_bytes(path);
  run.train(3);
  rlimit limit;
  ::getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{2000, limit.rlim_max};
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string text = espalier::testing::text_of<IoError>([&] { run.save(path); });
  ::setrlimit(RLIMIT_FSIZE, &limit);
  ::signal(SIGXFSZ, handler);
  EXPECT_PRED2(espalier::testing::contains, text, path);
  EXPECT_EQ(read_bytes(path), old);
  EXPECT_EQ(folder.names().size(), 1u);
}

}  // namespace
}  // namespace espalier::io
