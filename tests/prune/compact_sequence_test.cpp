// compact() on recurrent layers, attention and embeddings.
#include <gtest/gtest.h>

#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/attention.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/sequential.h"
#include "tests/prune/compact_helpers.h"

namespace espalier::prune {
namespace {

using testing::compacted, testing::fixed, testing::mask_out;

constexpr DType f64 = DType::f64;

// --- recurrent layers -----------------------------------------------------------------------------------------------

/// Rows of unit u in all gates, and its entries of the biases.
void silence(nn::RecurrentWeights& w, Index unit) {
  const Index hidden = w.hidden(), gates = w.weight_hh.shape()[0] / hidden;
  for (Index g = 0; g < gates; ++g)
    for (Parameter* p : {&w.weight_ih, &w.weight_hh, &w.bias_ih, &w.bias_hh})
      if (p->defined()) {
        const Index each = p->size() / p->shape()[0];
        Mask mask = p->mask().defined() ? p->mask() : Mask(p->size());
        for (Index i = 0; i < each; ++i) mask.set((g * hidden + unit) * each + i, false);
        p->set_mask(mask);
      }
}
/// Column u of the recurrent weight: nobody within reads it.
void unread(nn::RecurrentWeights& w, Index unit) { mask_out(w.weight_hh, {}, {unit}); }

template <class Layer>
class Sequence final : public nn::Module {
 public:
  Sequence(Rng& rng, nn::RecurrentOptions options)
      : layer(rng, 3, 6, options), head(rng, options.bidirectional ? 12 : 6, 2, {.dtype = f64}) {}
  Variable operator()(const Variable& x) const { return head(layer(x).output); }
  void members(nn::Visitor& v) override { v("layer", layer)("head", head); }
  Layer layer;
  nn::Linear head;
};

template <class Layer>
void hidden_units_are_cut(Index gates) {
  Rng rng(1);
  Sequence<Layer> net(rng, {.batch_first = true, .dtype = f64});
  silence(net.layer.weights(), 1);        // 0 for ever
  unread(net.layer.weights(), 4);         // read by nobody
  mask_out(net.head.weight, {}, {4, 5});  // 5 is read by the others
  CompactReport report;
  Sequence<Layer> small = compacted(net, rng.normal({2, 5, 3}, 0, 1, f64), rng.normal({3, 7, 3}, 0, 1, f64), &report);
  EXPECT_EQ(small.layer.weights().weight_ih.shape(), (Shape{gates * 4, 3}));
  EXPECT_EQ(small.layer.weights().weight_hh.shape(), (Shape{gates * 4, 4}));
  EXPECT_EQ(small.layer.weights().bias_hh.shape(), (Shape{gates * 4}));
  EXPECT_EQ(small.head.weight.shape(), (Shape{2, 4}));
  EXPECT_EQ(report.cut_constant, 1);
  EXPECT_EQ(report.cut_unread, 1);
}

TEST(CompactRecurrent, HiddenUnitsOfLstm) { hidden_units_are_cut<nn::Lstm>(4); }
TEST(CompactRecurrent, HiddenUnitsOfGru) { hidden_units_are_cut<nn::Gru>(3); }
TEST(CompactRecurrent, HiddenUnitsOfRnn) { hidden_units_are_cut<nn::Rnn>(1); }

// A unit that remembers alone what nobody asks for is dead; two that only read each other are, too.
TEST(CompactRecurrent, UnitsThatOnlyReadEachOtherAreUnread) {
  Rng rng(1);
  Sequence<nn::Lstm> net(rng, {.dtype = f64});
  Parameter& w = net.layer.weights().weight_hh;
  Mask mask(w.size());
  for (Index r = 0; r < 24; ++r)
    for (Index c : {2, 3})
      if (r % 6 != 2 && r % 6 != 3) mask.set(r * 6 + c, false);
  w.set_mask(mask);
  mask_out(net.head.weight, {}, {2, 3});
  Sequence<nn::Lstm> small = compacted(net, rng.normal({5, 2, 3}, 0, 1, f64), rng.normal({7, 3, 3}, 0, 1, f64));
  EXPECT_EQ(small.layer.weights().hidden(), 4);
}

TEST(CompactRecurrent, LayersAndDirectionsHaveSizesOfTheirOwn) {
  Rng rng(1);
  Sequence<nn::Gru> net(rng, {.num_layers = 2, .batch_first = true, .bidirectional = true, .dtype = f64});
  silence(net.layer.weights(0), 2);
  silence(net.layer.weights(0, true), 0);
  silence(net.layer.weights(0, true), 1);
  silence(net.layer.weights(1, true), 5);
  Sequence<nn::Gru> small = compacted(net, rng.normal({2, 5, 3}, 0, 1, f64), rng.normal({3, 7, 3}, 0, 1, f64));
  EXPECT_EQ(small.layer.weights(0).hidden(), 5);
  EXPECT_EQ(small.layer.weights(0, true).hidden(), 4);
  EXPECT_EQ(small.layer.weights(1).weight_ih.shape(), (Shape{18, 9}));
  EXPECT_EQ(small.layer.weights(1, true).hidden(), 5);
  EXPECT_EQ(small.head.weight.shape(), (Shape{2, 11}));
}

TEST(CompactRecurrent, AUnitWithABiasIsNoConstant) {
  Rng rng(1);
  Sequence<nn::Lstm> net(rng, {.dtype = f64});
  mask_out(net.layer.weights().weight_ih, {1, 7, 13, 19});
  mask_out(net.layer.weights().weight_hh, {1, 7, 13, 19});
  Sequence<nn::Lstm> small = compacted(net, rng.normal({5, 2, 3}, 0, 1, f64), rng.normal({7, 3, 3}, 0, 1, f64));
  EXPECT_EQ(small.layer.weights().hidden(), 6);
}

TEST(CompactRecurrent, AWholeDeadLayerRunsOnEmptyTensors) {
  Rng rng(1);
  Sequence<nn::Lstm> net(rng, {.num_layers = 2, .dtype = f64});
  for (Index u = 0; u < 6; ++u) silence(net.layer.weights(0), u);
  Sequence<nn::Lstm> small = compacted(net, rng.normal({5, 2, 3}, 0, 1, f64), rng.normal({7, 3, 3}, 0, 1, f64));
  EXPECT_EQ(small.layer.weights(0).hidden(), 0);
  EXPECT_EQ(small.layer.weights(1).weight_ih.shape(), (Shape{24, 0}));
}

TEST(CompactRecurrent, CellsSteppedByHand) {
  class Stepped final : public nn::Module {
   public:
    explicit Stepped(Rng& rng)
        : lstm(rng, 3, 6, {.dtype = f64}), gru(rng, 6, 5, {.dtype = f64}), head(rng, 5, 2, {.dtype = f64}) {}
    Variable operator()(const Variable& x) const {
      LstmCellResult state;
      Variable h;
      for (Index t = 0; t < x.dim(0); ++t) {
        state = lstm(select(x, 0, t), state);
        h = gru(state.h, h);
      }
      return head(h);
    }
    void members(nn::Visitor& v) override { v("lstm", lstm)("gru", gru)("head", head); }
    nn::LstmCell lstm;
    nn::GruCell gru;
    nn::Linear head;
  };
  Rng rng(1);
  Stepped net(rng);
  unread(net.lstm.weights, 2);
  mask_out(net.gru.weights.weight_ih, {}, {2});
  unread(net.gru.weights, 4);
  mask_out(net.head.weight, {}, {4});
  const Stepped small = compacted(net, rng.normal({3, 2, 3}, 0, 1, f64), rng.normal({3, 4, 3}, 0, 1, f64));
  EXPECT_EQ(small.lstm.weights.hidden(), 5);
  EXPECT_EQ(small.gru.weights.hidden(), 4);
  EXPECT_EQ(small.head.weight.shape(), (Shape{2, 4}));
}

TEST(CompactRecurrent, ALayerMayBeTheWholeModel) {
  Rng rng(1);
  nn::Lstm lstm(rng, 3, 6, {.num_layers = 2, .dtype = f64});
  silence(lstm.weights(0), 1);  // its states are outputs, too: it stays
  const Tensor x = rng.normal({5, 2, 3}, 0, 1, f64);
  nn::Lstm small = compact(lstm, x, fixed);
  EXPECT_EQ(small.weights(0).hidden(), 6);
  EXPECT_TRUE(allclose(small(x).output.value(), lstm(x).output.value(), 1e-12, 1e-12));
  const nn::Gru gru(rng, 3, 6, {.dtype = f64});
  EXPECT_TRUE(allclose(compact(gru, x, fixed)(x).output.value(), gru(x).output.value(), 1e-12, 1e-12));
  const nn::LstmCell cell(rng, 3, 6, {.dtype = f64});
  const Tensor one = x.select(0, 0);
  EXPECT_TRUE(allclose(compact(cell, one, fixed)(one).h.value(), cell(one).h.value(), 1e-12, 1e-12));
}

// --- attention ------------------------------------------------------------------------------------------------------

/// Rows of q, k and v of a head.
void silence_head(Parameter& weight, Index head, Index width, std::initializer_list<Index> parts = {0, 1, 2}) {
  const Index embedding = weight.shape()[0] / 3;
  for (Index part : parts)
    for (Index j = 0; j < width; ++j) mask_out(weight, {part * embedding + head * width + j});
}

TEST(CompactAttention, HeadsWithoutValuesAndHeadsNobodyReads) {
  for (bool causal : {false, true}) {
    Rng rng(1);
    class Net final : public nn::Module {
     public:
      Net(Rng& r, bool hides_future) : attention(r, 8, 4, {.dtype = f64}), causal_(hides_future) {}
      Variable operator()(const Variable& x) const { return attention(x, {.causal = causal_}); }
      void members(nn::Visitor& v) override { v("attention", attention); }
      nn::MultiheadAttention attention;

     private:
      bool causal_;
    } net(rng, causal);
    net.attention.in_proj_bias.set_value(rng.normal({24}, 0, 1, f64));  // values of a head become their bias
    silence_head(net.attention.in_proj_weight, 1, 2, {2});
    mask_out(net.attention.out_proj.weight, {}, {6, 7});
    CompactReport report;
    const Net small = compacted(net, rng.normal({2, 5, 8}, 0, 1, f64), rng.normal({3, 7, 8}, 0, 1, f64), &report);
    EXPECT_EQ(small.attention.in_proj_weight.shape(), (Shape{12, 8}));
    EXPECT_EQ(small.attention.in_proj_bias.shape(), (Shape{12}));
    EXPECT_EQ(small.attention.out_proj.weight.shape(), (Shape{8, 4}));
    EXPECT_EQ(small.attention.heads(), 2);
    EXPECT_EQ(report.cut_constant, 1);
    EXPECT_EQ(report.cut_unread, 1);
  }
}

TEST(CompactAttention, HalfAHeadStays) {
  Rng rng(1);
  nn::MultiheadAttention net(rng, 8, 4, {.dtype = f64});
  mask_out(net.out_proj.weight, {}, {1, 2});
  const nn::MultiheadAttention small =
      compacted(net, rng.normal({2, 5, 8}, 0, 1, f64), rng.normal({3, 7, 8}, 0, 1, f64));
  EXPECT_EQ(small.heads(), 4);
}

TEST(CompactAttention, OneHeadIsLeftWhereAllDie) {
  Rng rng(1);
  nn::MultiheadAttention net(rng, 8, 4, {.dtype = f64});
  net.out_proj.weight.set_mask(Mask(Tensor::zeros({8, 8}, DType::boolean)));
  CompactReport report;
  const nn::MultiheadAttention small =
      compacted(net, rng.normal({2, 5, 8}, 0, 1, f64), rng.normal({3, 7, 8}, 0, 1, f64), &report);
  EXPECT_EQ(small.heads(), 1);
  EXPECT_TRUE(testing::mentions(report, "which needs a head")) << report.table();
}

TEST(CompactAttention, OfAnotherSequence) {
  class Cross final : public nn::Module {
   public:
    explicit Cross(Rng& rng, nn::MultiheadAttentionOptions o)
        : memory(rng, 8, o.kdim.value_or(8), {.dtype = f64}), attention(rng, 8, 4, o) {}
    Variable operator()(const Variable& x) const {
      const Variable m = tanh(memory(x));
      return attention(x, m, m);
    }
    void members(nn::Visitor& v) override { v("memory", memory)("attention", attention); }
    nn::Linear memory;
    nn::MultiheadAttention attention;
  };
  Rng rng(1);
  Cross joint(rng, {.dtype = f64}), apart(rng, {.kdim = 6, .vdim = 6, .dtype = f64});
  for (Cross* net : {&joint, &apart}) mask_out(net->attention.out_proj.weight, {}, {2, 3});
  mask_out(apart.memory.weight, {1});  // folded into parts of in_proj_bias
  const Tensor x = rng.normal({2, 5, 8}, 0, 1, f64), other = rng.normal({3, 7, 8}, 0, 1, f64);
  const Cross a = compacted(joint, x, other), b = compacted(apart, x, other);
  EXPECT_EQ(a.attention.in_proj_weight.shape(), (Shape{18, 8}));
  EXPECT_EQ(a.attention.heads(), 3);
  EXPECT_EQ(b.attention.q_proj_weight.shape(), (Shape{6, 8}));
  EXPECT_EQ(b.attention.k_proj_weight.shape(), (Shape{6, 5}));
  EXPECT_EQ(b.attention.in_proj_bias.shape(), (Shape{18}));
  EXPECT_EQ(b.memory.weight.shape(), (Shape{5, 8}));
}

/// Attention made of ops. Heads have a known width, or there is a known number of them: the second cannot be cut.
class OfOps final : public nn::Module {
 public:
  OfOps(Rng& rng, bool knows_width)
      : q(rng, 6, 8, {.dtype = f64}),
        k(rng, 6, 8, {.dtype = f64}),
        v(rng, 6, 8, {.dtype = f64}),
        out(rng, 8, 3, {.dtype = f64}),
        knows_width_(knows_width) {}
  Variable operator()(const Variable& x) const {
    const Variable a = heads(q(x)), b = heads(k(x)), c = heads(v(x));
    const Variable y = matmul(softmax(matmul(a, transpose(b, -1, -2)) * 0.7, -1), c);
    return out(reshape(transpose(y, 1, 2), {x.dim(0), x.dim(1), y.dim(1) * y.dim(3)}));
  }
  void members(nn::Visitor& visitor) override { visitor("q", q)("k", k)("v", v)("out", out); }
  nn::Linear q, k, v, out;

 private:
  Variable heads(const Variable& x) const {
    const Index width = knows_width_ ? 2 : x.dim(-1) / 4;
    return transpose(reshape(x, {x.dim(0), x.dim(1), x.dim(-1) / width, width}), 1, 2);
  }
  bool knows_width_;
};

TEST(CompactAttention, MadeOfOps) {
  for (bool knows_width : {true, false}) {
    Rng rng(1);
    OfOps net(rng, knows_width);
    mask_out(net.out.weight, {}, {4, 5});
    CompactReport report;
    const OfOps small = compacted(net, rng.normal({2, 5, 6}, 0, 1, f64), rng.normal({3, 7, 6}, 0, 1, f64), &report);
    EXPECT_EQ(small.q.weight.shape(), (Shape{knows_width ? 6 : 8, 6}));
    EXPECT_EQ(small.out.weight.shape(), (Shape{3, knows_width ? 6 : 8}));
  }
}

// --- embeddings -----------------------------------------------------------------------------------------------------

TEST(CompactEmbedding, ColumnsAreUnitsAlsoWhereTheTableIsTheLastLayer) {
  class Tied final : public nn::Module {
   public:
    explicit Tied(Rng& rng) : table(rng, 11, 6, {.dtype = f64}), mix(rng, 6, 6, {.dtype = f64}) {}
    Variable operator()(const Tensor& ids) const {
      const Variable x = table(ids);
      return linear(x + mix(x), table.weight);
    }
    void members(nn::Visitor& v) override { v("table", table)("mix", mix); }
    nn::Embedding table;
    nn::Linear mix;
  };
  Rng rng(1);
  Tied net(rng);
  mask_out(net.table.weight, {}, {1, 3});
  mask_out(net.mix.weight, {1});
  Mask bias(6);
  bias.set(1, false);
  net.mix.bias.set_mask(bias);
  Tensor ids = Tensor::zeros({3, 5}, DType::i64), more = Tensor::zeros({2, 7}, DType::i64);
  for (Tensor* t : {&ids, &more})
    for (Index i = 0; i < t->size(); ++i) t->write<std::int64_t>("test")[i] = static_cast<std::int64_t>(rng.below(11));
  const Tied small = compacted(net, ids, more);
  EXPECT_EQ(small.table.weight.shape(), (Shape{11, 4}));  // 1 is 0 everywhere, 3 nobody reads
  EXPECT_EQ(small.mix.weight.shape(), (Shape{4, 4}));
}

}  // namespace
}  // namespace espalier::prune
