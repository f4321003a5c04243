// compact() on layers that do their activation themselves, and on models with layers it does not cut.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/math.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/scan.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/attention.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/dropout.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/pool.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/transformer.h"
#include "espalier/prune/compact.h"
#include "tests/prune/compact_helpers.h"

namespace espalier::prune {
namespace {

using testing::compacted, testing::difference, testing::fixed, testing::mask_out, testing::thin_out;

constexpr DType both_types[] = {DType::f32, DType::f64};

// --- activations inside of linear() -------------------------------------------------------------------------------------

using Function = Variable (*)(const Variable&);
struct Fused {
  Activation inside;
  Function behind;
  double (*number)(double);
};
const Fused activations[] = {
    {Activation::relu, [](const Variable& x) { return relu(x); }, [](double v) { return std::max(v, 0.0); }},
    {Activation::tanh, [](const Variable& x) { return tanh(x); }, [](double v) { return std::tanh(v); }},
    {Activation::sigmoid, [](const Variable& x) { return sigmoid(x); },
     [](double v) { return 1 / (1 + std::exp(-v)); }},
    {Activation::gelu, [](const Variable& x) { return gelu(x); },
     [](double v) { return v * std::erfc(-v / std::sqrt(2.0)) / 2; }},
    {Activation::silu, [](const Variable& x) { return silu(x); }, [](double v) { return v / (1 + std::exp(-v)); }}};

class FusedMlp final : public nn::Module {
 public:
  FusedMlp(Rng& rng, Activation activation, DType type, bool bias = true)
      : a(rng, 5, 6, {.activation = activation, .dtype = type}),
        b(rng, 6, 4, {.bias = bias, .activation = activation, .dtype = type}),
        c(rng, 4, 3, {.dtype = type}) {}
  Variable operator()(const Variable& x) const { return c(b(a(x))); }
  void members(nn::Visitor& v) override { v("a", a)("b", b)("c", c); }
  nn::Linear a, b, c;
};

TEST(CompactFused, FoldsConstantsBehindTheActivationAndCutsDeadUnits) {
  for (const Fused& f : activations)
    for (DType type : both_types) {
      Rng rng(1);
      FusedMlp model(rng, f.inside, type);
      mask_out(model.a.weight, {1, 4});   // constant: activation(bias)
      mask_out(model.b.weight, {}, {5});  // unread
      mask_out(model.c.weight, {}, {0});  // unread
      const Tensor x = rng.normal({7, 5}, 0, 2, type);
      CompactReport report;
      const FusedMlp small = compacted(model, x, rng.normal({3, 2, 5}, 0, 2, type), &report);
      EXPECT_EQ(small.a.weight.shape(), (Shape{3, 5}));
      EXPECT_EQ(small.b.weight.shape(), (Shape{3, 3}));
      EXPECT_EQ(small.c.weight.shape(), (Shape{3, 3}));
      EXPECT_EQ(report.cut_constant, 2);
      EXPECT_EQ(report.cut_unread, 2);
      // b's bias takes up what the constants were behind a's activation, before its own.
      const std::vector<double> w = model.b.weight.value().to(DType::f64).to_vector<double>();
      const std::vector<double> constants = model.a.bias.value().to(DType::f64).to_vector<double>();
      const std::vector<double> old_bias = model.b.bias.value().to(DType::f64).to_vector<double>();
      const std::vector<double> new_bias = small.b.bias.value().to(DType::f64).to_vector<double>();
      ASSERT_EQ(new_bias.size(), 3u);
      for (std::size_t row = 0; row < 3; ++row) {  // rows 1, 2, 3 of b
        double expected = old_bias[row + 1];
        for (std::size_t unit : {1u, 4u}) expected += w[(row + 1) * 6 + unit] * f.number(constants[unit]);
        EXPECT_NEAR(new_bias[row], expected, type == DType::f64 ? 1e-14 : 1e-6);
      }
    }
}

// The same cuts and folds as where the activation stands behind the layer.
TEST(CompactFused, CutsWhatItCutsWithTheActivationBehindTheLayer) {
  for (const Fused& f : activations) {
    Rng rng(3), same(3);
    FusedMlp model(rng, f.inside, DType::f64), layers(same, Activation::none, DType::f64);
    for (FusedMlp* m : {&model, &layers}) {
      mask_out(m->a.weight, {0, 2});
      mask_out(m->b.weight, {1}, {3});
      mask_out(m->c.weight, {}, {2});
    }
    const nn::Sequential plain(layers.a, f.behind, layers.b, f.behind, layers.c);
    const Tensor x = rng.normal({7, 5}, 0, 2, DType::f64), other = rng.normal({3, 5}, 0, 2, DType::f64);
    CompactReport fused_report, plain_report;
    const FusedMlp small = compacted(model, x, other, &fused_report);
    nn::Sequential small_plain = compacted(plain, x, other, &plain_report);
    EXPECT_EQ(fused_report.cut_constant, plain_report.cut_constant);
    EXPECT_EQ(fused_report.cut_unread, plain_report.cut_unread);
    EXPECT_TRUE(allclose(small.b.weight.value(), small_plain.get<nn::Linear>(2).weight.value(), 0, 0));
    EXPECT_TRUE(allclose(small.b.bias.value(), small_plain.get<nn::Linear>(2).bias.value(), 1e-14, 1e-14));
  }
}

// relu of a negative bias is 0: nothing to fold. That of a positive one needs a bias to go to.
TEST(CompactFused, KeepsConstantsThatHaveNowhereToGo) {
  Rng rng(1);
  FusedMlp model(rng, Activation::relu, DType::f64, false);
  mask_out(model.a.weight, {1, 4});
  Tensor bias = model.a.bias.value().clone();
  bias.write<double>("test")[1] = -0.5;
  bias.write<double>("test")[4] = 0.5;
  model.a.bias.set_value(bias);
  const Tensor x = rng.normal({7, 5}, 0, 1, DType::f64);
  CompactReport report;
  const FusedMlp small = compacted(model, x, rng.normal({3, 5}, 0, 1, DType::f64), &report);
  EXPECT_EQ(report.cut_constant, 1);
  EXPECT_EQ(small.a.weight.shape(), (Shape{5, 5}));
}

TEST(CompactFused, AWholeDeadLayerLeavesItsActivatedBias) {
  for (const Fused& f : activations)
    for (DType type : both_types) {
      Rng rng(1);
      FusedMlp model(rng, f.inside, type);
      mask_out(model.b.weight, {0, 1, 2, 3});
      const Tensor x = rng.normal({7, 5}, 0, 1, type);
      const FusedMlp small = compacted(model, x, rng.normal({3, 5}, 0, 1, type));
      EXPECT_EQ(small.a.weight.shape(), (Shape{0, 5}));
      EXPECT_EQ(small.b.weight.shape(), (Shape{0, 0}));
      EXPECT_EQ(small.c.weight.shape(), (Shape{3, 0}));
    }
}

TEST(CompactFused, PackedLayersDoTheirActivationToo) {
  for (const Fused& f : activations)
    for (DType type : both_types) {
      Rng rng(1);
      nn::Sequential model(nn::Linear(rng, 300, 256, {.activation = f.inside, .dtype = type}),
                           nn::Linear(rng, 256, 200, {.activation = f.inside, .dtype = type}),
                           nn::Linear(rng, 200, 10, {.dtype = type}));
      for (std::size_t k : {0u, 1u}) thin_out(model.get<nn::Linear>(k).weight, 41);
      mask_out(model.get<nn::Linear>(0).weight, {3, 5, 250});
      for (Index batch : {1, 8, 64}) {
        nn::Sequential small = compacted(model, rng.normal({batch, 300}, 0, 1, type), rng.normal({3, 300}, 0, 1, type));
        EXPECT_TRUE(small.get<nn::Linear>(0).weight.value().packed());
        EXPECT_LT(small.get<nn::Linear>(0).weight.shape()[0], 254);
      }
    }
}

// Every function of one number carries units: none of them may keep dead ones.
TEST(CompactFused, EveryElementwiseFunctionCarriesUnits) {
  const std::pair<const char*, Function> functions[] = {
      {"affine", [](const Variable& x) { return 2.0 * x + 0.5; }},
      {"neg", neg},
      {"abs", abs},
      {"sign", sign},
      {"clamp", [](const Variable& x) { return clamp(x, -0.5, 0.5); }},
      {"square", square},
      {"sqrt", [](const Variable& x) { return sqrt(abs(x)); }},
      {"rsqrt", [](const Variable& x) { return rsqrt(1.0 + square(x)); }},
      {"reciprocal", [](const Variable& x) { return reciprocal(1.0 + square(x)); }},
      {"pow", [](const Variable& x) { return pow(x, 3); }},
      {"exp", exp},
      {"expm1", expm1},
      {"log", [](const Variable& x) { return log(1.0 + square(x)); }},
      {"log1p", [](const Variable& x) { return log1p(square(x)); }},
      {"log2", [](const Variable& x) { return log2(1.0 + square(x)); }},
      {"log10", [](const Variable& x) { return log10(1.0 + square(x)); }},
      {"erf", erf},
      {"erfc", erfc},
      {"sin", sin},
      {"cos", cos},
      {"tan", [](const Variable& x) { return tan(0.1 * x); }},
      {"asin", [](const Variable& x) { return asin(tanh(x)); }},
      {"acos", [](const Variable& x) { return acos(tanh(x)); }},
      {"atan", atan},
      {"sinh", sinh},
      {"cosh", cosh},
      {"asinh", asinh},
      {"acosh", [](const Variable& x) { return acosh(2.0 + square(x)); }},
      {"atanh", [](const Variable& x) { return atanh(0.5 * sin(x)); }},
      {"floor", floor},
      {"ceil", ceil},
      {"round", round},
      {"trunc", trunc},
      {"tanh", tanh},
      {"sigmoid", sigmoid},
      {"logsigmoid", logsigmoid},
      {"softplus", [](const Variable& x) { return softplus(x); }},
      {"softsign", softsign},
      {"tanhshrink", tanhshrink},
      {"gelu", [](const Variable& x) { return gelu(x, GeluForm::tanh); }},
      {"silu", silu},
      {"mish", mish},
      {"relu", relu},
      {"relu6", relu6},
      {"leaky_relu", [](const Variable& x) { return leaky_relu(x); }},
      {"elu", [](const Variable& x) { return elu(x); }},
      {"celu", [](const Variable& x) { return celu(x, 0.7); }},
      {"selu", selu},
      {"hardtanh", [](const Variable& x) { return hardtanh(x); }},
      {"hardsigmoid", hardsigmoid},
      {"hardswish", hardswish},
      {"hardshrink", [](const Variable& x) { return hardshrink(x); }},
      {"softshrink", [](const Variable& x) { return softshrink(x); }},
      {"threshold", [](const Variable& x) { return threshold(x, 0.1, 20); }}};
  for (const auto& [name, f] : functions) {
    SCOPED_TRACE(name);
    Rng rng(1);
    const DType type = DType::f64;
    nn::Sequential model(nn::Linear(rng, 5, 6, {.dtype = type}), f, nn::Linear(rng, 6, 4, {.dtype = type}));
    mask_out(model.get<nn::Linear>(0).weight, {1, 4});
    mask_out(model.get<nn::Linear>(2).weight, {}, {2});
    nn::Sequential small = compacted(model, rng.normal({7, 5}, 0, 2, type), rng.normal({3, 5}, 0, 2, type));
    EXPECT_EQ(small.get<nn::Linear>(0).weight.shape(), (Shape{3, 5}));
  }
}

// --- layers that are not cut --------------------------------------------------------------------------------------------

/// Shapes and values of these parameters are as they were, packed or not.
void expect_untouched(const nn::Module& before, const nn::Module& after) {
  const ParameterList a = before.parameters(), b = after.parameters();
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t k = 0; k < a.size(); ++k) {
    const Tensor& value = b[k].parameter->value();
    EXPECT_TRUE(equal(a[k].parameter->value(), value.packed() ? value.densify() : value)) << a[k].name;
  }
}

class ConvNet final : public nn::Module {
 public:
  ConvNet(Rng& rng, DType type)
      : conv(rng, 2, 4, 3, {.padding = 1, .dtype = type}),
        bn(4, {.dtype = type}),
        up(rng, 4, 3, 2, {.stride = 2, .dtype = type}),
        pool(2),
        drop(rng, 0.5),
        fc1(rng, 3 * 6 * 6, 8, {.activation = Activation::relu, .dtype = type}),
        bn1(8, {.dtype = type}),
        fc2(rng, 8, 6, {.activation = Activation::tanh, .dtype = type}),
        fc3(rng, 6, 3, {.dtype = type}) {}
  Variable operator()(const Variable& x) const {
    const Variable image = pool(up(relu(bn(conv(x)))));
    return fc3(drop(fc2(bn1(fc1(nn::Flatten()(drop(image)))))));
  }
  void members(nn::Visitor& v) override {
    v("conv", conv)("bn", bn)("up", up)("drop", drop)("fc1", fc1)("bn1", bn1)("fc2", fc2)("fc3", fc3);
  }
  nn::Conv2d conv;
  nn::BatchNorm2d bn;
  nn::ConvTranspose2d up;
  nn::MaxPool2d pool;
  nn::Dropout drop;
  nn::Linear fc1;
  nn::BatchNorm1d bn1;
  nn::Linear fc2, fc3;
};

TEST(CompactModels, ConvolutionsNormsAndWhatFollowsThem) {
  for (DType type : both_types) {
    Rng rng(1);
    ConvNet model(rng, type);
    {
      Tape tape;  // running statistics that are not 0 and 1
      model(rng.normal({9, 2, 6, 6}, 1, 2, type));
    }
    Tensor shift = model.bn.bias.value().clone();
    shift.select(0, 1).fill(-100, "test");
    model.bn.bias.set_value(shift);
    mask_out(model.conv.weight, {1});     // a dead filter: relu makes 0 of what the norm makes of it
    mask_out(model.fc1.weight, {2, 3});   // behind a batch norm
    mask_out(model.fc2.weight, {0, 4});   // constant
    mask_out(model.fc3.weight, {}, {5});  // unread
    const Tensor x = rng.normal({5, 2, 6, 6}, 0, 1, type);
    CompactReport report;
    const ConvNet small = compacted(model, x, rng.normal({2, 2, 6, 6}, 0, 1, type), &report);
    EXPECT_EQ(small.conv.weight.shape(), (Shape{3, 2, 3, 3}));
    EXPECT_EQ(small.bn.running_var.value().shape(), (Shape{3}));
    EXPECT_EQ(small.up.weight.shape(), (Shape{3, 3, 2, 2}));
    EXPECT_EQ(small.fc1.weight.shape(), (Shape{6, 3 * 6 * 6}));
    EXPECT_EQ(small.bn1.weight.shape(), (Shape{6}));
    EXPECT_EQ(small.fc2.weight.shape(), (Shape{3, 6}));
    EXPECT_EQ(report.cut_constant + report.cut_unread, 6);
  }
}

class LstmNet final : public nn::Module {
 public:
  LstmNet(Rng& rng, DType type)
      : in(rng, 3, 5, {.activation = Activation::tanh, .dtype = type}),
        lstm(rng, 5, 4, {.num_layers = 2, .batch_first = true, .dropout = 0.5, .bidirectional = true, .dtype = type}),
        gru(rng, 8, 4, {.batch_first = true, .dtype = type}),
        fc1(rng, 4, 6, {.activation = Activation::gelu, .dtype = type}),
        fc2(rng, 6, 2, {.dtype = type}) {}
  Variable operator()(const Variable& x) const { return fc2(fc1(gru(lstm(in(x)).output).output)); }
  void members(nn::Visitor& v) override { v("in", in)("lstm", lstm)("gru", gru)("fc1", fc1)("fc2", fc2); }
  nn::Linear in;
  nn::Lstm lstm;
  nn::Gru gru;
  nn::Linear fc1, fc2;
};

TEST(CompactModels, RecurrentLayersTakeUpConstants) {
  for (DType type : both_types) {
    Rng rng(1);
    LstmNet model(rng, type);
    mask_out(model.in.weight, {0, 2});  // read by both directions of the LSTM
    thin_out(model.lstm.weights(0).weight_ih, 3);
    mask_out(model.lstm.weights(1, true).weight_hh, {}, {1});
    mask_out(model.fc1.weight, {1, 2});
    mask_out(model.fc2.weight, {}, {0});
    CompactReport report;
    const LstmNet small =
        compacted(model, rng.normal({3, 4, 3}, 0, 1, type), rng.normal({2, 7, 3}, 0, 1, type), &report);
    EXPECT_EQ(small.in.weight.shape(), (Shape{3, 3}));
    nn::Lstm lstm = small.lstm;
    EXPECT_EQ(lstm.weights(0, true).weight_ih.shape(), (Shape{16, 3}));
    EXPECT_EQ(lstm.weights(1).weight_ih.shape(), (Shape{16, 8}));
    expect_untouched(model.gru, small.gru);
    EXPECT_EQ(small.fc1.weight.shape(), (Shape{3, 4}));
    EXPECT_EQ(report.cut_constant, 4);
    EXPECT_EQ(report.cut_unread, 1);
  }
}

/// A language model: ids in, so that nothing is watched but its parameters.
class Gpt final : public nn::Module {
 public:
  Gpt(Rng& rng, DType type)
      : token(rng, 11, 8, {.dtype = type}),
        layers(rng, 2, 8, 2, {.feedforward = 12, .activation = relu, .norm_first = true, .dtype = type}, true),
        drop(rng, 0.1),
        cross(rng, 8, 2, {.dtype = type}),
        head(rng, 8, 11, {.bias = false, .dtype = type}) {}
  Variable operator()(const Tensor& ids) const {
    const Variable x = drop(token(ids));
    const Variable y = layers(x, {.causal = true});
    return head(y + cross(y, x, x, {.causal = true}));
  }
  void members(nn::Visitor& v) override {
    v("token", token)("layers", layers)("drop", drop)("cross", cross)("head", head);
  }
  nn::Embedding token;
  nn::TransformerEncoder layers;
  nn::Dropout drop;
  nn::MultiheadAttention cross;
  nn::Linear head;
};

TEST(CompactModels, AStreamThroughLayerNormsStaysAsWideAsItIs) {
  for (DType type : both_types) {
    Rng rng(1);
    Gpt model(rng, type);
    for (nn::TransformerEncoderLayer& layer : model.layers.layers) {
      thin_out(layer.self_attn.in_proj_weight, 3);
      mask_out(layer.self_attn.in_proj_weight, {0, 9, 17});
      mask_out(layer.self_attn.out_proj.weight, {1}, {2});
      mask_out(layer.linear1.weight, {1, 5});       // constant
      mask_out(layer.linear2.weight, {0}, {7, 8});  // 7, 8 unread; row 0 joins a residual: it stays
    }
    mask_out(model.token.weight, {3}, {4});
    mask_out(model.head.weight, {2}, {1});
    Tensor ids = Tensor::zeros({3, 5}, DType::i64), more = Tensor::zeros({2, 7}, DType::i64);
    for (Tensor* t : {&ids, &more})
      for (Index i = 0; i < t->size(); ++i)
        t->write<std::int64_t>("test")[i] = static_cast<std::int64_t>(rng.below(11));
    CompactReport report;
    const Gpt small = compacted(model, ids, more, &report);
    expect_untouched(model.token, small.token);
    expect_untouched(model.cross, small.cross);
    for (std::size_t k = 0; k < 2; ++k) {
      const nn::TransformerEncoderLayer &before = model.layers.layers[k], &after = small.layers.layers[k];
      expect_untouched(before.self_attn, after.self_attn);
      expect_untouched(before.norm1, after.norm1);
      EXPECT_EQ(after.linear1.weight.shape(), (Shape{8, 8}));
      EXPECT_EQ(after.linear2.weight.shape(), (Shape{8, 8}));
    }
    // However the layer is called later: it was traced as self-attention of everything at once.
    const nn::MultiheadAttention &before = model.layers.layers[0].self_attn, &after = small.layers.layers[0].self_attn;
    const Tensor x = rng.normal({2, 4, 8}, 0, 1, type), memory = rng.normal({2, 3, 8}, 0, 1, type);
    const double allowed = type == DType::f64 ? 1e-10 : 1e-5;
    EXPECT_LE(difference(before(x, memory, memory).value(), after(x, memory, memory).value()), allowed);
    nn::KvCache old_cache, new_cache;
    for (Index t = 0; t < 4; ++t)
      EXPECT_LE(difference(before(x.narrow(1, t, 1), old_cache).value(), after(x.narrow(1, t, 1), new_cache).value()),
                allowed);
    EXPECT_EQ(report.cut_constant, 4);
    EXPECT_EQ(report.cut_unread, 4);
    EXPECT_EQ(small.head.weight.shape(), (Shape{11, 8}));
  }
}

// The projections are linear layers like others: what stands before and behind is cut with them.
TEST(CompactModels, AttentionBetweenLinearLayers) {
  for (DType type : both_types) {
    Rng rng(1);
    nn::Sequential model(nn::Linear(rng, 5, 8, {.activation = Activation::silu, .dtype = type}),
                         nn::MultiheadAttention(rng, 8, 2, {.dtype = type}), nn::Linear(rng, 8, 4, {.dtype = type}));
    mask_out(model.get<nn::Linear>(0).weight, {1, 4});                        // constant
    mask_out(model.get<nn::MultiheadAttention>(1).in_proj_weight, {2}, {7});  // row: a head's; column: unread
    mask_out(model.get<nn::MultiheadAttention>(1).out_proj.weight, {0, 3});   // constant
    CompactReport report;
    nn::Sequential small =
        compacted(model, rng.normal({3, 4, 5}, 0, 2, type), rng.normal({2, 6, 5}, 0, 2, type), &report);
    EXPECT_EQ(small.get<nn::Linear>(0).weight.shape(), (Shape{5, 5}));
    EXPECT_EQ(small.get<nn::MultiheadAttention>(1).in_proj_weight.shape(), (Shape{24, 5}));
    EXPECT_EQ(small.get<nn::MultiheadAttention>(1).heads(), 2);
    EXPECT_EQ(small.get<nn::MultiheadAttention>(1).out_proj.weight.shape(), (Shape{6, 8}));
    EXPECT_EQ(small.get<nn::Linear>(2).weight.shape(), (Shape{4, 6}));
    EXPECT_EQ(report.cut_constant, 4);
    EXPECT_EQ(report.cut_unread, 1);
  }
}

// Whatever mixes units keeps them all, on both sides.
TEST(CompactModels, LayersThatMixUnitsKeepThemAll) {
  struct {
    const char* name;
    nn::Sequential (*make)(DType type);
  } const between[] = {
      {"LayerNorm", [](DType type) { return nn::Sequential(nn::LayerNorm(6, {.dtype = type})); }},
      {"RmsNorm", [](DType type) { return nn::Sequential(nn::RmsNorm(6, {.dtype = type})); }},
      {"GroupNorm", [](DType type) { return nn::Sequential(nn::GroupNorm(3, 6, {.dtype = type})); }},
      {"softmax", [](DType) { return nn::Sequential([](const Variable& x) { return softmax(x, -1); }); }},
      {"cumsum", [](DType) { return nn::Sequential([](const Variable& x) { return cumsum(x, -1); }); }},
  };
  for (const auto& [name, make] : between)
    for (DType type : both_types) {
      SCOPED_TRACE(name);
      Rng rng(1);
      nn::Sequential model(nn::Linear(rng, 5, 6, {.activation = Activation::relu, .dtype = type}), make(type),
                           nn::Linear(rng, 6, 4, {.dtype = type}));
      mask_out(model.get<nn::Linear>(0).weight, {1, 4});
      mask_out(model.get<nn::Linear>(2).weight, {}, {2});
      nn::Sequential small = compacted(model, rng.normal({7, 5}, 0, 2, type), rng.normal({3, 5}, 0, 2, type));
      EXPECT_EQ(small.get<nn::Linear>(0).weight.shape(), (Shape{6, 5}));
    }
}

// And whatever keeps them apart carries them.
TEST(CompactModels, LayersThatKeepUnitsApartCarryThem) {
  struct {
    const char* name;
    nn::Sequential (*make)(DType type);
  } const between[] = {
      {"BatchNorm1d", [](DType type) { return nn::Sequential(nn::BatchNorm1d(6, {.dtype = type})); }},
      {"PRelu", [](DType type) { return nn::Sequential(nn::PRelu(6, {.dtype = type})); }},
      {"flip", [](DType) { return nn::Sequential([](const Variable& x) { return flip(x, {-1}); }); }},
      {"residual", [](DType) { return nn::Sequential([](const Variable& x) { return x + tanh(x); }); }},
      {"gate", [](DType) { return nn::Sequential([](const Variable& x) { return x * sigmoid(x); }); }},
      {"division", [](DType) { return nn::Sequential([](const Variable& x) { return x / (1.0 + square(x)); }); }},
      {"extremes",
       [](DType) { return nn::Sequential([](const Variable& x) { return maximum(x, minimum(tanh(x), -x)); }); }},
      {"heads of width 1",
       [](DType) {
         return nn::Sequential([](const Variable& x) {
           const Variable heads = reshape(x, {x.dim(0), 1, -1, 1});
           return reshape(transpose(softmax(heads, 1), 1, 2), {x.dim(0), -1}) + x;
         });
       }},
  };
  for (const auto& [name, make] : between)
    for (DType type : both_types) {
      SCOPED_TRACE(name);
      Rng rng(1);
      nn::Sequential model(nn::Linear(rng, 5, 6, {.activation = Activation::relu, .dtype = type}), make(type),
                           nn::Linear(rng, 6, 4, {.dtype = type}));
      mask_out(model.get<nn::Linear>(0).weight, {1, 4});
      const bool turned = std::string(name) == "flip";
      mask_out(model.get<nn::Linear>(2).weight, {}, {turned ? 3 : 2});
      nn::Sequential small = compacted(model, rng.normal({7, 5}, 0, 2, type), rng.normal({3, 5}, 0, 2, type));
      // softmax along an axis of data has a constant only where it knows the length
      EXPECT_EQ(small.get<nn::Linear>(0).weight.shape(), (Shape{std::string(name) == "heads of width 1" ? 5 : 3, 5}));
    }
}

}  // namespace
}  // namespace espalier::prune
