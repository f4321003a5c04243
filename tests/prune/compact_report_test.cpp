// What compact() says about a model: arithmetic, time and alarms.
#include <gtest/gtest.h>

#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/flatten.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/sequential.h"
#include "tests/prune/compact_helpers.h"

namespace espalier::prune {
namespace {

using testing::fixed, testing::mask_out, testing::mentions, testing::thin_out;

TEST(CompactReports, ReportsArithmeticAndTimeBeforeAndAfter) {
  Rng rng(1);
  nn::Sequential net(nn::Conv2d(rng, 1, 4, 3), nn::Flatten(), nn::Linear(rng, 4 * 6 * 6, 10), relu,
                     nn::Linear(rng, 10, 3));
  mask_out(net.get<nn::Conv2d>(0).weight, {1, 3});
  net.get<nn::Conv2d>(0).bias.set_value(Tensor::zeros({4}));
  thin_out(net.get<nn::Linear>(2).weight, 20);
  const Tensor sample = rng.normal({5, 1, 8, 8});
  for (Kernels kernels : {Kernels::fixed, Kernels::measured}) {
    CompactReport report;
    compact(net, sample, {.kernels = kernels}, &report);
    const bool measured = kernels == Kernels::measured;
    ASSERT_EQ(report.layers.size(), 3u);
    const CompactLayer &conv = report.layers[0], &wide = report.layers[1], &last = report.layers[2];
    EXPECT_EQ(conv.flops_before, 2.0 * 5 * 4 * 6 * 6 * 9);
    EXPECT_EQ(conv.flops_after, conv.flops_before / 2);
    EXPECT_EQ(wide.flops_before, 2.0 * 5 * 10 * 144);
    EXPECT_EQ(wide.flops_after, 2.0 * 5 * static_cast<double>(wide.live_after));  // whatever kernel runs it
    EXPECT_EQ(last.flops_after, last.flops_before);
    EXPECT_DOUBLE_EQ(wide.sparsity(), 1 - static_cast<double>(wide.live_after) / 1440);
    for (const CompactLayer& layer : report.layers) {
      EXPECT_EQ(layer.ms_before > 0, measured) << layer.name;
      EXPECT_EQ(layer.ms_after > 0, measured) << layer.name;
    }
    EXPECT_EQ(report.ms_before > 0 && report.ms_after > 0, measured);
    EXPECT_NE(report.table().find("whole model"), std::string::npos);
  }
}

TEST(CompactReports, ANetworkThatNoLongerLooksAtItsInputIsReported) {
  Rng rng(1);
  nn::Sequential net(nn::Linear(rng, 4, 5), relu, nn::Linear(rng, 5, 3));
  const std::string alarm = "the network is dead";
  CompactReport report;
  compact(net, rng.normal({2, 4}), fixed, &report);
  EXPECT_FALSE(mentions(report, alarm));
  mask_out(net.get<nn::Linear>(0).weight, {0, 1, 2, 3, 4});
  compact(net, rng.normal({2, 4}), fixed, &report);
  EXPECT_TRUE(mentions(report, alarm));
  EXPECT_TRUE(mentions(report, "'0.weight' has died as a whole"));
}

}  // namespace
}  // namespace espalier::prune
