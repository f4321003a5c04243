#include "espalier/nn/state_dict.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/core/rng.h"
#include "espalier/io/model_file.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/module_list.h"
#include "tests/support.h"
#include "tests/support/temp_folder.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

/// Encoder and decoder share a weight, and there is a running mean.
class Tied final : public nn::Module {
 public:
  explicit Tied(Rng& rng) : in(rng, 3, 4), out(rng, 4, 2), mean(Tensor::zeros({3})) {}
  void members(nn::Visitor& v) override { v("in", in)("again", in.weight)("out", out)("mean", mean); }
  nn::Linear in, out;
  Buffer mean;
};

std::vector<std::string> keys(const nn::StateDict& dict) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : dict) names.push_back(name);
  return names;
}

TEST(StateDict, HoldsEveryNameAndCopies) {
  Rng rng(1);
  const Tied model(rng);
  const nn::StateDict dict = nn::state_dict(model);
  EXPECT_EQ(keys(dict), (std::vector<std::string>{"again", "in.bias", "in.weight", "mean", "out.bias", "out.weight"}));
  EXPECT_TRUE(same_bytes(dict.at("again"), model.in.weight.value()));
  EXPECT_FALSE(dict.at("in.weight").shares_storage(model.in.weight.value()));
}

TEST(StateDict, GoesThroughAFileIntoAnotherModel) {
  const testing::TempFolder folder;
  const std::string path = folder / "weights.safetensors";
  Rng rng(1);
  const Tied model(rng);
  model.mean.set(Tensor::from({1.0f, 2.0f, 3.0f}));
  io::write_state(path, nn::state_dict(model));
  Tied other(rng);
  const ParameterRef identity = other.in.weight.ref();
  const nn::StateDictReport report = nn::load_state_dict(other, io::read_state(path));
  EXPECT_TRUE(report.missing.empty() && report.unexpected.empty());
  EXPECT_EQ(other.in.weight.ref(), identity);
  EXPECT_TRUE(same_bytes(other.in.weight.value(), model.in.weight.value()));
  EXPECT_TRUE(same_bytes(other.out.bias.value(), model.out.bias.value()));
  EXPECT_EQ(other.mean.value().to_vector<float>(), (std::vector<float>{1, 2, 3}));
}

TEST(StateDict, TakesWhatPyTorchWrites) {
  Rng rng(1);
  Tied model(rng);
  nn::StateDict dict = nn::state_dict(model);
  dict["bn.num_batches_tracked"] = Tensor::scalar(7, DType::i64);
  dict.erase("in.weight");  // one name of a tied parameter is enough
  dict["again"] = Tensor::full({4, 3}, 2);
  const Tensor transposed = Tensor::arange(0, 8, 1).reshape({4, 2}).transpose(0, 1);
  dict["out.weight"] = transposed;  // a view
  nn::load_state_dict(model, dict);
  EXPECT_TRUE(same_bytes(model.in.weight.value(), Tensor::full({4, 3}, 2)));
  EXPECT_TRUE(equal(model.out.weight.value(), transposed));
}

TEST(StateDict, WhatPyTorchHasNotIsNoDifference) {
  class Noisy final : public nn::Module {
   public:
    explicit Noisy(Rng& rng)
        : layer(rng, 2, 2), rng_(Tensor::zeros({3}, DType::i64)), num_batches_tracked(Tensor::scalar(0, DType::i64)) {}
    void members(nn::Visitor& v) override {
      v("layer", layer)("rng", rng_)("num_batches_tracked", num_batches_tracked);
    }
    nn::Linear layer;
    Buffer rng_, num_batches_tracked;
  };
  Rng rng(1);
  Noisy model(rng);
  EXPECT_EQ(keys(nn::state_dict(model)),
            (std::vector<std::string>{"layer.bias", "layer.weight", "num_batches_tracked"}));
  const nn::StateDict dict = nn::state_dict(model.layer);
  nn::StateDict prefixed;
  for (const auto& [name, tensor] : dict) prefixed["layer." + name] = tensor;
  EXPECT_TRUE(nn::load_state_dict(model, prefixed).missing.empty());
  prefixed["num_batches_tracked"] = Tensor::scalar(4, DType::i64);
  nn::load_state_dict(model, prefixed);
  EXPECT_EQ(model.num_batches_tracked.value().item(), 4);
}

TEST(StateDict, MasksStay) {
  Rng rng(1);
  nn::Linear layer(rng, 2, 2);
  Mask mask(4);
  mask.set(1, false);
  layer.weight.set_mask(mask);
  const nn::StateDict dict = {{"weight", Tensor::full({2, 2}, 5)}, {"bias", Tensor::zeros({2})}};
  nn::load_state_dict(layer, dict);
  EXPECT_EQ(layer.weight.value().to_vector<float>(), (std::vector<float>{5, 0, 5, 5}));
  EXPECT_EQ(nn::state_dict(layer).at("weight").at({0, 1}), 0);
}

TEST(StateDict, WithoutStrictItTakesWhatBothHave) {
  Rng rng(1);
  Tied model(rng);
  const Tensor bias = model.out.bias.value().clone();
  const nn::StateDict dict = {{"out.weight", Tensor::ones({2, 4})}, {"head.weight", Tensor::ones({1})}};
  const nn::StateDictReport report = nn::load_state_dict(model, dict, {.strict = false});
  EXPECT_EQ(report.missing, (std::vector<std::string>{"in.weight", "in.bias", "out.bias", "mean"}));
  EXPECT_EQ(report.unexpected, std::vector<std::string>{"head.weight"});
  EXPECT_TRUE(same_bytes(model.out.weight.value(), Tensor::ones({2, 4})));
  EXPECT_TRUE(same_bytes(model.out.bias.value(), bias));
}

TEST(StateDict, ErrorsListEverythingAndChangeNothing) {
  Rng rng(1);
  Tied model(rng);
  const nn::StateDict before = nn::state_dict(model);
  auto with = [&](const std::string& name, const Tensor& t) {
    nn::StateDict dict = before;
    for (auto& [key, value] : dict) value = Tensor::full(value.shape(), 9);
    dict[name] = t;
    return dict;
  };
  nn::StateDict names = with("extra", Tensor::ones({1}));
  names.erase("out.bias");
  EXPECT_TRUE(throws<ConfigError>([&] { nn::load_state_dict(model, names); }, "missing: 'out.bias'",
                                  "unexpected: 'extra'", ".strict"));
  const nn::StateDict shapes = with("out.weight", Tensor::ones({4, 2}));
  for (const bool strict : {true, false})
    EXPECT_TRUE(throws<ShapeError>([&] { nn::load_state_dict(model, shapes, {.strict = strict}); },
                                   "'out.weight' is [2, 4] in the model, [4, 2] in the dictionary"));
  EXPECT_TRUE(throws<ShapeError>([&] { nn::load_state_dict(model, with("mean", Tensor())); }, "'mean'", "undefined"));
  const nn::StateDict types = with("mean", Tensor::zeros({3}, DType::f64));
  EXPECT_TRUE(throws<DTypeError>([&] { nn::load_state_dict(model, types); }, "'mean' is f32 in the model, f64"));
  const nn::StateDict torn = with("again", Tensor::full({4, 3}, 8));
  EXPECT_TRUE(throws<ConfigError>([&] { nn::load_state_dict(model, torn); }, "'in.weight' and 'again'"));
  const nn::StateDict after = nn::state_dict(model);
  for (const auto& [name, tensor] : before) EXPECT_TRUE(same_bytes(after.at(name), tensor)) << name;
}

TEST(StateDict, LongListsAreCutShort) {
  Rng rng(1);
  nn::ModuleList<nn::Linear> model;
  for (int i = 0; i < 20; ++i) model.emplace_back(rng, 2, 2);
  EXPECT_TRUE(throws<ConfigError>([&] { nn::load_state_dict(model, {}); }, "'0.weight'", "and 32 more"));
}

TEST(StateDict, OneNameIsEnoughOfAModuleHeldTwice) {
  class Twice final : public nn::Module {
   public:
    explicit Twice(Rng& rng) : part(rng) {}
    void members(nn::Visitor& v) override { v("first", part)("second", part); }
    Tied part;
  };
  Rng rng(1);
  Twice model(rng);
  model.part.mean.set(Tensor::from({1.0f, 2.0f, 3.0f}));
  const nn::StateDict all = nn::state_dict(model);
  for (const char* kept : {"first.", "second."}) {
    nn::StateDict half;
    for (const auto& [name, tensor] : all)
      if (name.starts_with(kept)) half[name] = tensor;
    Twice other(rng);
    nn::load_state_dict(other, half);
    EXPECT_TRUE(same_bytes(other.part.mean.value(), model.part.mean.value()));
    EXPECT_TRUE(same_bytes(other.part.out.weight.value(), model.part.out.weight.value()));
  }
  for (const char* name : {"second.mean", "second.out.bias"}) {
    nn::StateDict torn = all;
    torn[name] = Tensor::full(torn[name].shape(), 9);
    Twice other(rng);
    EXPECT_TRUE(throws<ConfigError>([&] { nn::load_state_dict(other, torn); }, "one tensor of the model", name));
    EXPECT_EQ(other.part.mean.value().at({0}), 0) << "nothing has changed";
  }
}

}  // namespace
}  // namespace espalier
