// The numbers that ops leave on the tape: what whoever reads a graph off it needs besides shapes.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/attention.h"
#include "espalier/autograd/ops/conv.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/embedding.h"
#include "espalier/autograd/ops/index.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/norm.h"
#include "espalier/autograd/ops/patches.h"
#include "espalier/autograd/ops/pool.h"
#include "espalier/autograd/ops/recurrent.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/scan.h"
#include "espalier/autograd/ops/shape.h"

namespace espalier {
namespace {

using Numbers = std::vector<Index>;

struct Seen final : TapeObserver {
  void recorded(const RecordedOp& node, std::span<const Variable* const>, std::span<const Variable>) override {
    op = node.op;
    numbers.assign(node.settings.begin(), node.settings.end());
  }
  std::string op;
  Numbers numbers;
};

struct Case {
  const char* op;
  Shape x;
  std::function<void(const Variable&)> call;
  Numbers want;
};

Tensor ones(const Shape& shape) { return Tensor::ones(shape); }
Tensor zero_index(Index n) { return Tensor::zeros({n}, DType::i64); }

TEST(TapeSettings, AreWhatTheHeadersList) {
  const double eps = 1e-3;
  const Case cases[] = {
      {"linear",
       {2, 3},
       [](const Variable& x) {
         linear(x, ones({4, 3}));
       },
       {}},
      {"linear",
       {2, 3},
       [](const Variable& x) {
         linear(x, ones({4, 3}), {}, Activation::relu);
       },
       {1}},
      {"linear",
       {2, 3},
       [](const Variable& x) {
         linear(x, ones({4, 3}), {}, Activation::silu);
       },
       {5}},
      {"conv2d",
       {2, 4, 9, 9},
       [](const Variable& x) {
         conv2d(x, ones({6, 2, 3, 2}), {}, {.stride = {2, 1}, .padding = {1, 0}, .dilation = {1, 3}, .groups = 2});
       },
       {2, 1, 1, 0, 1, 3, 0, 0, 2}},
      {"conv1d",
       {2, 4, 9},
       [](const Variable& x) {
         conv1d(x, ones({6, 4, 4}), {}, {.padding = "same"});
       },
       {1, 1, 1, 0, 1}},
      {"conv_transpose1d",
       {2, 4, 9},
       [](const Variable& x) {
         conv_transpose1d(x, ones({4, 2, 3}), {}, {.stride = 3, .padding = 2, .output_padding = 1, .groups = 2});
       },
       {3, 2, 1, 1, 2}},
      {"conv_transpose2d",
       {1, 2, 3, 3},
       [](const Variable& x) {
         conv_transpose2d(x, ones({2, 2, 3, 3}), {}, {.stride = {2, 3}, .output_padding = {0, 2}});
       },
       {2, 3, 0, 0, 1, 1, 0, 2, 1}},
      {"embedding", {5, 2}, [](const Variable& w) { embedding(zero_index(3), w, {.padding_idx = -2}); }, {3}},
      {"embedding", {5, 2}, [](const Variable& w) { embedding(zero_index(3), w); }, {-1}},
      {"max_pool2d",
       {1, 1, 8, 8},
       [](const Variable& x) {
         max_pool2d(x, {3, 2}, {.stride = {2, 1}, .padding = {1, 0}});
       },
       {3, 2, 2, 1, 1, 0, 1, 1}},
      {"avg_pool1d",
       {1, 1, 8},
       [](const Variable& x) { avg_pool1d(x, 3, {.padding = 1, .count_include_pad = false, .divisor_override = 7}); },
       {3, 3, 1, 1, 0, 7}},
      {"adaptive_avg_pool2d", {1, 1, 8, 8}, [](const Variable& x) { adaptive_avg_pool2d(x, 2); }, {}},
      {"transpose", {2, 3, 4}, [](const Variable& x) { transpose(x, 0, -1); }, {0, 2}},
      {"permute",
       {2, 3, 4},
       [](const Variable& x) {
         permute(x, {-1, 0, 1});
       },
       {2, 0, 1}},
      {"reshape", {2, 3}, [](const Variable& x) { reshape(x, {6}); }, {}},
      {"slice", {2, 9}, [](const Variable& x) { slice(x, -1, -7, 100, 2); }, {1, 2, 2}},
      {"narrow", {2, 9}, [](const Variable& x) { narrow(x, -1, 3, 4); }, {1, 3, 1}},
      {"select", {2, 9}, [](const Variable& x) { select(x, 1, -2); }, {1, 7}},
      {"diagonal", {3, 3}, [](const Variable& x) { diagonal(x, 1, -2, -1); }, {1, 0, 1}},
      {"triu", {3, 3}, [](const Variable& x) { triu(x, -1); }, {-1}},
      {"flip", {3, 2}, [](const Variable& x) { flip(x, {0}); }, {0, 2, 1, 0}},
      {"pad",
       {3, 2},
       [](const Variable& x) {
         pad(x, {1, 0});
       },
       {1, 0}},
      {"pad",
       {3, 2},
       [](const Variable& x) {
         pad(x, {1, 0}, PadMode::replicate);
       },
       {1, 0, 0, 1}},
      {"cat",
       {2, 3},
       [](const Variable& x) {
         cat({x, ones({2, 1})}, -1);
       },
       {1}},
      {"stack",
       {2, 3},
       [](const Variable& x) {
         stack({x, x}, -1);
       },
       {2}},
      {"split", {2, 3}, [](const Variable& x) { split(x, 2, -1); }, {1}},
      {"unbind", {2, 3}, [](const Variable& x) { unbind(x, -1); }, {1}},
      {"sum",
       {2, 3, 4},
       [](const Variable& x) {
         sum(x, {-1, 0});
       },
       {0, 2}},
      {"sum", {2, 3}, [](const Variable& x) { sum(x); }, {0, 1}},
      {"var", {2, 3}, [](const Variable& x) { var(x, {1}, false); }, {0, 1}},
      {"norm", {2, 3}, [](const Variable& x) { norm(x, 3, {1}); }, {setting_of(3), 1}},
      {"softmax", {2, 3}, [](const Variable& x) { softmax(x, -1); }, {1}},
      {"log_softmax", {2, 3}, [](const Variable& x) { log_softmax(x, 0); }, {0}},
      {"layer_norm",
       {2, 3, 4},
       [=](const Variable& x) {
         layer_norm(x, {3, 4}, {}, {}, eps);
       },
       {2, setting_of(eps)}},
      {"group_norm", {2, 4, 3}, [=](const Variable& x) { group_norm(x, 2, {}, {}, eps); }, {2, setting_of(eps), 0}},
      {"batch_norm",
       {2, 4, 3},
       [=](const Variable& x) {
         batch_norm(x, {}, {}, {eps, true});
       },
       {0, setting_of(eps), 1}},
      {"cumsum", {2, 3}, [](const Variable& x) { cumsum(x, -1); }, {1, 0}},
      {"linear_scan", {2, 3}, [](const Variable& x) { linear_scan(x, x, -1, true); }, {1, 1}},
      {"index_select", {2, 3}, [](const Variable& x) { index_select(x, -1, zero_index(2)); }, {1}},
      {"unfold",
       {1, 2, 5, 5},
       [](const Variable& x) {
         unfold(x, {3, 2}, {.stride = {1, 2}, .padding = {1, 0}});
       },
       {3, 2, 1, 2, 1, 0, 1, 1}},
      {"self_attention",
       {1, 3, 12},
       [](const Variable& x) { self_attention(x, 2, {}, {.causal = true, .scale = 0.5}); },
       {2, setting_of(0.5), 1, 0}},
      {"rnn",
       {3, 2, 4},
       [](const Variable& x) {
         rnn(x, {}, ones({5, 4}), ones({5, 5}), {}, {}, {.reverse = true});
       },
       {1, 0}},
      {"glu", {2, 4}, [](const Variable& x) { glu(x, -1); }, {1}},
  };
  for (const Case& c : cases) {
    Tape tape;
    const Variable x = tape.watch(ones(c.x));
    Seen seen;
    tape.observe(seen);
    const std::size_t first = tape.size();
    c.call(x);
    EXPECT_EQ(seen.op, c.op);
    EXPECT_EQ(seen.numbers, c.want) << c.op;
    ASSERT_GT(tape.size(), first) << c.op;
    const RecordedOp node = tape.node(tape.size() - 1);
    EXPECT_EQ(Numbers(node.settings.begin(), node.settings.end()), c.want) << c.op << ", read later";
    tape.unobserve(seen);
  }
}

TEST(TapeSettings, StayWithTheirNodes) {
  Tape tape;
  Variable x = tape.watch(ones({3, 3}));
  Numbers want;
  for (Index k = 0; k < 50; ++k) {
    x = k % 3 == 0 ? x * x : k % 3 == 1 ? triu(x, k) : transpose(x, 0, 1);
    want.push_back(k % 3);
  }
  for (Index k = 0; k < 50; ++k) {
    const auto settings = tape.node(static_cast<std::size_t>(k) + 1).settings;
    EXPECT_EQ(Numbers(settings.begin(), settings.end()), (k % 3 == 0   ? Numbers{}
                                                          : k % 3 == 1 ? Numbers{k}
                                                                       : Numbers{0, 1}))
        << k;
  }
  Tape next;  // the memory of a tape is used again
  EXPECT_TRUE(tape.node(0).settings.empty());
  const Variable y = next.watch(ones({2, 2}));
  EXPECT_TRUE((y * y).recorded());
  EXPECT_TRUE(next.node(1).settings.empty());
}

TEST(TapeSettings, OfARecordedBackwardPassAreNone) {
  Tape tape;
  const Variable x = tape.watch(ones({1, 2, 5, 5})), w = tape.watch(ones({2, 2, 3, 3}));
  const Variable y = sum(conv2d(x, w));
  const std::size_t forward = tape.size();
  tape.gradient(y, {x, w}, {.create_graph = true});
  for (std::size_t k = forward; k < tape.size(); ++k)
    EXPECT_TRUE(std::string(tape.node(k).op) != "conv2d" || tape.node(k).settings.empty());
}

TEST(TapeSettings, DoublesKeepTheirBits) {
  EXPECT_EQ(number_of(setting_of(1e-5)), 1e-5);
  EXPECT_EQ(number_of(setting_of(-0.0)), 0.0);
}

}  // namespace
}  // namespace espalier
