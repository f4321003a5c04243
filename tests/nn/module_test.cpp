#include "espalier/nn/module.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/residual.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

/// A user's layer: y = x (W * scale)^T, with a running mean of what it saw in training.
class ScaledLinear final : public nn::Module {
 public:
  ScaledLinear(Rng& rng, Index in, Index out)
      : weight(rng.normal({out, in}), ""), scale(Tensor::ones({out, 1})), seen(Tensor::zeros({in})) {}

  Variable operator()(const Variable& x) const {
    if (training()) {
      const NoTape quiet;
      seen.set((Variable(seen.value()) * 0.9 + mean(x.detach(), {0}) * 0.1).value());
    }
    return linear(x, weight * Variable(scale));
  }
  void members(nn::Visitor& v) override { v("weight", weight)("scale", scale)("seen", seen); }

  Parameter weight, scale;
  Buffer seen;
};

class Net final : public nn::Module {
 public:
  explicit Net(Rng& rng) : in(rng, 3, 4), out(rng, 4, 2) {}
  Variable operator()(const Variable& x) const { return out(relu(in(x))); }
  void members(nn::Visitor& v) override { v("in", in)("out", out); }
  ScaledLinear in;
  nn::Linear out;
};

std::vector<std::string> names(const ParameterList& list) {
  std::vector<std::string> result;
  for (const NamedParameter& p : list) result.push_back(p.name);
  return result;
}

TEST(Module, NamesComeFromTheListsInOrder) {
  Rng rng(1);
  const Net net(rng);
  EXPECT_EQ(names(net.parameters()), (std::vector<std::string>{"in.weight", "in.scale", "out.weight", "out.bias"}));
  ASSERT_EQ(net.buffers().size(), 1u);
  EXPECT_EQ(net.buffers()[0].name, "in.seen");
  EXPECT_EQ(net.buffers()[0].buffer, &net.in.seen);
  EXPECT_EQ(net.parameter_count(), 12 + 4 + 8 + 2);
  EXPECT_TRUE(net.aliases().empty());
  EXPECT_EQ(net.parameters()[0].parameter, net.in.weight.ref());
}

TEST(Module, ListingMarksParametersAndCopiesAreNotListed) {
  Rng rng(1);
  const Net net(rng);
  EXPECT_FALSE(net.in.weight.ref()->listed());
  EXPECT_EQ(net.parameter_count(), 26);
  EXPECT_TRUE(net.in.weight.ref()->listed());
  const Net copy = net;
  EXPECT_FALSE(copy.in.weight.ref()->listed());
}

TEST(Module, WhatIsAbsentIsNotListed) {
  class Sparse final : public nn::Module {
   public:
    explicit Sparse(Rng& rng) : layer(rng, 2, 2, {.bias = false}), head(std::nullopt) {}
    void members(nn::Visitor& v) override { v("layer", layer)("head", head)("statistics", statistics)("many", many); }
    nn::Linear layer;
    std::optional<nn::Linear> head;
    Buffer statistics;
    std::vector<nn::Linear> many;
  };
  Rng rng(1);
  Sparse sparse(rng);
  EXPECT_EQ(names(sparse.parameters()), std::vector<std::string>{"layer.weight"});
  EXPECT_TRUE(sparse.buffers().empty());
  sparse.head.emplace(rng, 2, 1);
  EXPECT_EQ(names(sparse.parameters()), (std::vector<std::string>{"layer.weight", "head.weight", "head.bias"}));
}

class Deep final : public nn::Module {
 public:
  Variable operator()(Variable x) const {
    for (const nn::Linear& layer : blocks) x = tanh(layer(x));
    return x;
  }
  void members(nn::Visitor& v) override { v("blocks", blocks)("gates", gates); }
  std::vector<nn::Linear> blocks;
  std::array<Parameter, 2> gates{Parameter(Tensor::ones({1})), Parameter(Tensor::zeros({1}))};
};

TEST(Module, VectorsAndArraysAreNumberedAndGrowthKeepsIdentity) {
  Rng rng(1);
  Deep deep;
  std::vector<ParameterRef> refs;
  for (int i = 0; i < 9; ++i) {
    deep.blocks.emplace_back(rng, 2, 2);
    refs.push_back(deep.blocks.back().weight.ref());
  }
  for (std::size_t i = 0; i < refs.size(); ++i) EXPECT_EQ(deep.blocks[i].weight.ref(), refs[i]);
  const auto all = names(deep.parameters());
  EXPECT_EQ(all[3], "blocks.1.bias");
  EXPECT_EQ(all[17], "blocks.8.bias");
  EXPECT_EQ(all[18], "gates.0");
  EXPECT_EQ(all[19], "gates.1");
}

TEST(Module, TwoMembersOfOneNameAreAnError) {
  class Twice final : public nn::Module {
   public:
    void members(nn::Visitor& v) override { v("w", a)("w", b); }
    Parameter a{Tensor::ones({1})}, b{Tensor::ones({1})};
  };
  class Clash final : public nn::Module {
   public:
    void members(nn::Visitor& v) override { v("w", a)("w", b); }
    Parameter a{Tensor::ones({1})};
    Buffer b{Tensor::ones({1})};
  };
  class Nested final : public nn::Module {
   public:
    void members(nn::Visitor& v) override { v("x", inner); }
    Twice inner;
  };
  EXPECT_TRUE(throws<ConfigError>([] { Twice().parameters(); }, "[module]", "'w'"));
  EXPECT_TRUE(throws<ConfigError>([] { Clash().buffers(); }, "'w'"));
  EXPECT_TRUE(throws<ConfigError>([] { Nested().parameters(); }, "'x.w'"));
}

class Tied final : public nn::Module {
 public:
  explicit Tied(Rng& rng) : embed(rng.normal({5, 3}, 0, 1, DType::f64)) {}
  Variable operator()(const Variable& x) const { return linear(matmul(x, embed), embed); }
  void members(nn::Visitor& v) override { v("embed", embed)("head.weight", embed); }
  Parameter embed;
};

TEST(Module, ATiedParameterCountsOnceUnderItsFirstName) {
  Rng rng(1);
  Tied tied(rng);
  EXPECT_EQ(names(tied.parameters()), std::vector<std::string>{"embed"});
  ASSERT_EQ(tied.aliases().size(), 1u);
  EXPECT_EQ(tied.aliases()[0].name, "head.weight");
  EXPECT_EQ(tied.aliases()[0].of, "embed");
  EXPECT_EQ(tied.parameter_count(), 15);
  const Tied twin = tied;  // ties survive a copy, for there is one member
  Tape tape;
  tape.backward(sum(tied(Tensor::ones({2, 5}, DType::f64))));
  EXPECT_TRUE(tied.embed.grad().defined());
  EXPECT_FALSE(twin.embed.grad().defined());
  EXPECT_EQ(twin.aliases().size(), 1u);
}

TEST(Module, CopyingIsDeepAndCopyAssigningKeepsIdentity) {
  Rng rng(1);
  Net net(rng);
  const Tensor x = rng.normal({5, 3});
  Net best = net;
  EXPECT_TRUE(same_bytes(best(x).value(), net(x).value()));
  EXPECT_NE(best.in.weight.ref(), net.in.weight.ref());
  EXPECT_FALSE(best.in.seen.value().shares_storage(net.in.seen.value()));
  const ParameterRef identity = net.in.weight.ref();
  net.in.weight.set_value(Tensor::zeros({4, 3}));
  EXPECT_FALSE(same_bytes(best(x).value(), net(x).value()));
  net = best;
  EXPECT_EQ(net.in.weight.ref(), identity);
  EXPECT_TRUE(same_bytes(best(x).value(), net(x).value()));
  net = Net(rng);  // a temporary moves its own identity in
  EXPECT_NE(net.in.weight.ref(), identity);
  EXPECT_FALSE(identity->owned());
}

TEST(Module, TrainingFollowsTheTapeUnlessForced) {
  Rng rng(1);
  Net net(rng);
  const Tensor x = Tensor::ones({2, 3});
  EXPECT_FALSE(net.training());
  net(x);
  EXPECT_EQ(net.in.seen.value().at({0}), 0) << "without a tape nothing is learned";
  {
    Tape tape;
    EXPECT_TRUE(net.training() && net.in.training());
    net(x);
    EXPECT_NEAR(net.in.seen.value().at({0}), 0.1, 1e-7);
    const NoTape quiet;
    EXPECT_TRUE(net.in.training()) << "recomputation within a step is training";
  }
  net.eval();
  {
    Tape tape;
    EXPECT_FALSE(net.training() || net.in.training());
    net(x);
    EXPECT_NEAR(net.in.seen.value().at({0}), 0.1, 1e-7);
  }
  net.train();
  EXPECT_TRUE(net.training() && net.in.training() && net.out.training());
  const Net copy = net;
  EXPECT_TRUE(copy.in.training()) << "a copy is forced as its original is";
  net.in.eval();
  EXPECT_TRUE(net.training());
  EXPECT_FALSE(net.in.training()) << "part of a model may be frozen";
  net.follow_tape();
  EXPECT_FALSE(net.training() || net.in.training());
}

TEST(Module, AssigningLeavesTheModeAlone) {
  Rng rng(1);
  Net net(rng), best = net;
  {
    const nn::EvalMode eval(net);
    best = net;
    const Net kept = net;
    EXPECT_FALSE(kept.in.training()) << "a copy is as its original";
    net = kept;
  }
  net = best;
  const Tape tape;
  EXPECT_TRUE(best.training() && best.in.training());
  EXPECT_TRUE(net.training() && net.in.training());
  net.eval();
  net = best;
  EXPECT_FALSE(net.training() || net.in.training());
}

TEST(Module, AModuleThatForgetsOneIsToldSoByBackward) {
  class Forgets final : public nn::Module {
   public:
    explicit Forgets(Rng& rng) : a(rng, 2, 2), b(rng, 2, 1) {}
    Variable operator()(const Variable& x) const { return b(a(x)); }
    void members(nn::Visitor& v) override { v("a", a); }
    nn::Linear a, b;
  };
  Rng rng(1);
  const Forgets model(rng);
  EXPECT_EQ(model.parameters().size(), 2u);
  Tape tape;
  const Variable loss = sum(model(Tensor::ones({1, 2})));
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "no module lists it", "members()"));
}

TEST(Module, AnExceptionWhileListingLeavesNothingBehind) {
  class Moody final : public nn::Module {
   public:
    void members(nn::Visitor& v) override {
      v("w", w);
      if (angry) fail<ConfigError>("[moody] not now");
    }
    Parameter w{Tensor::ones({1})};
    bool angry = true;
  } moody;
  EXPECT_TRUE(throws<ConfigError>([&] { moody.parameters(); }, "[moody]"));
  moody.angry = false;
  EXPECT_EQ(names(moody.parameters()), std::vector<std::string>{"w"});
}

TEST(Module, ErrorsOfALayerEndWithItsFullName) {
  Rng rng(1);
  class Block final : public nn::Module {
   public:
    explicit Block(Rng& r) : fc(r, 4, 4) {}
    void members(nn::Visitor& v) override { v("fc", fc); }
    nn::Linear fc;
  };
  class Whole final : public nn::Module {
   public:
    explicit Whole(Rng& r) {
      for (int k = 0; k < 2; ++k) blocks.emplace_back(r);
    }
    void members(nn::Visitor& v) override { v("encoder", blocks); }
    std::vector<Block> blocks;
  };
  Whole net(rng);
  const auto text = [](const nn::Linear& layer) -> std::string {
    try {
      layer(Tensor::zeros({2, 3}));
    } catch (const ShapeError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(text(net.blocks[1].fc).find("(in module"), std::string::npos) << "listed by nobody yet";
  net.blocks[1].parameters();
  EXPECT_TRUE(text(net.blocks[1].fc).ends_with("(in module fc)"));
  net.parameters();
  EXPECT_TRUE(text(net.blocks[1].fc).ends_with("(in module encoder.1.fc)"));
  net.blocks[1].parameters();
  EXPECT_TRUE(text(net.blocks[1].fc).ends_with("(in module encoder.1.fc)")) << "the longest name stays";
  EXPECT_EQ(net.blocks[0].fc.weight.ref()->full_name(), "encoder.0.fc.weight");
  EXPECT_EQ(text(nn::Linear(net.blocks[1].fc)).find("(in module"), std::string::npos) << "a copy is not in the model";
}

/// What an error says behind its text when f runs.
template <class F>
std::string place(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    const std::string text = error.what();
    const std::size_t at = text.find(" (in module");
    return at == text.npos ? "nowhere" : text.substr(at + 1);
  }
  return "no error";
}

/// `what` inside, run in forward().
template <class M>
class Around final : public nn::Module {
 public:
  explicit Around(M what) : inner(std::move(what)) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return inner(x); });
  }
  void members(nn::Visitor& v) override { v("inner", inner); }
  M inner;
};

TEST(Module, ErrorsBeforeAnyListingAreNamedByTheModulesAround) {
  Rng rng(1);
  const Tensor bad = Tensor::zeros({2, 3});
  const nn::Linear layer(rng, 4, 4);
  const Around<Around<nn::Linear>> net{Around(layer)};
  EXPECT_EQ(place([&] { net(bad); }), "(in module inner.inner)");
  EXPECT_EQ(place([&] { net.inner(bad); }), "(in module inner)") << "the outermost that runs";
  EXPECT_EQ(place([&] { net.inner.inner(bad); }), "nowhere");
  EXPECT_FALSE(net.inner.inner.full_name()) << "an error lists nothing for good";
  net.inner.parameters();
  EXPECT_EQ(place([&] { net(bad); }), "(in module inner.inner)") << "the largest model that runs names it";
  // One that no list holds is named as the innermost that is held.
  const Around hidden{nn::Residual([&layer](const Variable& x) { return layer(x); })};
  EXPECT_EQ(place([&] { hidden(bad); }), "(in module inner)");
  // Caught and raised again, or another error in its place.
  const Around tries{nn::Residual([&net](const Variable& x) {
    try {
      return net(x);
    } catch (const ShapeError&) {
      fail<ConfigError>("[test] gave up");
    }
  })};
  EXPECT_EQ(place([&] { tries(bad); }), "(in module inner)");
  EXPECT_EQ(place([&] { net(bad); }), "(in module inner.inner)");
}

TEST(Module, AMovedLayerTakesTheNameOfItsNewModel) {
  class Old final : public nn::Module {
   public:
    explicit Old(Rng& r) : layer(r, 4, 4) {}
    void members(nn::Visitor& v) override { v("classifier_of_the_old_model", layer); }
    nn::Linear layer;
  };
  Rng rng(1);
  const Tensor bad = Tensor::zeros({2, 3});
  Old old(rng);
  old.parameters();
  EXPECT_EQ(place([&] { old.layer(bad); }), "(in module classifier_of_the_old_model)");
  const Around<nn::Linear> fresh(std::move(old.layer));
  EXPECT_EQ(place([&] { fresh(bad); }), "(in module inner)") << "before it is listed, too";
  fresh.parameters();
  EXPECT_EQ(place([&] { fresh.inner(bad); }), "(in module inner)");
  EXPECT_EQ(fresh.inner.weight.ref()->full_name(), "inner.weight");
  Around<Around<nn::Linear>> larger(fresh);
  larger.parameters();
  larger.inner.parameters();
  EXPECT_EQ(place([&] { larger.inner.inner(bad); }), "(in module inner.inner)") << "not moved since";
  larger.inner.inner = nn::Linear(rng, 4, 4);
  EXPECT_EQ(place([&] { larger.inner.inner(bad); }), "(in module inner.inner)") << "it stands where the old one stood";
}

}  // namespace
}  // namespace espalier
