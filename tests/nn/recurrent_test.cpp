// Rnn, Lstm, Gru and their cells: against the same recurrence stepped with a cell, and against each sequence alone.
#include "espalier/nn/recurrent.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/packed_linear.h"
#include "espalier/nn/linear.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/optimizer.h"
#include "tests/support.h"

namespace espalier {
namespace {

using nn::Gru;
using nn::Lstm;
using nn::LstmOutput;
using nn::LstmState;
using nn::Rnn;
using testing::same_bytes;
using testing::Threads;
using testing::throws;

constexpr DType f64 = DType::f64;

Tensor noise(const Shape& shape, std::uint64_t seed = 7, DType type = f64) {
  Rng rng(seed);
  return rng.uniform(shape, -1, 1, type);
}

::testing::AssertionResult close(const Tensor& a, const Tensor& b) {
  if (allclose(a, b, 1e-12, 1e-13)) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << a << "\nand\n" << b;
}

std::vector<std::string> names(const nn::Module& module) {
  std::vector<std::string> list;
  for (const NamedParameter& p : module.parameters()) list.push_back(p.name);
  return list;
}

/// Gradients of all parameters of `module`, where loss() is what it computes.
template <class F>
std::vector<Tensor> gradients_of(const nn::Module& module, F&& loss) {
  Tape tape;
  std::vector<Tensor> list;
  for (const Variable& g : tape.gradient(loss(), module.parameters())) list.push_back(g.value());
  return list;
}

TEST(RecurrentLayers, HavePyTorchsNamesAndShapes) {
  Rng rng(1);
  const Lstm lstm(rng, 3, 5, {.num_layers = 2, .bidirectional = true});
  EXPECT_EQ(names(lstm), (std::vector<std::string>{"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0",
                                                   "weight_ih_l0_reverse", "weight_hh_l0_reverse", "bias_ih_l0_reverse",
                                                   "bias_hh_l0_reverse", "weight_ih_l1", "weight_hh_l1", "bias_ih_l1",
                                                   "bias_hh_l1", "weight_ih_l1_reverse", "weight_hh_l1_reverse",
                                                   "bias_ih_l1_reverse", "bias_hh_l1_reverse"}));
  std::vector<Shape> shapes;
  for (const NamedParameter& p : lstm.parameters()) shapes.push_back(p.parameter->value().shape());
  EXPECT_EQ(shapes[0], (Shape{20, 3}));
  EXPECT_EQ(shapes[1], (Shape{20, 5}));
  EXPECT_EQ(shapes[2], (Shape{20}));
  EXPECT_EQ(shapes[8], (Shape{20, 10}));
  EXPECT_EQ(names(Gru(rng, 3, 5, {.bias = false})), (std::vector<std::string>{"weight_ih_l0", "weight_hh_l0"}));
  EXPECT_EQ(names(nn::LstmCell(rng, 3, 5)), (std::vector<std::string>{"weight_ih", "weight_hh", "bias_ih", "bias_hh"}));
  EXPECT_EQ(Gru(rng, 3, 5).parameter_count(), 3 * 5 * (3 + 5 + 2));
}

TEST(RecurrentLayers, DrawWithinOneOverRootHidden) {
  Rng rng(1);
  Lstm lstm(rng, 900, 25);
  for (const Parameter* p : {&lstm.weights().weight_ih, &lstm.weights().weight_hh, &lstm.weights().bias_ih}) {
    double largest = 0;
    for (float w : p->value().to_vector<float>()) largest = std::max(largest, std::abs(static_cast<double>(w)));
    EXPECT_LE(largest, 0.2);
    EXPECT_GT(largest, 0.18);  // of 100 draws and more
  }
}

TEST(RecurrentLayers, AreTheirCellsStepped) {
  Rng rng(2);
  const Tensor x = noise({5, 3, 4});
  const auto weigh = [&](Index t, const Variable& h) { return sum(mul(h, noise({3, 6}, 100 + std::uint64_t(t)))); };
  const auto weigh_all = [&](const Variable& y) {
    Tensor weights = Tensor::empty(y.shape(), f64);
    for (Index t = 0; t < 5; ++t) weights.select(0, t).copy_from(noise({3, 6}, 100 + std::uint64_t(t)));
    return sum(mul(y, weights));
  };
  const auto same_weights = [](nn::RecurrentWeights& to, const nn::RecurrentWeights& from) { to = from; };

  Lstm lstm(rng, 4, 6, {.dtype = f64});
  nn::LstmCell lstm_cell(rng, 4, 6, {.dtype = f64});
  same_weights(lstm_cell.weights, lstm.weights());
  const auto whole = gradients_of(lstm, [&] {
    const LstmOutput y = lstm(x);
    return add(weigh_all(y.output), sum(square(y.state.c[0])));
  });
  const auto stepped = gradients_of(lstm_cell, [&] {
    LstmCellResult state;
    Variable loss(Tensor::zeros({}, f64));
    for (Index t = 0; t < 5; ++t) {
      state = lstm_cell(x.select(0, t), state);
      loss = add(loss, weigh(t, state.h));
    }
    return add(loss, sum(square(state.c)));
  });
  for (std::size_t k = 0; k < 4; ++k) EXPECT_TRUE(close(whole[k], stepped[k])) << k;

  const auto compare = [&](auto& layer, auto& cell) {
    same_weights(cell.weights, layer.weights());
    const auto at_once = gradients_of(layer, [&] { return weigh_all(layer(x).output); });
    const auto by_steps = gradients_of(cell, [&] {
      Variable h, loss(Tensor::zeros({}, f64));
      for (Index t = 0; t < 5; ++t) {
        h = cell(x.select(0, t), h);
        loss = add(loss, weigh(t, h));
      }
      return loss;
    });
    for (std::size_t k = 0; k < 4; ++k) EXPECT_TRUE(close(at_once[k], by_steps[k])) << k;
  };
  Gru gru(rng, 4, 6, {.dtype = f64});
  nn::GruCell gru_cell(rng, 4, 6, {.dtype = f64});
  compare(gru, gru_cell);
  for (const Nonlinearity act : {Nonlinearity::tanh, Nonlinearity::relu}) {
    Rnn rnn(rng, 4, 6, {.dtype = f64}, act);
    nn::RnnCell rnn_cell(rng, 4, 6, {.dtype = f64}, act);
    compare(rnn, rnn_cell);
  }
}

TEST(RecurrentLayers, StackLayerOnLayer) {
  Rng rng(3);
  Lstm both(rng, 4, 5, {.num_layers = 2, .dtype = f64});
  Lstm first(rng, 4, 5, {.dtype = f64}), second(rng, 5, 5, {.dtype = f64});
  first.weights() = both.weights(0);
  second.weights() = both.weights(1);
  const Tensor x = noise({6, 2, 4});
  const LstmOutput y = both(x), lower = first(x), upper = second(lower.output);
  EXPECT_TRUE(same_bytes(y.output.value(), upper.output.value()));
  EXPECT_TRUE(same_bytes(y.state.h[0].value(), lower.state.h[0].value()));
  EXPECT_TRUE(same_bytes(y.state.c[1].value(), upper.state.c[0].value()));
}

TEST(RecurrentLayers, RunBackwardsThroughTheReversedSequence) {
  Rng rng(4);
  Gru both(rng, 4, 5, {.bidirectional = true, .dtype = f64});
  Gru one(rng, 4, 5, {.dtype = f64});
  one.weights() = both.weights(0, true);
  const Tensor x = noise({6, 2, 4});
  Tensor flipped = Tensor::empty(x.shape(), f64);
  for (Index t = 0; t < 6; ++t) flipped.select(0, t).copy_from(x.select(0, 5 - t));
  const nn::RnnOutput y = both(x), alone = one(flipped);
  ASSERT_EQ(y.output.shape(), (Shape{6, 2, 10}));
  for (Index t = 0; t < 6; ++t)
    EXPECT_TRUE(same_bytes(y.output.value().select(0, t).narrow(1, 5, 5), alone.output.value().select(0, 5 - t)));
  EXPECT_TRUE(same_bytes(y.state.h[1].value(), alone.state.h[0].value()));
}

/// Every layer, with and without what makes its code differ.
template <class F>
void for_options(F&& f) {
  for (const bool batch_first : {false, true})
    for (const bool bidirectional : {false, true})
      for (const int num_layers : {1, 2, 3})
        f(nn::RecurrentOptions{
            .num_layers = num_layers, .batch_first = batch_first, .bidirectional = bidirectional, .dtype = f64});
}

TEST(RecurrentLayers, TakeTheBatchFirstToo) {
  for_options([](nn::RecurrentOptions options) {
    if (!options.batch_first) return;
    Rng rng(5), again(5);
    Lstm batch_first(rng, 4, 3, options);
    options.batch_first = false;
    Lstm time_first(again, 4, 3, options);
    const Tensor x = noise({2, 6, 4});
    const auto loss = [&](const Variable& y) { return sum(mul(y, y)); };
    EXPECT_TRUE(same_bytes(batch_first(x).output.value().contiguous(),
                           time_first(x.transpose(0, 1)).output.value().transpose(0, 1).contiguous()));
    const auto a = gradients_of(batch_first, [&] { return loss(batch_first(x).output); });
    const auto b = gradients_of(time_first, [&] { return loss(time_first(x.transpose(0, 1)).output); });
    for (std::size_t k = 0; k < a.size(); ++k) EXPECT_TRUE(close(a[k], b[k])) << k;
    EXPECT_TRUE(batch_first(x).output.value().is_contiguous());
  });
}

TEST(RecurrentLayers, TreatASequenceOfABatchAsThoughItWereAlone) {
  const std::vector<std::int64_t> steps{3, 6, 0, 6, 1};
  const Tensor lengths = Tensor::from(steps, {5});
  for_options([&](const nn::RecurrentOptions& options) {
    Rng rng(6);
    Lstm lstm(rng, 4, 3, options);
    const Index time = options.batch_first ? 1 : 0, batch = 1 - time;
    Tensor x = noise(options.batch_first ? Shape{5, 6, 4} : Shape{6, 5, 4});
    for (Index n = 0; n < 5; ++n)  // what is behind the end must not be read
      x.narrow(int(batch), n, 1).slice(int(time), steps[std::size_t(n)], 6).fill(std::nan(""));
    Tape tape;
    const Variable watched = tape.watch(x);
    const LstmOutput y = lstm(watched, {}, lengths);
    const Variable dx = tape.gradient(add(sum(square(y.output)), sum(y.state.c[0])), {watched})[0];
    for (Index n = 0; n < 5; ++n) {
      const Index length = steps[std::size_t(n)];
      Tape inner;
      const Tensor own = x.narrow(int(batch), n, 1).narrow(int(time), 0, length);
      const Variable own_watched = inner.watch(own);
      const LstmOutput alone = lstm(own_watched);
      const Variable own_dx = inner.gradient(add(sum(square(alone.output)), sum(alone.state.c[0])), {own_watched})[0];
      const auto part = [&](const Tensor& t, Index from, Index count) {
        return t.narrow(int(batch), n, 1).narrow(int(time), from, count);
      };
      EXPECT_TRUE(close(part(y.output.value(), 0, length), alone.output.value())) << n;
      const Tensor behind = part(y.output.value(), length, 6 - length);
      EXPECT_TRUE(equal(behind, Tensor::zeros(behind.shape(), f64))) << n;
      for (std::size_t k = 0; k < y.state.h.size(); ++k) {
        EXPECT_TRUE(close(y.state.h[k].value().narrow(0, n, 1), alone.state.h[k].value())) << n;
        EXPECT_TRUE(close(y.state.c[k].value().narrow(0, n, 1), alone.state.c[k].value())) << n;
      }
      EXPECT_TRUE(close(part(dx.value(), 0, length), own_dx.value())) << n;
      EXPECT_EQ(sum(part(dx.value(), length, 6 - length)).item(), 0) << n;
    }
  });
}

TEST(RecurrentLayers, GiveZerosBehindTheEnds) {
  Rng rng(6);
  Gru gru(rng, 2, 3, {.bidirectional = true});
  const Tensor y = gru(Tensor::ones({4, 3, 2}), {}, Tensor::from<std::int64_t>({2, 4, 0})).output.value();
  EXPECT_TRUE(equal(y.select(1, 0).narrow(0, 2, 2), Tensor::zeros({2, 6})));
  EXPECT_TRUE(equal(y.select(1, 2), Tensor::zeros({4, 6})));
  EXPECT_NE(y.at({3, 1, 0}), 0);
}

TEST(RecurrentLayers, OfEqualLengthsAreThoseWithoutLengths) {
  Rng rng(6);
  Gru gru(rng, 2, 3);
  const Tensor x = noise({4, 3, 2}, 1, DType::f32);
  EXPECT_TRUE(same_bytes(gru(x).output.value(), gru(x, {}, Tensor::from<std::int64_t>({4, 4, 4})).output.value()));
}

TEST(RecurrentLayers, TakeNoStepsAndNoSequences) {
  for_options([](const nn::RecurrentOptions& options) {
    Rng rng(7);
    Lstm lstm(rng, 4, 3, options);
    const Index width = options.bidirectional ? 6 : 3;
    const auto shaped = [&](Index steps, Index batch, Index last) {
      return options.batch_first ? Shape{batch, steps, last} : Shape{steps, batch, last};
    };
    const auto directions = static_cast<std::size_t>(options.num_layers) * (options.bidirectional ? 2 : 1);
    LstmState state;
    for (std::size_t k = 0; k < directions; ++k) {
      state.h.push_back(noise({2, 3}, k));
      state.c.push_back(noise({2, 3}, 50 + k));
    }
    const LstmOutput none = lstm(Tensor::zeros(shaped(0, 2, 4), f64), state);
    EXPECT_EQ(none.output.shape(), shaped(0, 2, width));
    for (std::size_t k = 0; k < directions; ++k) {
      EXPECT_TRUE(same_bytes(none.state.h[k].value(), state.h[k].value()));
      EXPECT_TRUE(same_bytes(none.state.c[k].value(), state.c[k].value()));
    }
    const LstmOutput empty = lstm(Tensor::zeros(shaped(5, 0, 4), f64));
    EXPECT_EQ(empty.output.shape(), shaped(5, 0, width));
    EXPECT_EQ(empty.state.h[0].shape(), (Shape{0, 3}));
    for (const Tensor& g : gradients_of(lstm, [&] {
           const LstmOutput y = lstm(Tensor::zeros(shaped(0, 2, 4), f64));
           return sum(y.output);
         }))
      EXPECT_EQ(sum(g).item(), 0);
    EXPECT_EQ(lstm(noise(shaped(1, 2, 4))).output.shape(), shaped(1, 2, width));
  });
}

TEST(RecurrentLayers, CarryTheirStateOn) {
  Rng rng(8);
  Lstm lstm(rng, 4, 3, {.num_layers = 2, .dtype = f64});
  const Tensor x = noise({7, 2, 4});
  const LstmOutput whole = lstm(x), first = lstm(x.narrow(0, 0, 3)), second = lstm(x.narrow(0, 3, 4), first.state);
  EXPECT_TRUE(close(second.output.value(), whole.output.value().narrow(0, 3, 4)));
  EXPECT_TRUE(close(second.state.c[1].value(), whole.state.c[1].value()));

  // Backward through both halves is backward through the whole.
  const auto of_whole = gradients_of(lstm, [&] { return sum(square(lstm(x).output)); });
  const auto of_halves = gradients_of(lstm, [&] {
    const LstmOutput a = lstm(x.narrow(0, 0, 3)), b = lstm(x.narrow(0, 3, 4), a.state);
    return add(sum(square(a.output)), sum(square(b.output)));
  });
  for (std::size_t k = 0; k < of_whole.size(); ++k) EXPECT_TRUE(close(of_whole[k], of_halves[k])) << k;

  // Detached, the first half gets no gradient; carried over a tape that is gone, it is an error.
  LstmState carried;
  {
    Tape tape;
    carried = lstm(x.narrow(0, 0, 3)).state;
    EXPECT_TRUE(carried.h[0].recorded());
    EXPECT_FALSE(carried.detach().c[1].recorded());
  }
  Tape tape;
  EXPECT_NO_THROW(lstm(x, carried.detach()));
  EXPECT_TRUE(throws<GradError>([&] { lstm(x, carried); }, "[lstm]", ".detach()"));
}

TEST(RecurrentLayers, GiveTheSameBytesAtAnyThreadCount) {
  Rng rng(9);
  // Many sequences, few; columns that are worth sharing out; lengths.
  struct Size {
    Index steps, batch, in, hidden;
    bool lengths;
  };
  for (const Size s : {Size{5, 37, 9, 65, false}, Size{3, 4, 16, 512, false}, Size{6, 50, 8, 31, true}}) {
    Lstm lstm(rng, s.in, s.hidden);
    Gru gru(rng, s.in, s.hidden, {.bidirectional = true});
    const Tensor x = noise({s.steps, s.batch, s.in}, 3, DType::f32);
    std::vector<std::int64_t> steps;
    for (Index n = 0; n < s.batch; ++n) steps.push_back(n % (s.steps + 1));
    const Tensor lengths = s.lengths ? Tensor::from(steps, {s.batch}) : Tensor();
    const auto run = [&](int n) {
      const Threads use(n);
      std::vector<Tensor> all = gradients_of(lstm, [&] { return sum(square(lstm(x, {}, lengths).output)); });
      for (Tensor& t : gradients_of(gru, [&] { return sum(square(gru(x, {}, lengths).output)); })) all.push_back(t);
      all.push_back(lstm(x, {}, lengths).output.value());
      return all;
    };
    const std::vector<Tensor> one = run(1);
    for (const int n : {2, 4}) {
      const std::vector<Tensor> many = run(n);
      for (std::size_t k = 0; k < one.size(); ++k) EXPECT_TRUE(same_bytes(one[k], many[k])) << n << ' ' << k;
    }
  }
}

TEST(RecurrentLayers, AreValues) {
  Rng rng(10);
  Lstm lstm(rng, 4, 3, {.num_layers = 2});
  Lstm copy = lstm;
  const Tensor x = noise({2, 2, 4}, 1, DType::f32);
  const Tensor before = lstm(x).output.value();
  copy.weights(1).bias_ih.set_value(Tensor::full({12}, 1));
  EXPECT_TRUE(same_bytes(lstm(x).output.value(), before)) << "a copy has parameters of its own";
  EXPECT_FALSE(equal(copy(x).output.value(), before));
  const ParameterRef kept = copy.weights(0).weight_hh.ref();
  copy = lstm;
  EXPECT_EQ(copy.weights(0).weight_hh.ref(), kept) << "assigning writes into the parameters";
  EXPECT_TRUE(same_bytes(copy(x).output.value(), before));
}

TEST(RecurrentLayers, ReadTheirSizesOffTheWeights) {
  Rng rng(11);
  Lstm lstm(rng, 4, 8, {.num_layers = 2, .dtype = f64});
  const auto cut = [&](nn::RecurrentWeights& w, Index in, Index hidden) {
    w.weight_ih.ref()->replace(noise({4 * hidden, in}), {});
    w.weight_hh.ref()->replace(noise({4 * hidden, hidden}), {});
    w.bias_ih.ref()->replace(noise({4 * hidden}), {});
    w.bias_hh.ref()->replace(noise({4 * hidden}), {});
  };
  cut(lstm.weights(0), 4, 5);
  cut(lstm.weights(1), 5, 3);
  const LstmOutput y = lstm(noise({6, 2, 4}));
  EXPECT_EQ(y.output.shape(), (Shape{6, 2, 3}));
  EXPECT_EQ(y.state.h[0].shape(), (Shape{2, 5}));
  EXPECT_EQ(y.state.c[1].shape(), (Shape{2, 3}));
  EXPECT_NO_THROW(lstm(noise({6, 2, 4}), y.state));
  cut(lstm.weights(0), 4, 0);  // every unit pruned
  cut(lstm.weights(1), 0, 3);
  EXPECT_EQ(lstm(noise({6, 2, 4})).output.shape(), (Shape{6, 2, 3}));
}

TEST(RecurrentLayers, RunOnPackedWeights) {
  Rng rng(12);
  Gru gru(rng, 6, 20);
  nn::RecurrentWeights& w = gru.weights();
  for (Parameter* p : {&w.weight_ih, &w.weight_hh}) {
    Tensor sparse = p->value().clone();
    for (Index i = 0; i < sparse.shape()[0]; ++i) sparse.select(0, i).slice(0, i % 3, sparse.shape()[1], 2).fill(0);
    p->set_value(sparse);
  }
  const Tensor x = noise({5, 18, 6}, 1, DType::f32);
  const Tensor dense = gru(x).output.value();
  for (Parameter* p : {&w.weight_ih, &w.weight_hh})
    p->ref()->replace(
        Tensor::packed(p->shape(), p->dtype(), std::make_unique<PackedLinear>(p->value(), KernelChoices{})), {});
  EXPECT_TRUE(allclose(gru(x).output.value(), dense, 1e-5, 1e-6));
  Tape tape;
  const Variable loss = sum(gru(x).output);
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "[gru]", "packed"));
}

TEST(RecurrentLayers, DropWhatPassesBetweenLayersInTraining) {
  Rng rng(16), again(16);
  Gru with(rng, 4, 8, {.num_layers = 2, .dropout = 1}), without(again, 4, 8, {.num_layers = 2});
  for (int layer : {0, 1}) with.weights(layer) = without.weights(layer);
  const Tensor x = noise({3, 2, 4}, 1, DType::f32);
  EXPECT_TRUE(same_bytes(with(x).output.value(), without(x).output.value())) << "not in evaluation";
  Gru second(rng, 8, 8);
  second.weights() = without.weights(1);
  const Tape tape;
  EXPECT_TRUE(same_bytes(with(x).output.value(), second(Tensor::zeros({3, 2, 8})).output.value()));
  EXPECT_THROW(Gru(rng, 4, 8, {.dropout = 1.5}), ConfigError);
}

TEST(LstmCell, LetsAHookClipTheGradientBetweenSteps) {
  Rng rng(17);
  nn::LstmCell cell(rng, 2, 3, {.dtype = f64});
  const auto largest_gradient = [&](double bound) {
    Tape tape;
    LstmCellResult state;
    double largest = 0;
    for (Index t = 0; t < 4; ++t) {
      state = cell(noise({2, 2}, 20 + static_cast<std::uint64_t>(t)), state);
      tape.hook(state.h, [bound](const Variable& g) { return clamp(g, -bound, bound); });
      tape.hook(state.h, [&](const Variable& g) {
        for (double v : g.value().to_vector<double>()) largest = std::max(largest, std::abs(v));
      });
    }
    tape.gradient(sum(state.h), cell.parameters());
    return largest;
  };
  EXPECT_GT(largest_gradient(10), 0.5);
  EXPECT_EQ(largest_gradient(0.01), 0.01);
}

TEST(RecurrentLayers, RecordNothingWithoutATape) {
  Rng rng(13);
  Lstm lstm(rng, 4, 3, {.num_layers = 2, .bidirectional = true});
  const LstmOutput y = lstm(noise({3, 2, 4}, 1, DType::f32));
  EXPECT_FALSE(y.output.recorded());
  EXPECT_FALSE(y.state.c[3].recorded());
}

TEST(RecurrentLayers, RefuseWhatTheyCannotRun) {
  Rng rng(14);
  EXPECT_TRUE(throws<ConfigError>([&] { Lstm(rng, 2, 3, {.num_layers = 0}); }, "[lstm]", "num_layers is 0"));
  Lstm lstm(rng, 4, 3, {.num_layers = 2});
  EXPECT_TRUE(throws<IndexError>([&] { lstm.weights(2); }, "layer 2", "2 layers"));
  EXPECT_TRUE(throws<IndexError>([&] { lstm.weights(0, true); }, "reverse"));
  EXPECT_TRUE(throws<ShapeError>([&] { lstm(Tensor::zeros({5, 2, 3})); }, "[5, 2, 3]", "weight_ih [12, 4]"));
  const LstmState one{{Variable(Tensor::zeros({2, 3}))}, {}};
  EXPECT_TRUE(throws<ShapeError>([&] { lstm(Tensor::zeros({5, 2, 4}), one); }, "1 tensors", "2 layers"));
  EXPECT_THROW(lstm(Tensor::zeros({5, 2, 4}, f64)), DTypeError);
  const Lstm by_batch(rng, 4, 3, {.num_layers = 2, .batch_first = true});  // texts show x as it was given
  EXPECT_TRUE(throws<ShapeError>([&] { by_batch(Tensor::zeros({2, 5, 3})); }, "[2, 5, 3]", "in = 4", "[12, 4]"));
  EXPECT_TRUE(throws<ShapeError>([&] { by_batch(Tensor::zeros({5, 4})); }, "[5, 4]", "[N, T, in]"));

  class Net final : public nn::Module {
   public:
    explicit Net(Rng& r) : memory(r, 4, 3) {}
    Variable operator()(const Variable& x) const { return memory(x).output; }
    void members(nn::Visitor& v) override { v("memory", memory); }
    Gru memory;
  } net(rng);
  EXPECT_EQ(names(net)[0], "memory.weight_ih_l0");
  EXPECT_TRUE(throws<ShapeError>([&] { net(Tensor::zeros({5, 4})); }, "[gru]", "[5, 4]", "memory"));
}

TEST(RecurrentLayers, LearnToRememberTheFirstInput) {
  // y = x_0 after six more random inputs: a target that only a state that is kept can hit.
  class Net final : public nn::Module {
   public:
    explicit Net(Rng& r) : memory(r, 1, 12), out(r, 12, 1) {}
    Variable operator()(const Variable& x) const { return out(memory(x).state.h[0]); }
    void members(nn::Visitor& v) override { v("memory", memory)("out", out); }
    Lstm memory;
    nn::Linear out;
  };
  Rng rng(15);
  Net net(rng);
  auto optimizer = optim::Optimizer(net.parameters(), optim::adam({.lr = 0.02}));
  double first = 0, last = 0;
  for (int step = 0; step < 150; ++step) {
    const Tensor x = rng.uniform({7, 32, 1}, -1, 1);
    Tape tape;
    const Variable loss = mean(square(sub(net(x), x.select(0, 0))));
    (step == 0 ? first : last) = loss.item();
    tape.backward(loss);
    optimizer.step();
  }
  EXPECT_GT(first, 0.2);
  EXPECT_LT(last, 0.05) << "not learnt";
}

}  // namespace
}  // namespace espalier
