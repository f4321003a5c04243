#include "espalier/train/fit.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "espalier/data/synthetic.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/sgd.h"

namespace espalier::train {
namespace {

const auto squared_error = [](const nn::Linear& model, const Tensor& x, const Tensor& y) {
  return nn::mse_loss(model(x), y);
};

TEST(Fit, RunsEveryBatchOfEveryEpochAndReports) {
  Rng rng(1);
  data::Loader loader(data::linear_data(rng, 25, {2.0, -1.0}), 10, rng.split());  // batches of 10, 10 and 5
  nn::Linear model(rng, 2, 1);
  optim::Optimizer optimizer(model.parameters(),
                             optim::chain(optim::clip_by_global_norm(1.0), optim::sgd({.lr = 0.1})));
  std::vector<Index> steps, epochs;
  double sum = 0;
  std::vector<double> means;
  fit(model, optimizer, loader, squared_error,
      {.epochs = 2,
       .on_step =
           [&](const StepInfo& info) {
             steps.push_back(info.step);
             sum += info.loss;
             EXPECT_EQ(info.steps, 6);
             EXPECT_EQ(info.report.clips().size(), 1u);
           },
       .on_epoch =
           [&](const EpochInfo& info) {
             epochs.push_back(info.epoch);
             means.push_back(info.mean_loss);
           }});
  EXPECT_EQ(steps, (std::vector<Index>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(epochs, (std::vector<Index>{0, 1}));
  EXPECT_NEAR(means[0] + means[1], sum / 3, 1e-9);
  EXPECT_EQ(optimizer.steps(), 6);
}

TEST(Fit, StopsAtALossThatIsNotFiniteBeforeTheWeightsAreTouched) {
  Rng rng(1);
  data::Dataset samples = data::linear_data(rng, 10, {1.0});
  samples.y.fill(std::numeric_limits<double>::infinity());
  data::Loader loader(samples, 5, rng.split());
  nn::Linear model(rng, 1, 1);
  const Tensor before = model.weight.value().clone();
  optim::Optimizer optimizer(model.parameters(), optim::chain(optim::sgd({.lr = 0.1})));
  EXPECT_THROW(fit(model, optimizer, loader, squared_error, {}), NonFiniteError);
  EXPECT_TRUE(equal(model.weight.value(), before));
  EXPECT_EQ(optimizer.steps(), 0);
}

}  // namespace
}  // namespace espalier::train
