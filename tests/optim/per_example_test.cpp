// Clipping of each example's gradient, against the plain way: one backward pass for each example alone.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/embedding.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/autograd/ops/recurrent.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/parallel.h"
#include "espalier/optim/per_example.h"
#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

using testing::numbers;
using testing::values_of;
using Values = std::vector<double>;

constexpr Index examples = 6;

Parameter weight(const std::string& name, const Shape& shape, unsigned seed, DType type = DType::f64) {
  return Parameter(Tensor::from(numbers(static_cast<std::size_t>(count(shape)), seed, 0.7), shape).to(type), name);
}
Tensor data(const Shape& shape, unsigned seed, DType type = DType::f64) {
  return Tensor::from(numbers(static_cast<std::size_t>(count(shape)), seed), shape).to(type);
}
Tensor tokens(const Shape& shape, Index below) {
  std::vector<std::int64_t> list;
  for (Index k = 0; k < count(shape); ++k) list.push_back((k * k + k / 3) % below);
  return Tensor::from(list, shape);
}
/// One loss an example, not linear in y [n, ...].
Variable losses_of(const Variable& y) {
  const Index n = y.shape()[0];
  return sum(square(reshape(y, {n, n > 0 ? y.size() / n : 1})), {1});
}

/// A model on examples [first, first + n).
struct Task {
  std::string what;
  ParameterList parameters;
  std::function<Variable(Index first, Index n)> losses;
  Index slow = 0;  // parameters that no formula covers
};

void clear(const ParameterList& all) {
  for (const NamedParameter& named : all) named.parameter->clear_grad();
}
/// gradients[i][k]: of example i and parameter k, 0 where a hard mask prunes.
std::vector<std::vector<Values>> one_by_one(const Task& task) {
  std::vector<std::vector<Values>> all;
  for (Index i = 0; i < examples; ++i) {
    clear(task.parameters);
    Tape tape;
    tape.backward(sum(task.losses(i, 1)));
    std::vector<Values> of_example;
    for (const NamedParameter& named : task.parameters) {
      const ParameterState& p = *named.parameter;
      Values g = p.has_grad() ? values_of(p.grad()) : Values(static_cast<std::size_t>(p.value().size()), 0.0);
      for (std::size_t j = 0; j < g.size(); ++j)
        if (p.mask().defined() && p.mask_mode() == MaskMode::hard && !p.mask()[static_cast<Index>(j)]) g[j] = 0;
      of_example.push_back(std::move(g));
    }
    all.push_back(std::move(of_example));
  }
  clear(task.parameters);
  return all;
}
double norm_of(const std::vector<Values>& gradients) { return testing::norm(gradients); }

PerExampleReport run(const Task& task, PerExampleClip& clip) {
  Tape tape;
  clip.watch(tape);
  return clip.backward(tape, task.losses(0, examples));
}

void expect_close(const Values& got, const Values& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double size = 0, off = 0;
  for (std::size_t j = 0; j < got.size(); ++j) {
    size = std::max(size, std::abs(want[j]));
    off = std::max(off, std::abs(got[j] - want[j]));
  }
  EXPECT_LE(off, tolerance * size) << what;
}

/// Norms, sums and the report of both kinds of bound, against one_by_one().
void expect_matches(const Task& task, double tolerance = 1e-10) {
  const auto g = one_by_one(task);
  Values norms;
  for (const auto& of_example : g) norms.push_back(norm_of(of_example));
  Values sorted = norms;
  std::sort(sorted.begin(), sorted.end());
  const double bound = (sorted[2] + sorted[3]) / 2;  // half of them are clipped

  PerExampleClip clip(task.parameters, {.max_norm = bound, .expected_batch = 4});
  const PerExampleReport report = run(task, clip);
  EXPECT_EQ(report.slow_parameters, task.slow) << task.what;
  expect_close(values_of(report.norms), norms, tolerance, task.what + ", norms");
  EXPECT_EQ(report.clipped, 3) << task.what;
  EXPECT_NEAR(report.median, sorted[2], tolerance * sorted[2]) << task.what;
  for (std::size_t k = 0; k < task.parameters.size(); ++k) {
    Values want(g[0][k].size(), 0.0);
    for (std::size_t i = 0; i < g.size(); ++i)
      for (std::size_t j = 0; j < want.size(); ++j) want[j] += std::min(1.0, bound / norms[i]) * g[i][k][j] / 4;
    expect_close(values_of(task.parameters[k].parameter->grad()), want, 10 * tolerance,
                 task.what + ", " + task.parameters[k].name);
  }

  clear(task.parameters);
  PerExampleClip each(task.parameters,
                      {.max_norm = bound, .expected_batch = 4, .bound = PerExampleBound::per_parameter});
  run(task, each);
  for (std::size_t k = 0; k < task.parameters.size(); ++k) {
    const double own = bound / std::sqrt(static_cast<double>(task.parameters.size()));
    Values want(g[0][k].size(), 0.0);
    for (const auto& of_example : g) {
      const double norm = testing::norm({of_example[k]}), c = norm > own ? own / norm : 1;
      for (std::size_t j = 0; j < want.size(); ++j) want[j] += c * of_example[k][j] / 4;
    }
    expect_close(values_of(task.parameters[k].parameter->grad()), want, 10 * tolerance,
                 task.what + ", bounded alone, " + task.parameters[k].name);
  }
  clear(task.parameters);
}

/// A third of each parameter is pruned.
void prune(const ParameterList& all, MaskMode mode) {
  for (const NamedParameter& named : all) {
    Mask mask(named.parameter->value().size());
    for (Index j = 0; j < mask.size(); j += 3) mask.set(j, false);
    named.parameter->set_mask(mask, mode);
  }
}
void expect_matches_masked_too(const Task& task, double tolerance = 1e-10) {
  expect_matches(task, tolerance);
  prune(task.parameters, MaskMode::soft);
  expect_matches({task.what + ", soft mask", task.parameters, task.losses, task.slow}, tolerance);
  prune(task.parameters, MaskMode::hard);
  expect_matches({task.what + ", hard mask", task.parameters, task.losses, task.slow}, tolerance);
  for (const NamedParameter& named : task.parameters) named.parameter->set_mask({});
}

// --- ghost norms -----------------------------------------------------------------------------------------------------

TEST(PerExampleClip, LinearLayers) {
  const Tensor x = data({examples, 5}, 1);
  for (const Activation& activation : {Activation::none, Activation::relu, Activation::tanh, Activation::sigmoid,
                                       Activation::gelu, Activation::silu}) {
    const Parameter a = weight("a", {7, 5}, 2), b = weight("b", {7}, 3), c = weight("c", {3, 7}, 4);
    expect_matches_masked_too({"linear", list_of(a, b, c), [&](Index first, Index n) {
                                 return losses_of(linear(linear(x.narrow(0, first, n), a, b, activation), c));
                               }});
  }
}

TEST(PerExampleClip, LinearOverSequences) {
  // Three tokens and wide matrices: by pairs of tokens. Thirty and narrow ones: in a scratch.
  for (const auto& [length, wide] : {std::pair<Index, Index>{3, 40}, {30, 4}}) {
    const Tensor x = data({examples, length, 6}, 5);
    const Parameter a = weight("a", {wide, 6}, 6), b = weight("b", {wide}, 7), c = weight("c", {wide, wide}, 8);
    expect_matches_masked_too({"sequences of " + std::to_string(length), list_of(a, b, c), [&](Index first, Index n) {
                                 return losses_of(linear(tanh(linear(x.narrow(0, first, n), a, b)), c));
                               }});
    const Parameter d = weight("d", {6, wide}, 9);
    expect_matches_masked_too({"matmul", list_of(d), [&](Index first, Index n) {
                                 return losses_of(tanh(matmul(x.narrow(0, first, n), d)));
                               }});
  }
}

TEST(PerExampleClip, ExamplesAlongOtherAxes) {
  const Index length = 5;
  const Tensor x = data({examples, length, 4}, 11);
  const Parameter a = weight("a", {3, 4}, 12), b = weight("b", {3}, 13), g = weight("g", {3}, 14);
  auto tail = [&](const Variable& y, Index n) { return losses_of(reshape(y, {n, length * 3})); };
  expect_matches({"time first", list_of(a, b, g), [&](Index first, Index n) {
                    const Variable t = transpose(x.narrow(0, first, n), 0, 1);
                    const Variable y = layer_norm(tanh(linear(t, a, b)), {3}, g);
                    return tail(transpose(y, 0, 1), n);
                  }});
  expect_matches({"rows", list_of(a, b, g), [&](Index first, Index n) {
                    const Variable rows = reshape(x.narrow(0, first, n), {n * length, 4});
                    return tail(layer_norm(tanh(linear(rows, a, b)), {3}, g), n);
                  }});
  // As many steps as examples: only the second backward pass tells which axis is which.
  const Tensor square_x = data({examples, examples, 4}, 15);
  expect_matches({"as many steps as examples", list_of(a, b), [&](Index first, Index n) {
                    const Variable t = transpose(square_x.narrow(0, first, n), 0, 1);
                    return losses_of(transpose(tanh(linear(t, a, b)), 0, 1));
                  }});
}

TEST(PerExampleClip, Convolutions) {
  struct Case {
    Conv2dOptions options;
    Shape x, w;
  };
  const Case cases[] = {
      {{}, {examples, 2, 6, 7}, {3, 2, 3, 3}},
      {{.stride = {2, 1}, .padding = {1, 2}}, {examples, 2, 7, 6}, {3, 2, 3, 2}},
      {{.padding = "same", .dilation = {2, 1}}, {examples, 2, 7, 6}, {3, 2, 2, 3}},
      {{.padding = 1, .groups = 2}, {examples, 4, 5, 5}, {6, 2, 3, 3}},
      {{.groups = 4}, {examples, 4, 5, 5}, {4, 1, 3, 3}},                  // depthwise
      {{.stride = 2}, {examples, 16, 3, 3}, {20, 16, 2, 2}},               // one window, many channels: by pairs
      {{.stride = 2, .groups = 2}, {examples, 32, 4, 4}, {40, 16, 2, 2}},  // the same in groups
  };
  for (const Case& c : cases) {
    const Parameter w = weight("w", c.w, 21), b = weight("b", {c.w[0]}, 22);
    const Tensor x = data(c.x, 23);
    expect_matches_masked_too({"conv2d", list_of(w, b), [&](Index first, Index n) {
                                 return losses_of(tanh(conv2d(x.narrow(0, first, n), w, b, c.options)));
                               }});
  }
  const Parameter w = weight("w", {6, 2, 3}, 24), b = weight("b", {6}, 25);
  const Tensor x = data({examples, 4, 11}, 26);
  expect_matches_masked_too({"conv1d", list_of(w, b), [&](Index first, Index n) {
                               return losses_of(tanh(conv1d(x.narrow(0, first, n), w, b,
                                                            {.stride = 2, .padding = 1, .dilation = 2, .groups = 2})));
                             }});
  // Each example is three images.
  const Parameter v = weight("v", {2, 1, 3, 3}, 27), a = weight("a", {2}, 28);
  const Tensor frames = data({examples, 3, 1, 5, 5}, 29);
  expect_matches({"frames", list_of(v, a), [&](Index first, Index n) {
                    const Variable y = tanh(conv2d(reshape(frames.narrow(0, first, n), {n * 3, 1, 5, 5}), v, a));
                    return losses_of(reshape(y, {n, y.size() / n}));
                  }});
}

TEST(PerExampleClip, TransposedConvolutions) {
  const Parameter w = weight("w", {4, 3, 3, 2}, 31), b = weight("b", {6}, 32);
  const Tensor x = data({examples, 4, 4, 5}, 33);
  expect_matches_masked_too(
      {"conv_transpose2d", list_of(w, b), [&](Index first, Index n) {
         return losses_of(tanh(conv_transpose2d(
             x.narrow(0, first, n), w, b,
             {.stride = {2, 3}, .padding = {1, 0}, .output_padding = {1, 2}, .dilation = {1, 2}, .groups = 2})));
       }});
  const Parameter v = weight("v", {4, 2, 3}, 34), c = weight("c", {2}, 35);
  const Tensor line = data({examples, 4, 5}, 36);
  expect_matches_masked_too(
      {"conv_transpose1d", list_of(v, c), [&](Index first, Index n) {
         return losses_of(tanh(conv_transpose1d(line.narrow(0, first, n), v, c, {.stride = 2, .output_padding = 1})));
       }});
}

TEST(PerExampleClip, EmbeddingsWithRepeats) {
  const Parameter table = weight("table", {5, 4}, 41), w = weight("w", {3, 4}, 42);
  const Tensor index = tokens({examples, 9}, 5);
  for (const EmbeddingOptions& options :
       {EmbeddingOptions{}, EmbeddingOptions{.padding_idx = 1}, EmbeddingOptions{.sparse = true}})
    expect_matches_masked_too({"embedding", list_of(table, w), [&](Index first, Index n) {
                                 return losses_of(
                                     tanh(linear(embedding(index.narrow(0, first, n), table, options), w)));
                               }});
  const Tensor one = tokens({examples}, 5);
  expect_matches({"one token", list_of(table),
                  [&](Index first, Index n) { return losses_of(tanh(embedding(one.narrow(0, first, n), table))); }});
}

TEST(PerExampleClip, ParametersUsedSeveralTimes) {
  const Tensor index = tokens({examples, 4}, 12);
  const Parameter tied = weight("tied", {12, 9}, 51), mix = weight("mix", {9, 9}, 52), bias = weight("bias", {9}, 53);
  expect_matches_masked_too({"tied embedding", list_of(tied, mix, bias), [&](Index first, Index n) {
                               const Variable h = tanh(
                                   linear(embedding(index.narrow(0, first, n), tied, {.padding_idx = 3}), mix, bias));
                               return losses_of(tanh(linear(tanh(linear(h, mix, bias)), tied)));
                             }});
  // A larger table and fewer tokens: by pairs, of which some are of one place and one row.
  std::vector<std::int64_t> list;
  for (Index i = 0; i < examples; ++i) list.insert(list.end(), {7 * i + 1, 7 * i + 1, 4});
  const Tensor few = Tensor::from(list, {examples, 3});
  const Parameter table = weight("table", {60, 40}, 60);
  for (const EmbeddingOptions& options : {EmbeddingOptions{}, EmbeddingOptions{.padding_idx = 4}})
    expect_matches_masked_too({"larger tied embedding", list_of(table), [&](Index first, Index n) {
                                 const Variable h = tanh(embedding(few.narrow(0, first, n), table, options));
                                 return losses_of(tanh(linear(h, table)));
                               }});
  const Tensor x = data({examples, 7, 5}, 54);
  for (const Index width : {3, 30}) {
    const Parameter in = weight("in", {width, 5}, 55), again = weight("again", {width, width}, 56),
                    b = weight("b", {width}, 57);
    expect_matches_masked_too({"recurrence", list_of(in, again, b), [&](Index first, Index n) {
                                 Variable h = Tensor::zeros({n, width}, DType::f64);
                                 for (Index t = 0; t < 7; ++t)
                                   h = tanh(add(linear(x.narrow(0, first, n).select(1, t), in), linear(h, again, b)));
                                 return losses_of(h);
                               }});
  }
  const Parameter kernel = weight("kernel", {2, 2, 3, 3}, 58);
  const Tensor image = data({examples, 2, 6, 6}, 59);
  expect_matches_masked_too({"a kernel twice", list_of(kernel), [&](Index first, Index n) {
                               const Variable y = tanh(conv2d(image.narrow(0, first, n), kernel, {}, {.padding = 1}));
                               return losses_of(conv2d(y, kernel, {}, {.stride = 2}));
                             }});
}

TEST(PerExampleClip, GainsOfNorms) {
  const Tensor x = data({examples, 4, 6}, 61), image = data({examples, 4, 3, 2}, 62);
  const Parameter w = weight("w", {6, 6}, 63), g = weight("g", {6}, 64), b = weight("b", {6}, 65);
  expect_matches_masked_too({"layer_norm", list_of(w, g, b), [&](Index first, Index n) {
                               return losses_of(tanh(layer_norm(linear(x.narrow(0, first, n), w), {6}, g, b, 1e-3)));
                             }});
  const Parameter whole = weight("whole", {4, 6}, 66), scale = weight("scale", {6}, 67);
  expect_matches_masked_too({"two axes, rms_norm", list_of(w, whole, scale), [&](Index first, Index n) {
                               const Variable y = layer_norm(linear(x.narrow(0, first, n), w), {4, 6}, whole);
                               return losses_of(rms_norm(tanh(y), {6}, scale));
                             }});
  const Parameter c = weight("c", {4, 4, 1, 1}, 68), gain = weight("gain", {4}, 69), shift = weight("shift", {4}, 70);
  expect_matches_masked_too({"group_norm", list_of(c, gain, shift), [&](Index first, Index n) {
                               const Variable y = group_norm(conv2d(image.narrow(0, first, n), c), 2, gain, shift);
                               return losses_of(tanh(instance_norm(tanh(y), gain, shift)));
                             }});
}

TEST(PerExampleClip, WhatHasNoFormulaIsExactToo) {
  const Tensor x = data({examples, 5, 3}, 71);
  const Parameter ih = weight("ih", {16, 3}, 72), hh = weight("hh", {16, 4}, 73), b1 = weight("b1", {16}, 74),
                  b2 = weight("b2", {16}, 75), w = weight("w", {2, 4}, 76), slope = weight("slope", {1}, 77);
  expect_matches_masked_too({"lstm", list_of(ih, hh, b1, b2, w, slope),
                             [&](Index first, Index n) {
                               const LstmResult y =
                                   lstm(x.narrow(0, first, n), {}, {}, ih, hh, b1, b2, {.batch_first = true});
                               return losses_of(prelu(linear(y.output, w), slope));
                             },
                             5});
  // The weight is made of a parameter, so the op that reads it is a product; a bias beside it has its formula.
  const Parameter v = weight("v", {2, 3}, 78), b = weight("b", {2}, 79);
  const Tensor factor = data({2, 3}, 80);
  expect_matches({"a weight computed", list_of(v, b),
                  [&](Index first, Index n) {
                    return losses_of(tanh(linear(x.narrow(0, first, n), Variable(v) * Variable(factor), b)));
                  },
                  1});
}

TEST(PerExampleClip, SinglePrecision) {
  const Tensor x = data({examples, 3, 6}, 81, DType::f32);
  const Parameter a = weight("a", {40, 6}, 82, DType::f32), b = weight("b", {40}, 83, DType::f32),
                  c = weight("c", {2, 40}, 84, DType::f32);
  expect_matches(
      {"f32", list_of(a, b, c),
       [&](Index first, Index n) { return losses_of(linear(tanh(linear(x.narrow(0, first, n), a, b)), c)); }},
      5e-6);
}

// --- the same bytes --------------------------------------------------------------------------------------------------

TEST(PerExampleClip, UnclippedSumsAreThoseOfBackward) {
  const Tensor x = data({examples, 5}, 91, DType::f32);
  const Parameter a = weight("a", {7, 5}, 92, DType::f32), b = weight("b", {7}, 93, DType::f32);
  auto losses = [&] { return losses_of(linear(x, a, b)); };
  {
    Tape tape;
    tape.backward(sum(losses()));
  }
  const Tensor plain = a.grad().clone();
  clear(list_of(a, b));
  PerExampleClip clip(list_of(a, b), {.max_norm = 1e9, .expected_batch = 1});
  Tape tape;
  clip.watch(tape);
  EXPECT_EQ(clip.backward(tape, losses()).clipped, 0);
  EXPECT_TRUE(equal(a.grad(), plain));
  EXPECT_EQ(Tape::recording(), nullptr) << "the tape is spent";
}

TEST(PerExampleClip, SameBytesAtAnyThreadCount) {
  const Tensor x = data({40, 6, 12}, 94, DType::f32);
  const Parameter a = weight("a", {30, 12}, 95, DType::f32), b = weight("b", {30}, 96, DType::f32);
  std::vector<Tensor> norms, sums;
  for (const int n : {1, 2, 4}) {
    const ThreadLimit limit(n);
    clear(list_of(a, b));
    PerExampleClip clip(list_of(a, b), {.max_norm = 3, .noise_multiplier = 1, .expected_batch = 32}, Rng(5));
    Tape tape;
    clip.watch(tape);
    norms.push_back(clip.backward(tape, losses_of(tanh(linear(x, a, b)))).norms);
    sums.push_back(a.grad().clone());
    EXPECT_TRUE(equal(norms[0], norms.back()) && equal(sums[0], sums.back())) << n;
  }
}

}  // namespace
}  // namespace espalier::optim
