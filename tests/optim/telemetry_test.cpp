#include "espalier/optim/telemetry.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/optim/suggest_clip.h"
#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

using namespace testing;

const double infinity = std::numeric_limits<double>::infinity();

struct Two {
  Parameter a = parameter("a", {0, 0}, DType::f64), b = parameter("b", {0, 0, 0, 0});
  ParameterList list{{"a", a.ref()}, {"b", b.ref()}};
  void give(double size_a, double size_b) const {
    give_gradient(a, {size_a, 0});
    give_gradient(b, {0, size_b, 0, 0});
  }
};

TEST(Telemetry, CountsWhatAClipDid) {
  const Two two;
  Optimizer opt(two.list, chain(clip_by_global_norm(5.0), sgd({.lr = 0.1})));
  Telemetry telemetry;
  opt.attach(telemetry);
  for (double scale : {0.5, 1.0, 2.0, 4.0}) {  // norms 2.5, 5, 10, 20
    two.give(3 * scale, 4 * scale);
    opt.step();
  }
  const ClipTelemetry clip = telemetry.clip("clip_by_global_norm");
  EXPECT_EQ(clip.steps, 4);
  EXPECT_EQ(clip.clipped_steps, 2);
  EXPECT_EQ(clip.share_clipped(), 0.5);
  EXPECT_NEAR(clip.before.median, 7.5, 1e-12);
  EXPECT_NEAR(clip.before.mean, 9.375, 1e-12);
  EXPECT_NEAR(clip.before.largest, 20, 1e-12);
  EXPECT_NEAR(clip.after.largest, 5, 1e-12);
  EXPECT_NEAR(clip.smallest_coefficient, 0.25, 1e-12);
  EXPECT_NEAR(clip.mean_coefficient, (1 + 1 + 0.5 + 0.25) / 4, 1e-12);
  ASSERT_EQ(clip.parameters.size(), 2u);
  EXPECT_EQ(clip.parameters[0].name, "a");
  EXPECT_NEAR(clip.parameters[0].largest_norm, 12, 1e-12);
  EXPECT_NEAR(clip.parameters[1].mean_norm, 7.5, 1e-6);
  EXPECT_EQ(clip.parameters[1].clipped_steps, 2);
  EXPECT_NEAR(telemetry.norms("clip_by_global_norm")[3], 20, 1e-12);
  EXPECT_NE(telemetry.table().find("50.0 %"), std::string::npos) << telemetry.table();
  EXPECT_THROW(telemetry.clip("clip"), ConfigError);
}

TEST(Telemetry, SeesEntriesAndParametersOnTheirOwn) {
  const Two two;
  Optimizer opt(two.list, chain(clip_by_value(1.0), on("b", clip_per_tensor_norm(0.5)), sgd({.lr = 0.1})));
  Telemetry telemetry;
  opt.attach(telemetry);
  two.give(3, 4);
  opt.step();
  two.give(0.5, 0.25);
  opt.step();
  const ClipTelemetry by_value = telemetry.clip("clip_by_value"), by_norm = telemetry.clip("clip_per_tensor_norm");
  ASSERT_EQ(by_value.parameters.size(), 2u);
  EXPECT_EQ(by_value.parameters[0].entries, 1);
  EXPECT_EQ(by_value.parameters[0].share_entries, 0.25);   // 1 of 2 x 2
  EXPECT_EQ(by_value.parameters[1].share_entries, 0.125);  // 1 of 2 x 4
  ASSERT_EQ(by_norm.parameters.size(), 1u);
  EXPECT_EQ(by_norm.parameters[0].name, "b");
  EXPECT_NEAR(by_norm.parameters[0].smallest_coefficient, 0.5, 1e-7);
  EXPECT_EQ(by_norm.parameters[0].clipped_steps, 1);
}

TEST(Telemetry, CountsSkipsAndLeavesOutWhatWasLeftOut) {
  const Two two;
  Optimizer opt(two.list, chain(every(2, clip_by_global_norm(1.0)), sgd({.lr = 0.1})),
                {.nonfinite = Nonfinite::skip_step});
  Telemetry telemetry;
  opt.attach(telemetry);
  two.give(infinity, 1);
  EXPECT_TRUE(opt.step().skipped);
  for (int t = 0; t < 3; ++t) {
    two.give(3, 4);
    opt.step();
  }
  EXPECT_EQ(telemetry.steps(), 3);
  EXPECT_EQ(telemetry.skipped(), 1);
  EXPECT_EQ(telemetry.nonfinite(), 1);
  EXPECT_EQ(telemetry.clip("clip_by_global_norm").steps, 1);
  telemetry.reset();
  EXPECT_EQ(telemetry.steps(), 0);
  EXPECT_TRUE(telemetry.clips().empty());
}

TEST(Telemetry, KeepsTheLastOfAWindow) {
  const Two two;
  Optimizer opt(two.list, chain(clip_by_global_norm(100.0), sgd({.lr = 0.1})));
  Telemetry telemetry({.window = 3});
  opt.attach(telemetry);
  for (int t = 1; t <= 5; ++t) {
    two.give(t, 0);
    opt.step();
  }
  EXPECT_EQ(telemetry.norms("clip_by_global_norm"), (std::vector<double>{3, 4, 5}));
  EXPECT_EQ(telemetry.clip("clip_by_global_norm").before.median, 4);
  EXPECT_THROW(Telemetry({.window = 0}), ConfigError);
}

TEST(Telemetry, NobodyListeningMeansNoRecordsOfParameters) {
  const Two two;
  Optimizer opt(two.list, chain(clip_by_global_norm(1.0), sgd({.lr = 0.1})));
  two.give(3, 4);
  EXPECT_TRUE(opt.step().clips().front().parameters.empty());
}

TEST(SuggestClip, ReportsPercentilesAndLeavesTheModelAsItWas) {
  const Two two;
  two.a.ref()->set_value(tensor({0.1, -0.0}, DType::f64));
  Mask mask(4);
  mask.set(2, false);
  two.b.ref()->set_mask(mask, MaskMode::soft);
  const auto before = values_of(two.a), dense = values_of(two.b.ref()->dense());
  const ClipSuggestion s = suggest_clip(
      two.list, [&](std::int64_t t) { two.give(3.0 * static_cast<double>(t), 4.0 * static_cast<double>(t)); },
      sgd({.lr = 0.1}), {.steps = 101, .ignore = 1});
  EXPECT_EQ(values_of(two.a), before);
  EXPECT_TRUE(std::signbit(values_of(two.a)[1]));
  EXPECT_EQ(values_of(two.b.ref()->dense()), dense);
  EXPECT_FALSE(two.a.ref()->has_grad());
  EXPECT_EQ(s.norms.size(), 101u);
  EXPECT_NEAR(s.median, 5 * 50.5, 1e-9);  // of 5, 10, ... 500
  EXPECT_NEAR(s.max_norm, 5 * 90.1, 1e-9);
  EXPECT_NEAR(s.largest, 500, 1e-9);
  EXPECT_NEAR(s.parameters[0].share, 9.0 / 25, 1e-9);
  EXPECT_NEAR(s.parameters[1].share, 16.0 / 25, 1e-9);
  EXPECT_NE(s.table().find("would have clipped 10.0 %"), std::string::npos) << s.table();
}

TEST(SuggestClip, CountsStepsThatWereNotFinite) {
  const Two two;
  const auto run = [&](std::int64_t every) {
    return suggest_clip(two.list, [&, every](std::int64_t t) { two.give(t % every == 0 ? infinity : 3, 4); }, {},
                        {.steps = 20, .ignore = 0});
  };
  const ClipSuggestion s = run(4);
  EXPECT_EQ(s.nonfinite, 5);
  EXPECT_EQ(s.norms.size(), 15u);
  EXPECT_NEAR(s.max_norm, 5, 1e-12);
  EXPECT_THROW(run(1), NonFiniteError);
}

TEST(SuggestClip, GivesTheValuesBackWhateverIsThrown) {
  const Two two;
  const auto before = values_of(two.a);
  const auto failing = [&](std::int64_t t) {
    if (t == 3) throw std::runtime_error("user's own");
    two.give(3, 4);
  };
  EXPECT_THROW(suggest_clip(two.list, failing, sgd({.lr = 0.1})), std::runtime_error);
  EXPECT_EQ(values_of(two.a), before);
  EXPECT_THROW(suggest_clip(two.list, failing, {}, {.steps = 5, .ignore = 5}), ConfigError);
  EXPECT_THROW(suggest_clip(two.list, failing, chain(clip_by_value(1.0), sgd())), ConfigError);
  EXPECT_THROW(suggest_clip(two.list, failing, {}, {.percentile = 101}), ConfigError);
}

}  // namespace
}  // namespace espalier::optim
