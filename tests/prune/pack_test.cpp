// What compact() packs: convolutions and recurrent layers, blocks and N:M, and what it says of them.
#include "espalier/prune/pack.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <limits>

#include "espalier/core/matmul.h"
#include "espalier/core/packed_linear.h"
#include "espalier/core/rng.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/recurrent.h"
#include "espalier/nn/sequential.h"
#include "espalier/prune/compact.h"
#include "espalier/prune/pruner.h"

namespace espalier::prune {
namespace {

constexpr CompactOptions fixed{.kernels = Kernels::fixed};

const PackedLinear* packed_of(const Parameter& p) { return dynamic_cast<const PackedLinear*>(p.value().packed()); }

TEST(Pack, ConvolutionsArePackedAndRunTheSame) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 3, 24, 3, {.stride = 2, .padding = 1}), nn::Conv2d(rng, 24, 40, 1), nn::Flatten(),
                     nn::Linear(rng, 40 * 25, 10));
  Pruner(net.parameters(), {.scope = Scope::tensor}).to_sparsity(0.9);
  const Tensor x = rng.normal({2, 3, 9, 10});
  for (const CompactOptions& options : {fixed, CompactOptions{}}) {
    CompactReport report;
    nn::Sequential small = compact(net, x, options, &report);
    EXPECT_TRUE(allclose(small(x).value(), net(x).value(), 1e-4, 1e-5));
    EXPECT_LE(report.difference, 1e-5);
    if (options.kernels == Kernels::fixed) {
      ASSERT_NE(packed_of(small.get<nn::Conv2d>(0).weight), nullptr);
      EXPECT_EQ(report.layers[1].kernel[0], "sparse");
    } else {
      EXPECT_NE(report.layers[1].reason.find("dense / sparse us: 1: "), std::string::npos) << report.layers[1].reason;
    }
    const Tensor one = rng.normal({1, 3, 9, 10});  // another batch class
    EXPECT_TRUE(allclose(small(one).value(), net(one).value(), 1e-4, 1e-5));
  }
}

TEST(Repack, SeesTheImagesOfConvolutions) {
  Rng rng(2);
  nn::Sequential net(nn::Conv2d(rng, 16, 32, 3, {.padding = 1}), nn::Flatten(), nn::Linear(rng, 32 * 64, 10));
  Pruner(net.parameters(), {.scope = Scope::tensor}).to_sparsity(0.95);
  const Tensor x = rng.normal({2, 16, 8, 8});
  nn::Sequential small = compact(net, x, fixed);
  ASSERT_NE(packed_of(small.get<nn::Conv2d>(0).weight), nullptr);
  CompactReport report;
  repack(small, x, {.kernels = Kernels::measured}, &report);
  ASSERT_EQ(report.layers.size(), 2u);
  EXPECT_EQ(report.layers[0].name, "0.weight");
  EXPECT_NE(report.layers[0].reason.find("dense / sparse us: 1: "), std::string::npos) << report.layers[0].reason;
  EXPECT_TRUE(allclose(small(x).value(), net(x).value(), 1e-4, 1e-5));
}

TEST(Pack, PatternsThatAPrunerMadeRunAsPatterns) {
  Rng rng(3);
  nn::Sequential net(nn::Linear(rng, 64, 96), nn::Relu(), nn::Linear(rng, 96, 40));
  Pruner(net.parameters(), {.granularity = n_m({.keep = 2, .of = 8})}).to_sparsity(0.75);
  const Tensor x = rng.normal({20, 64});
  CompactReport report;
  nn::Sequential small = compact(net, x, {.kernels = Kernels::fixed, .cut = false}, &report);
  for (const std::size_t layer : {0u, 1u}) {
    EXPECT_EQ(report.layers[layer].kernel[2], "n:m");
    EXPECT_NE(report.layers[layer].reason.find("n:m"), std::string::npos) << report.layers[layer].reason;
  }
  EXPECT_NE(packed_of(small.get<nn::Linear>(0).weight)->describe().find("2:8"), std::string::npos);
  EXPECT_TRUE(allclose(small(x).value(), net(x).value(), 1e-5, 1e-6));
}

TEST(Pack, ConvolutionsOfSequencesAndGroups) {
  Rng rng(2);
  nn::Sequential net(nn::Conv1d(rng, 8, 16, 5, {.padding = 2}), nn::Conv1d(rng, 16, 16, 3, {.groups = 4}));
  Pruner(net.parameters()).to_sparsity(0.85);
  const Tensor x = rng.normal({3, 8, 30});
  CompactReport report;
  nn::Sequential small = compact(net, x, {.kernels = Kernels::fixed, .cut = false}, &report);
  EXPECT_NE(packed_of(small.get<nn::Conv1d>(0).weight), nullptr);
  EXPECT_EQ(packed_of(small.get<nn::Conv1d>(1).weight), nullptr);
  EXPECT_EQ(report.layers[1].reason, "ops without a sparse kernel read it");
  EXPECT_TRUE(allclose(small(x).value(), net(x).value(), 1e-4, 1e-5));
}

TEST(Pack, RecurrentLayersArePacked) {
  struct Net {
    nn::Lstm lstm;
    ParameterList parameters() const { return lstm.parameters(); }
    Variable operator()(const Variable& x) const { return lstm(x).output; }
  };
  Rng rng(3);
  Net net{nn::Lstm(rng, 30, 40)};
  Pruner(net.parameters()).to_sparsity(0.92);
  for (const Index batch : {1, 5, 40}) {
    const Tensor x = rng.normal({6, batch, 30});
    const Net small = compact(net, x, {.kernels = Kernels::fixed, .cut = false});
    for (const NamedParameter& p : small.parameters())
      EXPECT_EQ(p.parameter->value().packed() != nullptr, p.parameter->value().rank() == 2) << p.name;
    EXPECT_TRUE(allclose(small(x).value(), net(x).value(), 1e-4, 1e-5));
  }
}

TEST(Pack, BlocksAndGroupsAreFoundAndNamed) {
  Rng rng(4);
  nn::Sequential net(nn::Linear(rng, 64, 96), nn::Linear(rng, 96, 64));
  Tensor blocks = net.get<nn::Linear>(0).weight.value().clone(), groups = net.get<nn::Linear>(1).weight.value().clone();
  for (Index i = 0; i < blocks.size(); ++i)
    if ((i / 64 / 4 * 7 + i % 64 * 3) % 5 > 0) blocks.write<float>("test")[i] = 0;
  for (Index i = 0; i < groups.size(); ++i)
    if (i % 4 != i / 96 % 4) groups.write<float>("test")[i] = 0;
  net.get<nn::Linear>(0).weight.set_value(blocks);
  net.get<nn::Linear>(1).weight.set_value(groups);
  const Tensor x = rng.normal({3, 64});
  CompactReport report;
  nn::Sequential small = compact(net, x, {.kernels = Kernels::fixed, .cut = false}, &report);
  EXPECT_EQ(report.layers[0].kernel[1], "blocked");
  EXPECT_EQ(report.layers[1].kernel[1], "n:m");
  EXPECT_NE(packed_of(small.get<nn::Linear>(0).weight)->describe().find("4x1 blocks"), std::string::npos);
  EXPECT_NE(packed_of(small.get<nn::Linear>(1).weight)->describe().find("1:4"), std::string::npos);
  EXPECT_EQ(packed_of(small.get<nn::Linear>(1).weight)->live(), 64 * 24);
  EXPECT_TRUE(allclose(small(x).value(), net(x).value(), 1e-4, 1e-5));
  repack(small, x, CompactOptions{}, &report);
  EXPECT_TRUE(allclose(small(x).value(), net(x).value(), 1e-4, 1e-5));
  EXPECT_NE(report.layers[0].reason.find("dense / sparse / blocked us: 1: "), std::string::npos);
}

TEST(Pack, AProductWithAPackedWeightIsTheDenseOne) {
  EXPECT_TRUE(rc::check("packed and dense products agree to rounding", [] {
    const Index out = *rc::gen::inRange<Index>(0, 70), in = *rc::gen::inRange<Index>(0, 150);
    const Index batch = *rc::gen::element<Index>(0, 1, 2, 15, 16, 17, 65);
    const double live = *rc::gen::element(0.0, 0.02, 0.2, 0.7, 1.0);
    const Index block = *rc::gen::element<Index>(1, 4, 8);
    const bool tall = *rc::gen::arbitrary<bool>();
    const DType type = *rc::gen::element(DType::f32, DType::f64);
    Rng rng(*rc::gen::arbitrary<std::uint64_t>());
    Tensor w = rng.normal({out, in}, 0, 1, DType::f64);
    const Index height = tall ? block : 1, breadth = tall ? 1 : block;
    const Tensor keep = rng.bernoulli({out / height + 1, in / breadth + 1}, live).to(DType::f64);
    for (Index r = 0; r < out; ++r)
      for (Index c = 0; c < in; ++c) w.write<double>("test")[r * in + c] *= keep.at({r / height, c / breadth});
    w = w.to(type);
    const Tensor x = rng.normal({batch, in}, 0, 1, DType::f64).to(type);
    const Tensor bias = rng.normal({out}, 0, 1, DType::f64).to(type);
    const KernelChoice structure = structure_of(w);
    for (const KernelChoice choice : {KernelChoice::sparse, structure, KernelChoice::dense}) {
      const Tensor packed =
          Tensor::packed(w.shape(), type, std::make_unique<PackedLinear>(w, KernelChoices{choice, choice, choice}));
      RC_ASSERT(equal(packed.densify(), w));
      // Sums of products of normal numbers, none beyond 6: each of in + 1 terms rounds once, and so does each sum.
      const double epsilon = type == DType::f32 ? 1.2e-7 : 2.3e-16;
      const double bound = 2 * static_cast<double>((in + 2) * (in + 2)) * 36 * epsilon;
      RC_ASSERT(allclose(linear(x, packed, &bias), linear(x, w, &bias), 0, bound));
    }
  }));
}

}  // namespace
}  // namespace espalier::prune
