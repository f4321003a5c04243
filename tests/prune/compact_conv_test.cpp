// compact() on convolutions and what stands between them.
#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/pool.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/pool.h"
#include "espalier/nn/residual.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/upsample.h"
#include "tests/prune/compact_helpers.h"

namespace espalier::prune {
namespace {

using testing::compacted, testing::mask_out, testing::mentions, testing::unsettle;

constexpr DType f64 = DType::f64;
constexpr nn::Conv2dLayerOptions plain{.dtype = f64};
constexpr nn::Conv2dLayerOptions padded{.padding = 1, .dtype = f64};

/// What reads channel c of a convolution.
void mask_channel(Parameter& weight, Index channel) {
  Mask mask = weight.mask().defined() ? weight.mask() : Mask(weight.size());
  const Index columns = weight.shape()[1], each = weight.size() / weight.shape()[0] / columns;
  for (Index i = 0; i < mask.size(); ++i)
    if (i / each % columns == channel) mask.set(i, false);
  weight.set_mask(mask);
}

TEST(CompactConv, FoldsConstantChannelsWhereThereIsNoPadding) {
  for (DType type : {DType::f32, f64}) {
    Rng rng(1);
    nn::Sequential net(nn::Conv2d(rng, 2, 5, 3, {.dtype = type}), tanh, nn::Conv2d(rng, 5, 4, 3, {.dtype = type}), relu,
                       nn::Conv2d(rng, 4, 3, {1, 2}, {.dtype = type}));
    mask_out(net.get<nn::Conv2d>(0).weight, {1, 3});  // tanh(bias)
    mask_channel(net.get<nn::Conv2d>(4).weight, 2);   // unread
    CompactReport report;
    nn::Sequential small =
        compacted(net, rng.normal({2, 2, 8, 9}, 0, 1, type), rng.normal({1, 2, 7, 6}, 0, 1, type), &report);
    EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{3, 2, 3, 3}));
    EXPECT_EQ(small.get<nn::Conv2d>(0).bias.shape(), (Shape{3}));
    EXPECT_EQ(small.get<nn::Conv2d>(2).weight.shape(), (Shape{3, 3, 3, 3}));
    EXPECT_EQ(small.get<nn::Conv2d>(4).weight.shape(), (Shape{3, 3, 1, 2}));
    EXPECT_EQ(report.cut_constant, 2);
    EXPECT_EQ(report.cut_unread, 1);
  }
}

TEST(CompactConv, AConstantThatMeetsZeroPaddingStaysAndTheReportSaysSo) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 5, 3, padded), relu, nn::Conv2d(rng, 5, 4, 3, padded));
  auto& first = net.get<nn::Conv2d>(0);
  mask_out(first.weight, {1, 3});
  first.bias.set_value(Tensor::from<double>({1, -1, 1, 2, 1}));  // relu(-1) = 0 is no matter, relu(2) is
  CompactReport report;
  nn::Sequential small =
      compacted(net, rng.normal({2, 2, 5, 5}, 0, 1, f64), rng.normal({1, 2, 4, 7}, 0, 1, f64), &report);
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{4, 2, 3, 3}));
  EXPECT_TRUE(mentions(report, "1 dead unit of '0.weight' stays: the zero padding of 'conv2d' meets its constant"))
      << report.table();
}

TEST(CompactConv, Sequences) {
  Rng rng(1);
  nn::Sequential net(nn::Conv1d(rng, 2, 5, 3, {.dtype = f64}), nn::BatchNorm1d(5, {.dtype = f64}), tanh,
                     nn::MaxPool1d(2), nn::Conv1d(rng, 5, 4, 2, {.stride = 2, .dilation = 2, .dtype = f64}));
  unsettle(net.get<nn::BatchNorm1d>(1), rng);
  mask_out(net.get<nn::Conv1d>(0).weight, {0, 4});
  nn::Sequential small = compacted(net, rng.normal({2, 2, 15}, 0, 1, f64), rng.normal({1, 2, 22}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::Conv1d>(0).weight.shape(), (Shape{3, 2, 3}));
  EXPECT_EQ(small.get<nn::BatchNorm1d>(1).running_var.value().shape(), (Shape{3}));
  EXPECT_EQ(small.get<nn::Conv1d>(4).weight.shape(), (Shape{4, 3, 2}));
}

TEST(CompactConv, ABiasOfABatchNormBehindTakesUpConstants) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 5, 1, {.bias = false, .dtype = f64}), nn::BatchNorm2d(5, {.dtype = f64}),
                     sigmoid, nn::Conv2d(rng, 5, 4, 3, {.bias = false, .dtype = f64}),
                     nn::BatchNorm2d(4, {.relu = true, .dtype = f64}), nn::Conv2d(rng, 4, 2, 1, plain));
  unsettle(net.get<nn::BatchNorm2d>(1), rng);
  unsettle(net.get<nn::BatchNorm2d>(4), rng);
  mask_out(net.get<nn::Conv2d>(0).weight, {1, 3});
  const Tensor x = rng.normal({2, 2, 5, 5}, 0, 1, f64);
  nn::Sequential small = compacted(net, x, rng.normal({1, 2, 4, 7}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{3, 2, 1, 1}));
  EXPECT_EQ(small.get<nn::BatchNorm2d>(1).running_mean.value().shape(), (Shape{3}));
  EXPECT_FALSE(
      equal(small.get<nn::BatchNorm2d>(4).running_mean.value(), net.get<nn::BatchNorm2d>(4).running_mean.value()));
}

// An activation that a layer does itself lies between it and the mean.
TEST(CompactConv, ANormBehindAFusedActivationTakesUpNothing) {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 5, 4, {.dtype = f64}), sigmoid,
                     nn::Linear(rng, 4, 3, {.bias = false, .activation = Activation::silu, .dtype = f64}),
                     nn::BatchNorm1d(3, {.dtype = f64}), nn::Linear(rng, 3, 2, {.dtype = f64}));
  mask_out(net.get<nn::Linear>(0).weight, {1});
  CompactReport report;
  nn::Sequential small = compacted(net, rng.normal({7, 5}, 0, 1, f64), rng.normal({3, 5}, 0, 1, f64), &report);
  EXPECT_EQ(small.get<nn::Linear>(0).weight.shape(), (Shape{4, 5}));
  EXPECT_TRUE(mentions(report, "'linear' has no bias of its own to take up its constant")) << report.table();
}

// Network slimming (Liu et al. 2017): a gain of 0 makes a channel constant, whatever the convolution does.
TEST(CompactConv, AGainOfZeroKillsItsChannel) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 5, 3, plain), nn::BatchNorm2d(5, {.dtype = f64}), relu,
                     nn::Conv2d(rng, 5, 4, 3, plain));
  auto& norm = net.get<nn::BatchNorm2d>(1);
  unsettle(norm, rng);
  Mask mask(5);
  mask.set(0, false);
  mask.set(2, false);
  norm.weight.set_mask(mask);
  nn::Sequential small = compacted(net, rng.normal({2, 2, 7, 7}, 0, 1, f64), rng.normal({1, 2, 6, 7}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{3, 2, 3, 3}));
  EXPECT_EQ(small.get<nn::BatchNorm2d>(1).weight.shape(), (Shape{3}));
}

TEST(CompactConv, DepthwiseChannelsGoWithTheirInputs) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 6, 1, plain), tanh, nn::Conv2d(rng, 6, 12, 3, {.groups = 6, .dtype = f64}),
                     sigmoid, nn::Conv2d(rng, 12, 3, 1, plain));
  mask_out(net.get<nn::Conv2d>(0).weight, {1});
  mask_out(net.get<nn::Conv2d>(2).weight, {4, 5, 8, 9});  // both of inputs 2 and 4: constant, and 2 and 4 unread
  nn::Sequential small = compacted(net, rng.normal({2, 2, 6, 6}, 0, 1, f64), rng.normal({1, 2, 5, 7}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{3, 2, 1, 1}));
  EXPECT_EQ(small.get<nn::Conv2d>(2).weight.shape(), (Shape{6, 1, 3, 3}));
  EXPECT_EQ(small.get<nn::Conv2d>(4).weight.shape(), (Shape{3, 6, 1, 1}));
}

TEST(CompactConv, GroupsLoseTheSameCount) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 8, 1, plain), tanh, nn::Conv2d(rng, 8, 6, 3, {.groups = 2, .dtype = f64}),
                     sigmoid, nn::Conv2d(rng, 6, 3, 1, plain));
  mask_out(net.get<nn::Conv2d>(0).weight, {1, 5, 2});  // channel 1 of both groups; channel 2 of the first alone
  mask_out(net.get<nn::Conv2d>(2).weight, {0, 3});
  nn::Sequential small = compacted(net, rng.normal({2, 2, 6, 6}, 0, 1, f64), rng.normal({1, 2, 5, 7}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{6, 2, 1, 1}));
  EXPECT_EQ(small.get<nn::Conv2d>(2).weight.shape(), (Shape{4, 3, 3, 3}));
  EXPECT_EQ(small.get<nn::Conv2d>(4).weight.shape(), (Shape{3, 4, 1, 1}));
}

TEST(CompactConv, Transposed) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 5, 3, plain), relu,
                     nn::ConvTranspose2d(rng, 5, 4, 2, {.stride = 2, .dtype = f64}), tanh,
                     nn::Conv2d(rng, 4, 2, 3, plain));
  auto& first = net.get<nn::Conv2d>(0);
  mask_out(first.weight, {1, 3});
  first.bias.set_value(Tensor::from<double>({1, -1, 1, 2, 1}));  // 0 goes; relu(2) would have to be folded tap by tap
  mask_channel(net.get<nn::Conv2d>(4).weight, 3);
  CompactReport report;
  nn::Sequential small =
      compacted(net, rng.normal({2, 2, 5, 5}, 0, 1, f64), rng.normal({1, 2, 4, 6}, 0, 1, f64), &report);
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{4, 2, 3, 3}));
  EXPECT_EQ(small.get<nn::ConvTranspose2d>(2).weight.shape(), (Shape{4, 3, 2, 2}));
  EXPECT_EQ(small.get<nn::ConvTranspose2d>(2).bias.shape(), (Shape{3}));
  EXPECT_TRUE(mentions(report, "the kernel of 'conv_transpose2d' meets its constant")) << report.table();
}

TEST(CompactConv, FlattenTurnsAChannelIntoColumns) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 5, 3, padded), tanh, nn::MaxPool2d(2), nn::Flatten(),
                     nn::Linear(rng, 5 * 3 * 2, 4, {.dtype = f64}));
  mask_out(net.get<nn::Conv2d>(0).weight, {1, 3});
  nn::Sequential small = compacted(net, rng.normal({2, 2, 6, 4}, 0, 1, f64), rng.normal({5, 2, 6, 4}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{3, 2, 3, 3}));
  EXPECT_EQ(small.get<nn::Linear>(4).weight.shape(), (Shape{4, 18}));
}

TEST(CompactConv, PoolsNormsAndFunctionsKeepChannelsApart) {
  const std::pair<const char*, nn::Sequential (*)(Rng&)> between[] = {
      {"max", [](Rng&) { return nn::Sequential(nn::MaxPool2d(2, {.padding = 1})); }},
      {"avg", [](Rng&) { return nn::Sequential(nn::AvgPool2d(2)); }},
      {"adaptive max", [](Rng&) { return nn::Sequential(nn::AdaptiveMaxPool2d(4)); }},
      {"adaptive avg",
       [](Rng&) {
         return nn::Sequential(nn::AdaptiveAvgPool2d({3, 5}));
       }},
      {"nearest", [](Rng&) { return nn::Sequential(nn::Upsample(2)); }},
      {"bilinear", [](Rng&) { return nn::Sequential(nn::Upsample(1.5, Interpolation::linear)); }},
      {"instance norm",
       [](Rng& rng) {
         nn::InstanceNorm2d norm(6, {.affine = true, .dtype = f64});
         unsettle(norm, rng);
         return nn::Sequential(std::move(norm));
       }},
      {"batch norm without statistics",
       [](Rng&) { return nn::Sequential(nn::BatchNorm2d(6, {.track_running_stats = false, .dtype = f64})); }},
      {"batch norm without weights",
       [](Rng& rng) {
         nn::BatchNorm2d norm(6, {.affine = false, .dtype = f64});
         norm.running_mean.set(rng.normal({6}, 0, 1, f64));
         return nn::Sequential(std::move(norm));
       }},
      {"prelu",
       [](Rng& rng) {
         nn::PRelu slopes(6, {.dtype = f64});
         slopes.weight.set_value(rng.normal({6}, 0, 1, f64));
         return nn::Sequential(std::move(slopes));
       }},
      {"one slope", [](Rng&) { return nn::Sequential(nn::PRelu(1, {.dtype = f64})); }},
      {"reflect",
       [](Rng&) { return nn::Sequential([](const Variable& x) {
                    return pad(x, {1, 2}, PadMode::reflect);
                  }); }},
      {"transposed twice",
       [](Rng&) {
         return nn::Sequential([](const Variable& x) { return permute(tanh(permute(x, {0, 2, 3, 1})), {0, 3, 1, 2}); });
       }},
      {"split and joined", [](Rng&) {
         return nn::Sequential([](const Variable& x) {
           const std::vector<Variable> parts = chunk(x, 2, 2);
           return relu(cat({parts[1], parts[0]}, 2));
         });
       }}};
  for (const auto& [name, make] : between) {
    SCOPED_TRACE(name);
    Rng rng(1);
    nn::Sequential net(nn::Conv2d(rng, 2, 6, 3, plain), make(rng), nn::Conv2d(rng, 6, 4, 3, plain));
    mask_out(net.get<nn::Conv2d>(0).weight, {1, 4});
    mask_channel(net.get<nn::Conv2d>(2).weight, 2);
    nn::Sequential small = compacted(net, rng.normal({2, 2, 10, 10}, 0, 1, f64), rng.normal({3, 2, 12, 9}, 0, 1, f64));
    EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{3, 2, 3, 3}));
    EXPECT_EQ(small.get<nn::Conv2d>(2).weight.shape(), (Shape{4, 3, 3, 3}));
  }
}

TEST(CompactConv, AverageWithPaddingKeepsConstantsThatAreNotZero) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 4, 3, plain), relu, nn::AvgPool2d(2, {.padding = 1}),
                     nn::Conv2d(rng, 4, 4, 3, plain));
  auto& first = net.get<nn::Conv2d>(0);
  mask_out(first.weight, {1, 3});
  first.bias.set_value(Tensor::from<double>({1, -1, 1, 2}));
  nn::Sequential small = compacted(net, rng.normal({2, 2, 9, 9}, 0, 1, f64), rng.normal({3, 2, 12, 9}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{3, 2, 3, 3}));
}

TEST(CompactConv, GroupNormLosesWholeGroups) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 2, 6, 3, plain), nn::GroupNorm(3, 6, {.dtype = f64}), relu,
                     nn::Conv2d(rng, 6, 4, 1, plain));
  unsettle(net.get<nn::GroupNorm>(1), rng);
  mask_out(net.get<nn::Conv2d>(0).weight, {0, 2, 3});  // half of the first group, all of the second
  nn::Sequential small = compacted(net, rng.normal({2, 2, 6, 6}, 0, 1, f64), rng.normal({3, 2, 5, 8}, 0, 1, f64));
  EXPECT_EQ(small.get<nn::Conv2d>(0).weight.shape(), (Shape{4, 2, 3, 3}));
  EXPECT_EQ(small.get<nn::GroupNorm>(1).weight.shape(), (Shape{4}));
  EXPECT_EQ(small.get<nn::Conv2d>(3).weight.shape(), (Shape{4, 4, 1, 1}));
}

TEST(CompactConv, GlobalMeanAndSqueezeAndExcitation) {
  class Gated final : public nn::Module {
   public:
    explicit Gated(Rng& rng)
        : conv(rng, 2, 6, 3, plain),
          squeeze(rng, 6, 4, {.activation = Activation::relu, .dtype = f64}),
          excite(rng, 4, 6, {.activation = Activation::sigmoid, .dtype = f64}),
          head(rng, 6, 3, {.dtype = f64}) {}
    Variable operator()(const Variable& x) const {
      const Variable y = relu(conv(x));
      const Variable gate = excite(squeeze(mean(y, {2, 3})));
      return head(mean(y * reshape(gate, {y.dim(0), -1, 1, 1}), {2, 3}));
    }
    void members(nn::Visitor& v) override { v("conv", conv)("squeeze", squeeze)("excite", excite)("head", head); }
    nn::Conv2d conv;
    nn::Linear squeeze, excite, head;
  };
  Rng rng(1);
  Gated net(rng);
  mask_out(net.conv.weight, {1, 4});
  Tensor bias = rng.normal({6}, 0, 1, f64);
  bias.write<double>("test")[1] = -1;  // relu: 0, so what the gate says does not matter
  bias.write<double>("test")[4] = 1;   // not so here
  net.conv.bias.set_value(bias);
  mask_out(net.head.weight, {}, {3});  // still read by squeeze
  mask_out(net.squeeze.weight, {2}, {});
  const Gated small = compacted(net, rng.normal({2, 2, 6, 6}, 0, 1, f64), rng.normal({3, 2, 5, 8}, 0, 1, f64));
  EXPECT_EQ(small.conv.weight.shape(), (Shape{5, 2, 3, 3}));
  EXPECT_EQ(small.squeeze.weight.shape(), (Shape{3, 5}));
  EXPECT_EQ(small.excite.weight.shape(), (Shape{5, 3}));
  EXPECT_EQ(small.head.weight.shape(), (Shape{3, 5}));
}

// --- branches -------------------------------------------------------------------------------------------------------

class Block final : public nn::Module {
 public:
  Block(Rng& rng, Index channels, nn::Conv2dLayerOptions options = padded)
      : conv1(rng, channels, 5, 3, options),
        bn1(5, {.dtype = f64}),
        conv2(rng, 5, channels, 3, options),
        bn2(channels, {.dtype = f64}) {
    unsettle(bn1, rng);
    unsettle(bn2, rng);
  }
  Variable operator()(const Variable& x) const { return relu(x + bn2(conv2(relu(bn1(conv1(x)))))); }
  void members(nn::Visitor& v) override { v("conv1", conv1)("bn1", bn1)("conv2", conv2)("bn2", bn2); }
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Conv2d conv2;
  nn::BatchNorm2d bn2;
};

class ResNet final : public nn::Module {
 public:
  explicit ResNet(Rng& rng) : stem(rng, 2, 6, 3, padded), a(rng, 6), b(rng, 6), head(rng, 6, 3, {.dtype = f64}) {}
  Variable operator()(const Variable& x) const { return head(mean(b(a(relu(stem(x)))), {2, 3})); }
  void members(nn::Visitor& v) override { v("stem", stem)("a", a)("b", b)("head", head); }
  nn::Conv2d stem;
  Block a, b;
  nn::Linear head;
};

TEST(CompactConv, AResidualStreamIsCutInAllThatWriteAndReadIt) {
  Rng rng(1);
  ResNet net(rng);
  for (Parameter* w : {&net.stem.weight, &net.a.conv2.weight, &net.b.conv2.weight}) mask_out(*w, {0, 3});
  for (Parameter* w : {&net.a.conv1.weight, &net.b.conv1.weight}) {
    mask_channel(*w, 0);
    mask_channel(*w, 3);
  }
  mask_out(net.head.weight, {}, {0, 3});
  mask_out(net.a.conv1.weight, {2});
  const ResNet small = compacted(net, rng.normal({2, 2, 6, 6}, 0, 1, f64), rng.normal({3, 2, 5, 8}, 0, 1, f64));
  EXPECT_EQ(small.stem.weight.shape(), (Shape{4, 2, 3, 3}));
  EXPECT_EQ(small.b.conv2.weight.shape(), (Shape{4, 5, 3, 3}));
  EXPECT_EQ(small.b.bn2.running_mean.value().shape(), (Shape{4}));
  EXPECT_EQ(small.head.weight.shape(), (Shape{3, 4}));
}

TEST(CompactConv, ABranchWhoseChannelsAllDieLeavesItsConstant) {
  Rng rng(1);
  ResNet net(rng);
  mask_out(net.a.conv2.weight, {0, 1, 2, 3, 4, 5});
  CompactReport report;
  const ResNet small =
      compacted(net, rng.normal({2, 2, 6, 6}, 0, 1, f64), rng.normal({3, 2, 5, 8}, 0, 1, f64), &report);
  EXPECT_EQ(small.a.conv1.weight.shape(), (Shape{0, 6, 3, 3}));
  EXPECT_EQ(small.a.bn1.weight.shape(), (Shape{0}));
  EXPECT_EQ(small.a.conv2.weight.shape(), (Shape{6, 0, 3, 3}));
  EXPECT_TRUE(mentions(report, "'a.conv1.weight' has died as a whole")) << report.table();
}

TEST(CompactConv, JoinedBranchesKeepTheirPlaces) {
  class Joined final : public nn::Module {
   public:
    explicit Joined(Rng& rng) : left(rng, 2, 4, 1, plain), right(rng, 2, 3, 1, plain), last(rng, 9, 3, 1, plain) {}
    Variable operator()(const Variable& x) const { return last(tanh(cat({left(x), x, right(x)}, 1))); }
    void members(nn::Visitor& v) override { v("left", left)("right", right)("last", last); }
    nn::Conv2d left, right, last;
  };
  Rng rng(1);
  Joined net(rng);
  mask_out(net.left.weight, {1});
  mask_channel(net.last.weight, 3);  // left's last
  mask_channel(net.last.weight, 5);  // the network's input: it stays
  mask_channel(net.last.weight, 7);  // right's second
  const Joined small = compacted(net, rng.normal({2, 2, 4, 4}, 0, 1, f64), rng.normal({3, 2, 5, 8}, 0, 1, f64));
  EXPECT_EQ(small.left.weight.shape(), (Shape{2, 2, 1, 1}));
  EXPECT_EQ(small.right.weight.shape(), (Shape{2, 2, 1, 1}));
  EXPECT_EQ(small.last.weight.shape(), (Shape{3, 6, 1, 1}));
}

}  // namespace
}  // namespace espalier::prune
