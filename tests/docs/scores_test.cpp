// The snippets of docs/scores.md, run.
#include <gtest/gtest.h>

#include "espalier/nn/activation.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/sequential.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/reconstruct.h"
#include "espalier/prune/scores_activation.h"
#include "espalier/prune/scores_gradient.h"
#include "espalier/prune/scores_weight.h"
#include "espalier/prune/threshold.h"
#include "tests/support/snippets.h"

namespace espalier {
namespace {

TEST(ScoresPage, ItsSnippetsPrune) {
  Rng rng(1);
  nn::Sequential model(nn::Linear(rng, 8, 32), nn::Relu(), nn::Linear(rng, 32, 3));
  const Tensor x = rng.normal({4, 16, 8});
  Tensor y = Tensor::zeros({4, 16}, DType::i64);
  for (Index b = 0; b < 4; ++b)
    for (Index i = 0; i < 16; ++i) y.select(0, b).narrow(0, i, 1).fill(static_cast<double>(rng.below(3)));

  const prune::Loss loss = [&](Index b) { return nn::cross_entropy(model(x.select(0, b)), y.select(0, b)); };
  prune::Pruner pruner(model.parameters(), {.score = prune::fisher(), .loss = loss, .batches = 4});
  pruner.to_sparsity(0.5);
  EXPECT_DOUBLE_EQ(prune::sparsity(model.parameters()), 0.5);

  const prune::Gathered g = prune::gather(model.parameters(), loss, 4, prune::wanda().needs());
  prune::prune_rows(model.parameters(), prune::wanda(), 0.75, g);      // as many in each row
  prune::prune_below(model.parameters(), prune::deviations(), 1.0);    // Han et al. 2015: keep |w| >= std
  prune::reconstruct(model.parameters(), loss, 4, {.sparsity = 0.8});  // SparseGPT: the rest makes up for what goes
  EXPECT_GE(prune::sparsity(model.parameters()), 0.79);
  EXPECT_EQ(testing::snippets_that_stand_in("tests/docs/scores_test.cpp", "docs/scores.md"), 1);
}

}  // namespace
}  // namespace espalier
