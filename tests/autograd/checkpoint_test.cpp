#include "espalier/autograd/checkpoint.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "espalier/autograd/buffer.h"
#include "espalier/autograd/gradcheck.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/storage.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

/// tanh layers; not a module, for autograd does not know of those, but with parameters() as they have it.
struct Net {
  explicit Net(int depth, DType type = DType::f32) {
    Rng rng(3);
    for (int i = 0; i < depth; ++i) weights.emplace_back(rng.normal({8, 8}, 0, 0.4, type), "w" + std::to_string(i));
  }
  Variable operator()(const Variable& x) const {
    Variable h = x;
    for (const Parameter& w : weights) h = tanh(linear(h, w));
    ++runs;
    return h;
  }
  ParameterList parameters() const {
    ParameterList list;
    for (const Parameter& w : weights) list.push_back({w.ref()->name(), w.ref()});
    return list;
  }
  std::vector<Tensor> take_gradients() const {
    std::vector<Tensor> taken;
    for (const Parameter& w : weights) {
      taken.push_back(w.grad().clone());
      w.ref()->clear_grad();
    }
    return taken;
  }
  std::vector<Parameter> weights;
  mutable int runs = 0;
};

void expect_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bytes(a[i], b[i])) << i;
}

TEST(Checkpoint, GivesTheSameBytesAndRunsTwice) {
  const Net net(4);
  Rng rng(1);
  const Tensor x = rng.normal({5, 8});
  Tensor plain_dx, plain_y;
  {
    Tape tape;
    const Variable in = tape.watch(x), y = net(in), loss = sum(square(y));
    plain_y = y.value();
    plain_dx = tape.gradient(loss, {in}, {.retain = true})[0].value();
    tape.backward(loss);
  }
  const std::vector<Tensor> plain = net.take_gradients();
  net.runs = 0;
  Tape tape;
  const Variable in = tape.watch(x), y = checkpoint(net, in), loss = sum(square(y));
  EXPECT_EQ(tape.size(), 1 + 4 + 1 + 2u) << "input, leaves, the checkpoint, square and sum";
  EXPECT_EQ(net.runs, 1);
  EXPECT_TRUE(same_bytes(y.value(), plain_y));
  EXPECT_TRUE(same_bytes(tape.gradient(loss, {in}, {.retain = true})[0].value(), plain_dx));
  EXPECT_EQ(net.runs, 2);
  tape.backward(loss);
  expect_same(net.take_gradients(), plain);
}

TEST(Checkpoint, WithoutATapeItIsTheFunction) {
  const Net net(2);
  const Tensor x = Tensor::ones({3, 8});
  EXPECT_TRUE(same_bytes(checkpoint(net, x).value(), net(x).value()));
  EXPECT_EQ(net.runs, 2);
  Tape tape;
  const NoTape quiet;
  EXPECT_FALSE(checkpoint(net, x).recorded());
  EXPECT_EQ(tape.size(), 0u);
}

TEST(Checkpoint, OnConstantsAloneNothingIsRecorded) {
  Tape tape;
  EXPECT_FALSE(checkpoint([](const Variable& x) { return square(x); }, Tensor::ones({3})).recorded());
  Parameter w(Tensor::ones({3}), "w");
  w.freeze();
  EXPECT_FALSE(checkpoint([&](const Variable& x) { return x * w; }, Tensor::ones({3})).recorded());
}

TEST(Checkpoint, SegmentsNest) {
  const Net a(2), b(2);
  const Tensor x = Rng(1).normal({5, 8});
  auto plain = [&](const Variable& v) { return b(a(v)); };
  auto nested = [&](const Variable& v) {
    return checkpoint([&](const Variable& u) { return checkpoint(b, checkpoint(a, u)); }, v);
  };
  {
    Tape tape;
    tape.backward(sum(plain(x)));
  }
  const std::vector<Tensor> of_a = a.take_gradients(), of_b = b.take_gradients();
  a.runs = b.runs = 0;
  Tape tape;
  tape.backward(sum(nested(x)));
  EXPECT_EQ(a.runs, 3) << "forward, the outer again, the inner again";
  expect_same(a.take_gradients(), of_a);
  expect_same(b.take_gradients(), of_b);
}

TEST(Checkpoint, SeveralInputsAndOutputs) {
  const Parameter w(Tensor::from({2.}), "w");
  auto f = [&](const Variable& a, const Variable& b) { return std::array<Variable, 2>{a * w, b * a}; };
  Tape tape;
  const Variable a = tape.watch(Tensor::from({3.})), b = tape.watch(Tensor::from({5.}));
  const auto [y, z] = checkpoint(f, a, b);
  const Variable both = y * 10 + z * 100;
  const auto g = tape.gradient(both, {a, b, Variable(w)}, {.retain = true});
  EXPECT_EQ(g[0].item(), 20 + 500);
  EXPECT_EQ(g[1].item(), 300);
  EXPECT_EQ(g[2].item(), 30);
  EXPECT_EQ(tape.gradient(y, {a}, {.retain = true})[0].item(), 2) << "no gradient came for z";
  EXPECT_FALSE(tape.gradient(y, {b})[0].defined());
}

TEST(Checkpoint, OutputsThatAreInputsOrConstants) {
  Tape tape;
  const Variable a = tape.watch(Tensor::from({3.}));
  const std::vector<Variable> out = checkpoint(
      [](const Variable& v) -> std::vector<Variable> {
        return {v, Tensor::from({7.}), square(v)};
      },
      a);
  ASSERT_EQ(out.size(), 3u);
  EXPECT_EQ(tape.gradient(out[0] + out[1] + out[2], {a}, {.retain = true})[0].item(), 7);
  EXPECT_FALSE(tape.gradient(out[1] * 2, {a}, {.retain = true})[0].defined());
}

TEST(Checkpoint, ConstantAndIntegerInputs) {
  const Parameter w(Tensor::from({2., 4.}), "w");
  const Tensor index = Tensor::from({Index{1}});
  Tape tape;
  const Variable y = checkpoint(
      [](const Variable& v, const Variable& k) {
        EXPECT_EQ(k.dtype(), DType::i64);
        return v * v * static_cast<double>(k.value().item());
      },
      w, index);
  tape.backward(sum(y));
  EXPECT_EQ(w.grad().to_vector<double>(), (std::vector<double>{4, 8}));
}

TEST(Checkpoint, DrawsTheSameNumbersAgain) {
  Rng rng(5), twin(5);
  const Parameter w(Tensor::ones({100}), "w");
  Tape tape;
  const Variable y = checkpoint(
      rng, [](Rng& r, const Variable& x) { return x * Variable(r.normal({100})); }, w);
  EXPECT_TRUE(same_bytes(y.value(), twin.normal({100})));
  EXPECT_EQ(rng.state(), twin.state()) << "it has moved on";
  rng.next();
  const Rng::State before = rng.state();
  tape.backward(sum(y));
  EXPECT_TRUE(same_bytes(w.grad(), y.value())) << "w is 1, so y is what was drawn";
  EXPECT_EQ(rng.state(), before);
}

/// A layer's generator, kept in a Buffer, as dropout keeps it.
struct Noise {
  explicit Noise(const Rng& rng) : state(words_of(rng)) {}
  Tensor normal(const Shape& shape) const {
    const std::vector<std::int64_t> words = state.value().to_vector<std::int64_t>();
    Rng rng;
    rng.set_state({static_cast<std::uint64_t>(words[0]), static_cast<std::uint64_t>(words[1]),
                   static_cast<std::uint64_t>(words[2])});
    Tensor drawn = rng.normal(shape);
    state.set(words_of(rng));
    return drawn;
  }
  static Tensor words_of(const Rng& rng) {
    std::vector<std::int64_t> words;
    for (const std::uint64_t word : rng.state()) words.push_back(static_cast<std::int64_t>(word));
    return Tensor::from(words, {3});
  }
  Buffer state;
};

TEST(Checkpoint, CellsOfLayersAreAsTheyWereAndThenAsTheyAre) {
  const Noise noise{Rng(6)};
  const Buffer mean(Tensor::from({1.}));
  const Parameter w(Tensor::ones({50}), "w");
  std::vector<double> seen;
  auto layer = [&](const Variable& x) {
    seen.push_back(mean.value().item());
    mean.set((Variable(mean.value()) * 2).value());
    return x * Variable(noise.normal({50})) * Variable(noise.normal({50}));
  };
  Tape tape;
  const Variable y = checkpoint(layer, w), z = checkpoint(layer, w);
  EXPECT_EQ(mean.value().item(), 4);
  const Tensor state = noise.state.value();
  tape.backward(sum(y) + sum(z), {.retain = true});
  EXPECT_TRUE(allclose(w.grad(), (Variable(y.value()) + z.value()).value(), 1e-6, 1e-6));
  EXPECT_TRUE(equal(noise.state.value(), state));
  EXPECT_EQ(mean.value().item(), 4) << "as if each had run once";
  EXPECT_EQ(seen, (std::vector<double>{1, 2, 2, 1})) << "z's segment runs again first";
  tape.backward(sum(y) + sum(z));
  EXPECT_EQ(seen, (std::vector<double>{1, 2, 2, 1, 2, 1})) << "with .retain as often as you like";
}

TEST(Checkpoint, KeepsLabelAndTraining) {
  const Parameter w(Tensor::ones({2}), "w");
  std::vector<std::string> labels;
  std::vector<bool> alive;
  Tape tape;
  Variable y;
  {
    const Label label("block.3");
    y = checkpoint(
        [&](const Variable& x) {
          labels.emplace_back(Label::innermost());
          alive.push_back(Tape::alive());
          return square(x);
        },
        w);
  }
  tape.backward(sum(y));
  EXPECT_EQ(labels, (std::vector<std::string>{"block.3", "block.3"}));
  EXPECT_EQ(alive, (std::vector<bool>{true, true}));
}

TEST(Checkpoint, HooksInsideWorkWhenTheSegmentRunsAgain) {
  const Parameter w(Tensor::from({3.}), "w");
  Tape tape;
  tape.backward(checkpoint(
      [](const Variable& x) {
        const Variable h = x * 2;
        on_gradient(h, [](const Variable& g) { return clamp(g, -1, 1); });
        return h * 50;
      },
      w));
  EXPECT_EQ(w.grad().item(), 2);
}

TEST(Checkpoint, SavedTensorsAreNotHeld) {
  auto held = std::make_shared<int>(0);
  auto step = [held](const Variable& x) {
    Tensor y = square(Variable(x.value())).value();
    if (!recording(x)) return Variable(y);
    return record("step", y, {&x}, [held, x = Saved(x)](const Variable& g, Wants) { return g * x.get() * 2; });
  };
  const Parameter w(Tensor::ones({4}), "w");
  Tape tape;
  const Variable plain = step(step(w));
  EXPECT_EQ(held.use_count(), 4) << "here, in step, in two rules";
  long during = 0;
  const Variable y = checkpoint(
      [&](const Variable& x) {
        const Variable z = step(step(step(x)));
        during = held.use_count();
        return z;
      },
      w);
  EXPECT_EQ(held.use_count(), 4) << "no rule of the segment";
  tape.backward(sum(y));
  EXPECT_EQ(during, 7) << "three more while it ran again";
  EXPECT_EQ(held.use_count(), 2);
}

/// Bytes that a fresh thread, whose cache is empty, asks of the system in one step.
template <class F>
std::uint64_t fresh_allocations(F step) {
  release_cached_memory();
  const std::uint64_t before = allocator_statistics().system_allocations;
  step();
  return allocator_statistics().system_allocations - before;
}

TEST(Checkpoint, NeedsTheMemoryOfOneSegment) {
  Rng rng(2);
  const Tensor x = rng.normal({1000, 100});
  const Parameter w(rng.normal({1}), "w");
  auto block = [&](const Variable& v) {
    Variable h = v;
    for (int i = 0; i < 10; ++i) h = tanh(h * w);
    return h;
  };
  auto pass = [&](auto run) {
    return [&, run] {
      Tape tape;
      Variable h = x;
      for (int i = 0; i < 10; ++i) h = run(h);
      tape.backward(sum(h));
      w.ref()->clear_grad();
    };
  };
  pass(block)();  // whatever is made once
  const std::uint64_t plain = fresh_allocations(pass([&](const Variable& h) { return block(h); }));
  const std::uint64_t saved = fresh_allocations(pass([&](const Variable& h) { return checkpoint(block, h); }));
  EXPECT_GE(plain, 100u) << "one tensor of 400 kB a step";
  EXPECT_LE(saved, 40u) << "ten inputs, one segment, and what is under way";
}

TEST(Checkpoint, GradientsFitDifferences) {
  const Net net(2, DType::f64);
  auto f = [&](std::span<const Variable> in) { return checkpoint(net, in[0] * in[1]); };
  Rng rng(4);
  const GradcheckResult result =
      gradcheck(f, {rng.normal({3, 8}, 0, 1, DType::f64), rng.normal({8}, 0, 1, DType::f64)});
  EXPECT_TRUE(result) << result.message;
}

TEST(Checkpoint, IsDifferentiableOnceAndSaysSo) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({2.}));
  const Variable y = checkpoint([](const Variable& v) { return square(v); }, x);
  const Variable slope = tape.gradient(y, {x}, {.create_graph = true})[0];
  EXPECT_EQ(slope.item(), 4);
  EXPECT_TRUE(throws<GradError>([&] { tape.gradient(slope, {x}); }, "[checkpoint] can be differentiated only once"));
}

TEST(Checkpoint, Errors) {
  const Parameter w(Tensor::from({2.}), "w");
  {
    Tape tape;
    const Variable h = Variable(w) * 3;
    const Variable y = checkpoint([&](const Variable& x) { return x * h; }, w);
    EXPECT_TRUE(throws<GradError>([&] { tape.backward(y); }, "outer tape", "must be one of its inputs"));
    EXPECT_EQ(Tape::recording(), nullptr);
  }
  {
    Tape tape;
    const Variable h = Variable(w) * 3;
    EXPECT_TRUE(throws<GradError>([&] { checkpoint([&](const Variable&) { return h; }, w); }, "output 0", "outside"));
    EXPECT_EQ(Tape::recording(), &tape);
  }
  {
    Tape tape;
    int runs = 0;
    const Variable y = checkpoint(
        [&](const Variable& x) -> std::vector<Variable> { return std::vector<Variable>(runs++ ? 2 : 1, square(x)); },
        w)[0];
    EXPECT_TRUE(throws<GradError>([&] { tape.backward(y); }, "returned 1 values, and 2"));
  }
  {
    Tape tape;
    int runs = 0;
    const Variable y = checkpoint(
        [&](const Variable& x) {
          return runs++ ? reshape(square(x), {1, 1}) : square(x);
        },
        w);
    EXPECT_TRUE(throws<GradError>([&] { tape.backward(y); }, "output 0 was [1] f64, and [1, 1] f64"));
  }
  {
    Tape tape;
    const Variable y = checkpoint([&](const Variable& x) { return x * w; }, Tensor::from({5.}));
    w.ref()->mutable_value().write<double>("the test")[0] = 9;
    EXPECT_TRUE(throws<GradError>([&] { tape.backward(y); }, "[checkpoint]", "changed in place by [the test]"));
  }
  {
    Tape tape;
    int runs = 0;
    const Variable y = checkpoint(
        [&](const Variable& x) {
          if (runs++) fail<ConfigError>("[mine] the second time");
          return square(x);
        },
        w);
    EXPECT_TRUE(throws<ConfigError>([&] { tape.backward(y); }, "[mine]"));
    EXPECT_FALSE(Tape::alive());
  }
}

}  // namespace
}  // namespace espalier
