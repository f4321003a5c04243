// The snippets of docs/guide.md, run, and what the page says beside them. The last test holds the page to this file:
// change a snippet here and there alike.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "espalier/autograd/anomaly.h"
#include "espalier/autograd/checkpoint.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/core/reduce.h"
#include "espalier/data/csv.h"
#include "espalier/data/loader.h"
#include "espalier/data/synthetic.h"
#include "espalier/io/checkpoint.h"
#include "espalier/io/model_file.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/state_dict.h"
#include "espalier/nn/summary.h"
#include "espalier/nn/transformer.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/average.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/constraint.h"
#include "espalier/optim/muon.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/schedule.h"
#include "espalier/optim/sgd.h"
#include "espalier/optim/suggest_clip.h"
#include "espalier/optim/telemetry.h"
#include "espalier/prune/compact.h"
#include "espalier/prune/groups.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/shrink.h"
#include "espalier/prune/units.h"
#include "espalier/train/metrics.h"
#include "tests/support.h"
#include "tests/support/snippets.h"
#include "tests/support/temp_folder.h"

namespace espalier {
namespace {

using namespace optim;
using testing::same_bytes;
using testing::TempFolder;
using testing::throws;

class Mlp final : public nn::Module {
 public:
  Mlp(Rng& rng, const std::vector<Index>& sizes) {
    for (std::size_t i = 1; i < sizes.size(); ++i) layers.emplace_back(rng, sizes[i - 1], sizes[i]);
  }
  Variable operator()(Variable x) const {
    for (std::size_t i = 0; i + 1 < layers.size(); ++i) x = relu(layers[i](x));
    return layers.back()(x);
  }
  void members(nn::Visitor& v) override { v("layers", layers); }

  std::vector<nn::Linear> layers;
};

/// g <- g / ||g||_2, the norm being that of all gradients together: every step has one length.
class Normalize final : public TransformOf<Normalize> {
 public:
  std::string name() const override { return "normalize"; }
  Span measures() const override { return Span::everything; }  // ends a sweep
  bool keeps_zeros() const override { return true; }           // else the mask is applied again behind it
  void measured(const Measured& m, const StepContext&) override { factor_ = m.total > 0 ? 1 / std::sqrt(m.total) : 1; }

  template <class T>
  Figure measure(Block<T>& b) const {
    return b.sum_squares();
  }
  template <class T>
  void apply(Block<T>& b) const {
    b.multiply(factor_);
  }

 private:
  Figure factor_ = 1;
};

class SoftClip final : public TransformOf<SoftClip> {
 public:
  std::string name() const override { return "soft_clip"; }
  bool keeps_zeros() const override { return true; }
  template <class T>
  void apply(Block<T>& b) const {
    b.map([](T g) { return g / (1 + std::abs(g)); });  // no branch: one vector loop
  }
};

/// Which character comes next, at every place of a text.
class CharacterModel final : public nn::Module {
 public:
  CharacterModel(Rng& rng, Index longest)
      : character(rng, 128, 32),
        place(rng, longest, 32),
        blocks(rng, 2, 32, 4, {.feedforward = 64, .activation = gelu, .norm_first = true}, true),
        head(rng, 32, 128) {}
  /// [N, T] -> [N, T, 128], all at once.
  Variable operator()(const Tensor& text) const { return head(blocks(embedded(text, 0), {.causal = true})); }
  /// The same for what comes behind that which the caches have seen, and which joins it there.
  Variable operator()(const Tensor& text, std::vector<nn::KvCache>& caches) const {
    return head(blocks(embedded(text, caches[0].length()), caches));
  }
  void members(nn::Visitor& v) override { v("character", character)("place", place)("blocks", blocks)("head", head); }

  nn::Embedding character, place;
  nn::TransformerEncoder blocks;
  nn::Linear head;

 private:
  Variable embedded(const Tensor& text, Index from) const {
    const double begin = static_cast<double>(from), end = static_cast<double>(from + text.dim(1));
    return character(text) + place(Tensor::arange(begin, end, 1, DType::i64));
  }
};

/// i64 [1, T]
Tensor codes_of(const std::string& text) {
  return Tensor::from(std::vector<std::int64_t>(text.begin(), text.end()), {1, static_cast<Index>(text.size())});
}

/// `prompt`, and `more` characters behind it, each the likeliest.
std::string continued(const CharacterModel& model, const std::string& prompt, int more) {
  std::vector<nn::KvCache> caches = model.blocks.start();
  std::string text = prompt;
  Tensor next = codes_of(prompt);  // i64 [1, T]: first the whole prompt
  for (int k = 0; k < more; ++k) {
    const Tensor logits = model(next, caches).value().select(1, -1);  // [1, 128], of the last place
    next = argmax(logits, 1, true);                                   // [1, 1]: then one character at a time
    text += static_cast<char>(next.item());
  }
  return text;
}

struct Session {
  Rng rng{7};
  Mlp model{rng, {2, 16, 2}};
  data::Loader loader{data::two_moons(rng, 100), 10, rng.split()};
  Optimizer opt{model.parameters(), chain(clip_by_global_norm(1.0), adam({.lr = 1e-2}))};
  prune::Pruner pruner{model.parameters(), {.schedule = prune::one_shot({.sparsity = 0.5, .at = 5})}};

  Session() { opt.attach(pruner); }
  void epoch() {
    for (auto& [x, y] : loader) {
      Tape tape;
      tape.backward(nn::cross_entropy(model(x), y));
      opt.step();
    }
  }
  void save(const std::string& path) const { io::save_checkpoint(path, model, opt, pruner, rng, loader); }
  void resume(const std::string& path) { io::load_checkpoint(path, model, opt, pruner, rng, loader); }
};

void give_gradients(const Mlp& model) {
  Rng rng(3);
  const Tensor x = rng.normal({8, 2});
  Tape tape;
  tape.backward(sum(square(model(x))));
}

TEST(Guide, Tensors) {
  Tensor a = Tensor::zeros({3, 4});
  Tensor column = a.select(1, 0);             // a view: the same storage, no copy
  column.fill(1);                             // so a[:, 0] is 1 now
  float* values = a.write<float>("by hand");  // writing has a name, which error texts repeat
  values[1] = 5;
  const float* read = a.data<float>();
  const Tensor kept = a.clone();  // values of its own
  EXPECT_EQ(a.at({2, 0}), 1);
  EXPECT_EQ(read[1], 5.0f);
  EXPECT_TRUE(column.shares_storage(a));
  EXPECT_FALSE(kept.shares_storage(a));
  EXPECT_TRUE(equal(kept, a));
  EXPECT_TRUE(throws<DTypeError>([&] { a.data<double>(); }, "holds f32"));
}

TEST(Guide, Errors) {
  std::string text;
  try {
    const Label label("encoder.2");
    matmul(Tensor::zeros({32, 10}), Tensor::zeros({12, 4}));
  } catch (const ShapeError& error) {
    text = error.what();  // [matmul] inner dimensions differ: a [32, 10] x b [12, 4]; ... (in encoder.2)
  }
  EXPECT_TRUE(testing::contains(text, "[matmul] inner dimensions differ: a [32, 10] x b [12, 4]")) << text;
  EXPECT_TRUE(testing::contains(text, "encoder.2")) << text;
}

TEST(Guide, Tape) {
  Rng rng(1);
  const nn::Linear model(rng, 3, 1);
  const Tensor x = rng.normal({5, 3}), y = rng.normal({5, 1});
  const Variable output = model(x);  // no tape is alive: nothing is recorded
  {
    Tape tape;
    const Variable loss = nn::mse_loss(model(x), y);
    tape.backward(loss);  // adds to model.weight.grad() and model.bias.grad(); the tape is spent
  }
  EXPECT_FALSE(output.recorded());
  EXPECT_EQ(model.weight.grad().shape(), (Shape{1, 3}));
  EXPECT_TRUE(model.bias.grad().defined());
  Tape tape;
  const Variable loss = nn::mse_loss(model(x), y);
  tape.backward(loss);
  EXPECT_FALSE(Tape::alive());
  EXPECT_TRUE(throws<GradError>([&] { tape.backward(loss); }, "[backward]"));
}

TEST(Guide, GradientsOfGradients) {
  const Parameter theta(Tensor::from({1.0, 2.0, 3.0}), "theta");
  const Tensor v = Tensor::from({1.0, 0.0, -1.0});
  Tape tape;
  const Variable loss = sum(pow(theta, 3));
  const Variable slope = tape.gradient(loss, {theta}, {.create_graph = true})[0];  // 3 theta^2
  const Variable product = tape.gradient(sum(slope * v), {theta})[0];              // H v; H = diag(6 theta)
  EXPECT_TRUE(allclose(slope.value(), Tensor::from({3.0, 12.0, 27.0}), 1e-12));
  EXPECT_TRUE(allclose(product.value(), Tensor::from({6.0, 0.0, -18.0}), 1e-12));
  EXPECT_FALSE(theta.grad().defined());
}

TEST(Guide, Hooks) {
  const Parameter w(Tensor::from({1.5}), "w"), start(Tensor::from({1.0}), "start");
  Tape tape;
  Variable h = start;
  for (int t = 0; t < 20; ++t) {
    h = h * w;
    tape.hook(h, [](const Variable& g) { return clamp(g, -1, 1); });  // dL/dh_t, before it flows on
  }
  Hook hook = w.after_accumulate([](ParameterState& p) { std::printf("dL/dw %g\n", p.grad().item()); });
  tape.backward(h);
  hook.remove();
  EXPECT_EQ(start.grad().item(), 1.5) << "1.5^20 without the clips";
}

TEST(Guide, Checkpoint) {
  Rng rng(1);
  const Tensor x = rng.normal({16, 8});
  const Mlp block(rng, {8, 64, 64, 8});
  Tape tape;
  Variable h = x;
  for (int depth = 0; depth < 4; ++depth) h = checkpoint(block, h);
  const Variable noisy = checkpoint(
      rng, [&](Rng& r, const Variable& v) { return block(v) + r.normal(v.shape()); }, h);  // the same noise both times
  tape.backward(mean(square(noisy)));
  EXPECT_TRUE(block.layers[0].weight.grad().defined());
}

TEST(Guide, AnomalyMode) {
  const Parameter w(Tensor::from({4.0, 0.0}), "w");
  std::string text;
  try {
    Tape tape;
    const Anomaly anomaly(tape);
    const Variable loss = sum(sqrt(Variable(w)));
    tape.backward(loss);
  } catch (const NonFiniteError& error) {
    text = error.what();
    std::printf("%s\n", error.what());
  }
  const std::string page = testing::content_of(ESPALIER_SOURCE_DIR "/docs/guide.md");
  EXPECT_NE(page.find("// " + text.substr(0, 80)), page.npos) << text;
}

TEST(Guide, FreezeAndConvert) {
  Rng rng(2);
  Mlp model(rng, {2, 3, 1});
  model.layers[0].freeze();  // constant on every tape; optimizers leave it alone
  give_gradients(model);
  EXPECT_FALSE(model.layers[0].weight.grad().defined());
  EXPECT_TRUE(model.layers[1].weight.grad().defined());
  model.unfreeze();
  model.to(DType::f64);
  EXPECT_EQ(model.layers[0].weight.dtype(), DType::f64);
}

TEST(Guide, Summary) {
  Rng rng(2);
  const Mlp model(rng, {784, 300, 100, 10});
  const Tensor sample = Tensor::zeros({16, 784});
  std::cout << nn::summary(model, sample);
  const std::string page = testing::content_of(ESPALIER_SOURCE_DIR "/docs/guide.md");
  EXPECT_NE(page.find(nn::summary(model, sample).to_string()), page.npos) << nn::summary(model, sample);
}

TEST(Guide, GeneratesText) {
  const std::string rhyme = "rain, rain, go to spain, never show your face again";
  Rng rng(1);
  const CharacterModel model(rng, 64);
  Optimizer opt(model.parameters(), chain(clip_by_global_norm(1.0), adam({.lr = 3e-3})));
  const Tensor text = codes_of(rhyme), before = text.slice(1, 0, -1), behind = text.slice(1, 1, text.dim(1));
  double loss_now = 10;
  for (int step = 0; step < 300 && loss_now > 0.02; ++step) {
    Tape tape;
    const Variable loss = nn::cross_entropy(reshape(model(before), {-1, 128}), behind.reshape({-1}));
    loss_now = loss.item();
    tape.backward(loss);
    opt.step();
  }
  const int more = static_cast<int>(rhyme.size()) - 8;
  EXPECT_EQ(continued(model, rhyme.substr(0, 8), more), rhyme);
  std::vector<nn::KvCache> caches = model.blocks.start();
  const Tensor all = model(text).value();
  EXPECT_TRUE(allclose(model(text.narrow(1, 0, 8), caches).value(), all.narrow(1, 0, 8), 1e-4, 1e-4));
  EXPECT_TRUE(allclose(model(text.narrow(1, 8, 1), caches).value(), all.narrow(1, 8, 1), 1e-4, 1e-4));
}

TEST(Guide, StateDicts) {
  const TempFolder folder;
  const std::string path = folder / "weights.safetensors";
  Rng rng(2);
  const Mlp model(rng, {2, 3, 1});
  io::write_state(path, nn::state_dict(model));  // safetensors.torch.load_file(path) in Python
  Mlp other(rng, {2, 3, 1});
  nn::load_state_dict(other, io::read_state(path));  // or what safetensors.torch.save_file wrote
  EXPECT_TRUE(same_bytes(other.layers[1].weight.value(), model.layers[1].weight.value()));
}

TEST(Guide, ModulesAreValues) {
  Rng rng(2);
  Mlp model(rng, {2, 3, 1});
  Optimizer opt(model.parameters(), sgd({.lr = 0.1}));
  Mlp best = model;  // copying: new parameters, with the same values and masks
  give_gradients(model);
  opt.step();
  model = best;  // assigning: into the parameters that `opt` holds
  std::vector<Mlp> kept;
  kept.push_back(std::move(best));  // moving: the identity goes along
  EXPECT_EQ(model.parameters()[0].name, "layers.0.weight");
  EXPECT_EQ(model.parameters()[0].parameter, opt.parameters()[0].parameter);
  EXPECT_TRUE(same_bytes(model.layers[0].weight.value(), kept[0].layers[0].weight.value()));
  EXPECT_FALSE(model.layers[0].weight.value().shares_storage(kept[0].layers[0].weight.value()));
}

TEST(Guide, CopiesThatNobodyMeant) {
  Rng rng(2);
  Mlp model(rng, {2, 3, 1});
  Optimizer opt(model.parameters(), sgd({.lr = 0.1}));
  for (auto layer : model.layers) layer.weight.set_value(Tensor::zeros(layer.weight.shape()));   // copies: no effect
  for (auto& layer : model.layers) layer.weight.set_value(Tensor::zeros(layer.weight.shape()));  // the layers

  auto by_value = [model](const Tensor& x) { return sum(model(x)); };       // trains a copy
  auto by_reference = [&model](const Tensor& x) { return sum(model(x)); };  // trains the model
  EXPECT_EQ(model.layers[0].weight.value().at({0, 0}), 0);
  const Tensor x = Tensor::ones({4, 2});
  {
    Tape tape;
    tape.backward(by_value(x));
  }
  EXPECT_TRUE(throws<GradError>([&] { opt.step(); }, "[step] none of the 4"));
  Tape tape;
  tape.backward(by_reference(x));
  EXPECT_EQ(opt.step().with_gradient, 4);
}

TEST(Guide, TrainingStep) {
  Rng rng(1);
  const data::Dataset moons = data::two_moons(rng, 200);
  data::Loader loader(moons, 20, rng.split());
  Mlp model(rng, {2, 32, 2});
  Optimizer opt(model.parameters(), chain(clip_by_global_norm(1.0), adam({.lr = 1e-2})));
  const prune::Schedule schedule = prune::cubic({.final_sparsity = 0.75, .begin = 20, .end = 200, .every = 20});
  prune::Pruner pruner(model.parameters(), {.score = prune::magnitude(), .schedule = schedule});
  opt.attach(pruner);

  for (int epoch = 0; epoch < 30; ++epoch)
    for (auto& [x, y] : loader) {
      Tape tape;
      const Variable loss = nn::cross_entropy(model(x), y);
      tape.backward(loss);
      opt.step();
    }
  const Mlp deployed = prune::compact(model, moons.x);
  EXPECT_EQ(opt.steps(), 300);
  EXPECT_EQ(pruner.sparsity(), 0.75);
  EXPECT_GT(train::accuracy(model(moons.x).value(), moons.y), 0.75);
  EXPECT_TRUE(allclose(deployed(moons.x).value(), model(moons.x).value(), 1e-3, 1e-4));
}

TEST(Guide, Clipping) {
  Rng rng(4);
  const Mlp model(rng, {2, 8, 1});
  auto falling = [](std::int64_t step) { return step < 100 ? 1.0 : 0.5; };
  auto clips = chain(clip_by_value(0.5), on("*.weight", clip_per_tensor_norm(2.0)), clip_by_global_norm(falling));
  Optimizer opt(model.parameters(), chain(clips, adamw({.lr = 1e-3})), {.nonfinite = Nonfinite::skip_step});
  give_gradients(model);
  const StepReport report = opt.step();
  for (const ClipRecord& clip : report.clips())
    std::printf("%-20s %s, factor %g\n", clip.name.c_str(), clip.clipped ? "clipped" : "left alone", clip.coefficient);
  const double norm = report["clip_by_global_norm"].norm_before;
  EXPECT_EQ(report.clips().size(), 3u);
  EXPECT_GT(norm, 0);
  EXPECT_LE(report["clip_by_global_norm"].norm_after, 1 + 1e-12);
  EXPECT_FALSE(report.skipped);
}

TEST(Guide, NonFinitePolicies) {
  Parameter theta(Tensor::from({1.0, 2.0}), "theta");
  const Tensor bad = Tensor::from({std::nan(""), 1.0});
  const auto step = [&](Nonfinite policy) {
    theta.ref()->clear_grad();
    theta.ref()->accumulate(bad.clone());
    return Optimizer(list_of(theta), chain(clip_by_global_norm(1.0), sgd({.lr = 1})), {.nonfinite = policy}).step();
  };
  EXPECT_TRUE(throws<NonFiniteError>([&] { step(Nonfinite::throw_error); }, "'theta'"));
  EXPECT_TRUE(theta.grad().defined());
  EXPECT_TRUE(step(Nonfinite::skip_step).skipped);
  EXPECT_FALSE(theta.grad().defined());
  EXPECT_EQ(theta.value().at({1}), 2.0);
  EXPECT_EQ(step(Nonfinite::zero).nonfinite, 1);
  EXPECT_EQ(theta.value().at({0}), 1.0);
  EXPECT_EQ(theta.value().at({1}), 1.0);
  step(Nonfinite::propagate);
  EXPECT_TRUE(std::isnan(theta.value().at({0})));
  EXPECT_TRUE(std::isnan(theta.value().at({1})));
}

TEST(Guide, Describe) {
  Rng rng(4);
  const Mlp model(rng, {2, 8, 1});
  auto recipe = chain(clip_by_global_norm(1.0), adam(), clamp_parameters(-2, 2));
  const Optimizer opt(model.parameters(), recipe);
  std::printf("%s", opt.describe().c_str());
  // sweep 1: finite check > mask > measure clip_by_global_norm
  // sweep 2: mask > clip_by_global_norm(max_norm 1) > adam > apply > clamp_parameters(min -2, max 2) > mask
  EXPECT_EQ(
      opt.describe(),
      "sweep 1: finite check > mask > measure clip_by_global_norm\n"
      "sweep 2: mask > clip_by_global_norm(max_norm 1) > adam > apply > clamp_parameters(min -2, max 2) > mask\n");
}

TEST(Guide, TelemetryAndSuggestion) {
  Rng rng(4);
  const Mlp model(rng, {2, 8, 1});
  const Tensor x = rng.normal({16, 2}), y = rng.normal({16, 1});
  const auto backward = [&](std::int64_t) {
    Tape tape;
    tape.backward(nn::mse_loss(model(x), y));
  };
  const ClipSuggestion found =
      suggest_clip(model.parameters(), backward, sgd({.lr = 0.05}), {.steps = 60, .ignore = 10});
  Optimizer opt(model.parameters(), chain(clip_by_global_norm(found.max_norm), sgd({.lr = 0.05})));
  const Telemetry telemetry;
  opt.attach(telemetry);
  for (std::int64_t step = 0; step < 60; ++step) {
    backward(step);
    opt.step();
  }
  std::printf("%s", telemetry.table().c_str());
  const double share = telemetry.clip("clip_by_global_norm").share_clipped();
  EXPECT_GT(share, 0);
  EXPECT_LT(share, 1);
}

TEST(Guide, SchedulesAndAverages) {
  Rng rng(4);
  const Mlp model(rng, {2, 8, 1});
  const Tensor x = rng.normal({16, 2}), y = rng.normal({16, 1});
  const double before = nn::mse_loss(model(x), y).item();
  const auto rate = warmup(cosine({.lr = 0.02, .T_max = 200}), {.steps = 20});
  const Select matrices = select_rank(2);
  auto parts = chain(on(matrices, muon({.lr = rate, .match_adam = true})), on(!matrices, adamw({.lr = rate})));
  Optimizer opt(model.parameters(),
                chain(clip_by_global_norm(1.0), parts, every(5, max_norm(3.0)), ema({.decay = 0.9})),
                {.accumulate = 2});  // two backwards, two calls of step(), one step on the mean
  for (std::int64_t call = 0; call < 100; ++call) {
    Tape tape;
    tape.backward(nn::mse_loss(model(x), y));
    opt.step();
  }
  double averaged = 0;
  {
    const AverageGuard average(opt, "ema");  // the parameters hold their averages until it goes
    averaged = nn::mse_loss(model(x), y).item();
  }
  EXPECT_EQ(opt.steps(), 50);
  EXPECT_LT(averaged, before);
}

TEST(Guide, ClippingByHand) {
  Parameter theta(Tensor::from({3.0, 4.0}), "theta");
  theta.ref()->accumulate(Tensor::from({3.0, 4.0}));
  const StepReport report = apply_to_gradients(list_of(theta), clip_by_global_norm(1.0));
  const double factor = report["clip_by_global_norm"].coefficient;
  theta.set_value((theta - 0.1 * Variable(theta.grad())).value());
  EXPECT_EQ(factor, 0.2);
  EXPECT_TRUE(allclose(theta.value(), Tensor::from({2.94, 3.92}), 1e-12));
}

TEST(Guide, OwnTransforms) {
  Parameter theta(Tensor::from({0.0, 0.0}), "theta");
  theta.ref()->accumulate(Tensor::from({30.0, 40.0}));
  Optimizer(list_of(theta), chain(Normalize(), sgd({.lr = 1}))).step();
  EXPECT_TRUE(allclose(theta.value(), Tensor::from({-0.6, -0.8}), 1e-12));
  theta.ref()->accumulate(Tensor::from({3.0, -1.0}));
  Optimizer(list_of(theta), chain(SoftClip(), sgd({.lr = 1}))).step();
  EXPECT_TRUE(allclose(theta.value(), Tensor::from({-1.35, -0.3}), 1e-12));
}

TEST(Guide, Pruning) {
  Rng rng(5);
  const Mlp model(rng, {8, 8, 8});
  prune::Pruner pruner(model.parameters(), {.scope = prune::Scope::tensor});
  pruner.snapshot();
  pruner.to_sparsity(0.9);  // of 64 weights in each of the two tensors, 58 are pruned: 57.6, rounded
  std::printf("%s", prune::table(pruner.report()).c_str());
  const double reached = pruner.sparsity();
  pruner.undo();
  EXPECT_EQ(reached, 58.0 / 64);
  EXPECT_EQ(pruner.sparsity(), 0);
  EXPECT_EQ(prune::live_weights(*model.parameters()[0].parameter), 64);
}

TEST(Guide, PruningInPieces) {
  Rng rng(5);
  const Mlp model(rng, {8, 8, 8, 8});
  const Tensor sample = rng.normal({2, 8});
  const optim::Select hidden = optim::all_but_last(model.parameters());
  prune::Pruner whole(model.parameters(), {.granularity = prune::dependency_groups(model, sample), .select = hidden});
  whole.to_sparsity(0.5);  // half of the hidden units, in all that belongs to them
  const prune::PieceCount units = whole.pieces();
  prune::Pruner sparse(model.parameters(), {.scope = prune::Scope::tensor, .distribution = prune::erk()});
  sparse.to_sparsity(0.9);
  const prune::PruneEvent last = sparse.history().back();  // "to_sparsity 0.9", and how many weights were pruned
  EXPECT_EQ(units.all, 16);
  EXPECT_EQ(units.live, 8);
  EXPECT_EQ(last.what, "to_sparsity 0.9");
  EXPECT_EQ(last.after, 3 * 58);
}

TEST(Guide, SoftMasks) {
  Rng rng(5);
  const Mlp model(rng, {2, 8, 1});
  Optimizer opt(model.parameters(), sgd({.lr = 0.1}));
  const prune::Schedule again = prune::constant({.sparsity = 0.5, .every = 10});
  prune::Pruner pruner(model.parameters(), {.schedule = again, .mode = MaskMode::soft});
  opt.attach(pruner);  // every 10 steps the choice is made anew; what is pruned trains on and may come back
  give_gradients(model);
  opt.step();
  pruner.freeze();  // from here on hard: what is pruned is gone
  EXPECT_EQ(pruner.sparsity(), 0.5);
  const ParameterState& weight = *model.parameters()[0].parameter;
  EXPECT_EQ(weight.mask_mode(), MaskMode::hard);
  for (Index i = 0; i < weight.value().size(); ++i) {
    const bool pruned = weight.mask().defined() && !weight.mask()[i];
    EXPECT_TRUE(!pruned || weight.value().data<float>()[i] == 0.0f) << i;
  }
}

TEST(Guide, OwnScore) {
  Rng rng(5);
  const Mlp model(rng, {2, 8, 1});
  // |w g|: what the loss would change by, to first order. Molchanov et al. 2017, eq. 9
  auto taylor = [](const ParameterState& p, const prune::Statistics& s) {
    return abs(Variable(p.value()) * s.gradient).value();
  };
  const prune::Score score("taylor", taylor, {.gradient = true});
  give_gradients(model);
  prune::Pruner(model.parameters(), {.score = score}).to_sparsity(0.5);
  EXPECT_EQ(prune::sparsity(model.parameters()), 0.5);
}

TEST(Guide, Compact) {
  Rng rng(6);
  Mlp model(rng, {8, 32, 4});
  nn::Linear &first = model.layers[0], &second = model.layers[1];
  const Tensor sample = rng.normal({16, 8});
  prune::mask_units(first.weight, first.bias, second.weight, 12);  // the 12 least important hidden units
  prune::CompactReport report;
  const Mlp deployed = prune::compact(model, sample, {.kernels = prune::Kernels::fixed}, &report);
  std::printf("%s", report.table().c_str());
  EXPECT_EQ(deployed.layers[0].weight.shape(), (Shape{20, 8}));
  EXPECT_EQ(model.layers[0].weight.shape(), (Shape{32, 8}));
  EXPECT_EQ(report.cut_constant + report.cut_unread, 12);
  EXPECT_LE(report.difference, 1e-4);
}

TEST(Guide, Shrink) {
  Rng rng(6);
  Mlp model(rng, {8, 32, 4});
  const Tensor sample = rng.normal({16, 8});
  auto opt = optim::Optimizer(model.parameters(), chain(optim::adam({.lr = 1e-3})));
  for (const prune::UnitGroup& group : prune::unit_groups(model, sample))
    prune::mask_units(group, group.size() / 2);  // half of each layer, in all that belongs to it
  prune::shrink(model, sample, opt);             // the model and its optimizer, half as wide
  EXPECT_EQ(model.layers[0].weight.shape(), (Shape{16, 8}));
  EXPECT_EQ(model.layers[1].weight.shape(), (Shape{4, 16}));
  EXPECT_EQ(opt.state("adam", "m", 0).shape(), (Shape{16, 8}));
}

TEST(Guide, Files) {
  const TempFolder folder;
  const std::string path = folder / "model.safetensors";
  Rng rng(6);
  Mlp model(rng, {8, 32, 4});
  prune::Pruner(model.parameters()).to_sparsity(0.9);
  const Tensor sample = rng.normal({16, 8});
  const Mlp deployed = prune::compact(model, sample, {.kernels = prune::Kernels::fixed});
  io::save(path, deployed, {.metadata = {{"task", "two moons"}}});
  Mlp loaded(rng, {8, 32, 4});                           // as it was before compact()
  const io::LoadReport report = io::load(path, loaded);  // takes over values, masks, shapes and kernel choices
  const std::string task = report.metadata.at("task");
  EXPECT_EQ(task, "two moons");
  EXPECT_TRUE(same_bytes(loaded(sample).value(), deployed(sample).value()));
}

TEST(Guide, Resume) {
  const TempFolder folder;
  const std::string path = folder / "run.safetensors";
  Session unbroken, resumed;
  unbroken.epoch();
  unbroken.save(path);
  unbroken.epoch();
  resumed.resume(path);
  resumed.epoch();  // the same bytes as in the unbroken run
  ASSERT_EQ(resumed.opt.steps(), unbroken.opt.steps());
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_TRUE(same_bytes(resumed.model.parameters()[i].parameter->value(),
                           unbroken.model.parameters()[i].parameter->value()));
  EXPECT_EQ(resumed.pruner.sparsity(), 0.5);
}

TEST(Guide, Data) {
  const TempFolder folder;
  const std::string path = folder / "table.csv";
  testing::write_bytes(path, "width,height,class\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n");
  const Tensor table = data::read_csv(path, {.header = true});
  const Tensor classes = table.select(1, -1).to(DType::i64).contiguous();
  const data::TrainTest parts = data::split_every({table.slice(1, 0, -1).contiguous(), classes}, 4, 3);
  data::Loader loader(parts.train, 2, Rng(1));
  Index rows = 0;
  for (auto& [x, y] : loader) rows += x.dim(0);  // one loop is one epoch, in an order of its own
  EXPECT_EQ(rows, 3);
  EXPECT_EQ(parts.test.x.at({0, 1}), 8);
  EXPECT_EQ(parts.test.y.at({0}), 1);
  EXPECT_EQ(loader.batches(), 2);
}

TEST(Guide, Threads) {
  Rng rng(8);
  const Tensor a = rng.normal({300, 200}), b = rng.normal({200, 100});
  const testing::Threads restore(2);
  set_threads(2);  // of the process; default: as many as there are processors
  const Tensor two = matmul(a, b);
  const ThreadLimit alone(1);       // this thread's share, while it lives
  const Tensor one = matmul(a, b);  // the same bytes
  EXPECT_EQ(threads(), 1);
  EXPECT_TRUE(same_bytes(one, two));
}

TEST(Guide, EverySnippetStandsHere) {
  EXPECT_GE(testing::snippets_that_stand_in("tests/docs/guide_test.cpp", "docs/guide.md"), 20);
}

}  // namespace
}  // namespace espalier
