// Training runs of networks made of the library's layers, whose members have the names that the cases give them.
#include <optional>

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/attention.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/pool.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/recurrent.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/select.h"
#include "espalier/optim/sgd.h"
#include "tests/golden/e2e.h"
#include "tests/golden/sched.h"

namespace espalier::golden {
namespace {

/// Sets every parameter and buffer to the case's init.<name>.
void start(const nn::Module& model, const Case& golden, DType type) {
  for (const NamedParameter& p : model.parameters()) p.parameter->set_value(golden.get("init." + p.name, type));
  for (const NamedBuffer& b : model.buffers())
    if (golden.has("init." + b.name)) b.buffer->set(golden.get("init." + b.name, type).clone());
}

/// The rows of a batch that runs through the data again and again.
struct Rows {
  Rows(const Case& golden, DType type)
      : x(golden.get("data.x", type)),
        y(golden.get("data.y", type)),
        batch(golden.args.integer("batch")),
        batches(golden.args.integer("batches")) {}
  Tensor inputs(Index step) const { return x.narrow(0, batch * (step % batches), batch); }
  Tensor labels(Index step) const { return y.narrow(0, batch * (step % batches), batch); }
  Tensor x, y;
  Index batch, batches;
};

/// `length` ids from (step * stride + row * apart) mod 300, a row each, and the ids that follow them.
struct Text {
  Text(const Case& golden, Index between_steps, Index between_rows)
      : ids(golden.get("data.ids", DType::i64)),
        batch(golden.args.integer("batch")),
        length(golden.args.integer("seq")),
        stride(between_steps),
        apart(between_rows) {}
  /// [batch, length]; `shift` 1: the targets.
  Tensor rows(Index step, Index shift) const {
    std::vector<std::int64_t> all;
    for (Index row = 0; row < batch; ++row) {
      const Index first = (stride * step + apart * row) % 300 + shift;
      for (Index k = 0; k < length; ++k) all.push_back(ids.data<std::int64_t>()[first + k]);
    }
    return Tensor::from(all, {batch, length});
  }
  Tensor ids;
  Index batch, length, stride, apart;
};

// --- LeNet -----------------------------------------------------------------------------------------------------------

class Lenet final : public nn::Module {
 public:
  Lenet(Rng& rng, DType type)
      : conv1_(rng, 1, 6, 5, {.padding = 2, .dtype = type}),
        conv2_(rng, 6, 16, 5, {.dtype = type}),
        fc1_(rng, 400, 120, {.dtype = type}),
        fc2_(rng, 120, 84, {.dtype = type}),
        fc3_(rng, 84, 10, {.dtype = type}) {}
  Variable operator()(Variable x) const {
    x = max_pool2d(relu(conv1_(x)), 2);
    x = max_pool2d(relu(conv2_(x)), 2);
    return fc3_(relu(fc2_(relu(fc1_(flatten(x, 1))))));
  }
  void members(nn::Visitor& v) override { v("conv1", conv1_)("conv2", conv2_)("fc1", fc1_)("fc2", fc2_)("fc3", fc3_); }

 private:
  nn::Conv2d conv1_, conv2_;
  nn::Linear fc1_, fc2_, fc3_;
};

void lenet_adam(const Case& golden, DType type, Checker& checker) {
  Rng rng(0);
  const Lenet model(rng, type);
  start(model, golden, type);
  const Rows data(golden, type);
  train(golden, type, checker, model.parameters(), pipeline(golden.args),
        [&](Index t) { return nn::cross_entropy(model(data.inputs(t)), data.labels(t)); });
}

// --- ResNet ----------------------------------------------------------------------------------------------------------

class Resnet final : public nn::Module {
 public:
  Resnet(Rng& rng, DType type)
      : conv0_(rng, 3, 6, 3, {.padding = 1, .bias = false, .dtype = type}),
        conv1_(rng, 6, 6, 3, {.padding = 1, .bias = false, .dtype = type}),
        conv2_(rng, 6, 6, 3, {.padding = 1, .bias = false, .dtype = type}),
        bn0_(6, {.relu = true, .dtype = type}),
        bn1_(6, {.relu = true, .dtype = type}),
        bn2_(6, {.dtype = type}),
        fc_(rng, 6, 4, {.dtype = type}) {}
  Variable operator()(const Variable& x) const {
    const Variable h = bn0_(conv0_(x));
    const Variable y = relu(bn2_(conv2_(bn1_(conv1_(h)))) + h);
    return fc_(mean(y, {2, 3}));
  }
  void members(nn::Visitor& v) override {
    v("conv0", conv0_)("conv0.bn", bn0_)("conv1", conv1_)("conv1.bn", bn1_)("conv2", conv2_)("conv2.bn", bn2_);
    v("fc", fc_);
  }

 private:
  nn::Conv2d conv0_, conv1_, conv2_;
  nn::BatchNorm2d bn0_, bn1_, bn2_;
  nn::Linear fc_;
};

void resnet_onecycle(const Case& golden, DType type, Checker& checker) {
  Rng rng(0);
  const Resnet model(rng, type);
  start(model, golden, type);
  const Rows data(golden, type);
  const Args sgd = golden.args.object("optimizer"), schedule = golden.args.object("schedule");
  optim::Chain steps = chain(clip_of(golden.args), optim::sgd({.lr = make_schedule(schedule.text("op"), schedule),
                                                               .momentum = sgd.number("momentum"),
                                                               .weight_decay = sgd.number("weight_decay"),
                                                               .nesterov = sgd.flag("nesterov")}));
  train(golden, type, checker, model.parameters(), std::move(steps), [&](Index t) {
    return nn::cross_entropy(model(data.inputs(t)), data.labels(t),
                             {.label_smoothing = golden.args.number("label_smoothing")});
  });
  for (const NamedBuffer& b : model.buffers())
    if (golden.has("final." + b.name)) checker.compare("final." + b.name, b.buffer->value());
}

// --- LSTM ------------------------------------------------------------------------------------------------------------

class CharLstm final : public nn::Module {
 public:
  CharLstm(Rng& rng, const Args& a, DType type)
      : embed_(rng, a.integer("vocab"), a.integer("embed"), {.dtype = type}),
        lstm_(rng, a.integer("embed"), a.integer("hidden"), {.batch_first = true, .dtype = type}),
        head_(rng, a.integer("hidden"), a.integer("vocab"), {.dtype = type}) {}
  Variable operator()(const Tensor& ids) const { return flatten(head_(lstm_(embed_(ids)).output), 0, 1); }
  void members(nn::Visitor& v) override {
    v("embed", embed_.weight);
    lstm_.members(v);
    v("head", head_);
  }

 private:
  nn::Embedding embed_;
  nn::Lstm lstm_;
  nn::Linear head_;
};

void lstm_clip(const Case& golden, DType type, Checker& checker) {
  Rng rng(0);
  const CharLstm model(rng, golden.args, type);
  start(model, golden, type);
  const Text text(golden, 7, 90);
  train(golden, type, checker, model.parameters(), pipeline(golden.args),
        [&](Index t) { return nn::cross_entropy(model(text.rows(t, 0)), text.rows(t, 1).flatten()); });
}

// --- GPT -------------------------------------------------------------------------------------------------------------

class GptBlock final : public nn::Module {
 public:
  GptBlock(Rng& rng, Index width, Index heads, DType type)
      : ln1_(width, {.dtype = type}),
        ln2_(width, {.dtype = type}),
        attn_(rng, width, 3 * width, {.bias = false, .dtype = type}),
        proj_(rng, width, width, {.dtype = type}),
        fc_(rng, width, 4 * width, {.dtype = type}),
        out_(rng, 4 * width, width, {.dtype = type}),
        heads_(heads) {}
  Variable operator()(Variable h) const {
    h = h + proj_(attention(attn_(ln1_(h))));
    return h + out_(gelu(fc_(ln2_(h)), GeluForm::tanh));
  }
  void members(nn::Visitor& v) override {
    v("ln1", ln1_)("attn", attn_)("proj", proj_)("ln2", ln2_)("fc", fc_)("out", out_);
  }

 private:
  Variable attention(const Variable& qkv) const {
    const Index n = qkv.dim(0), t = qkv.dim(1), width = qkv.dim(2) / 3;
    const std::vector<Variable> parts =
        unbind(permute(reshape(qkv, {n, t, 3, heads_, width / heads_}), {2, 0, 3, 1, 4}), 0);
    const Variable y = scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, {.causal = true});
    return reshape(permute(y, {0, 2, 1, 3}), {n, t, width});
  }
  nn::LayerNorm ln1_, ln2_;
  nn::Linear attn_, proj_, fc_, out_;
  Index heads_;
};

class Gpt final : public nn::Module {
 public:
  Gpt(Rng& rng, const Args& a, DType type)
      : wte_(rng, a.integer("vocab"), a.integer("embed"), {.dtype = type}),
        wpe_(rng, a.integer("seq"), a.integer("embed"), {.dtype = type}),
        block_(rng, a.integer("embed"), a.integer("heads"), type),
        lnf_(a.integer("embed"), {.dtype = type}) {}
  Variable operator()(const Tensor& ids) const {
    const Variable h = block_(wte_(ids) + Variable(wpe_.weight));
    return flatten(linear(lnf_(h), wte_.weight), 0, 1);
  }
  void members(nn::Visitor& v) override { v("wte", wte_.weight)("wpe", wpe_.weight)("h0", block_)("lnf", lnf_); }

 private:
  nn::Embedding wte_, wpe_;
  GptBlock block_;
  nn::LayerNorm lnf_;
};

void gpt_adamw(const Case& golden, DType type, Checker& checker) {
  Rng rng(0);
  const Gpt model(rng, golden.args, type);
  start(model, golden, type);
  const Text text(golden, 5, 80);
  const Args adamw = golden.args.object("optimizer");
  const std::vector<double> betas = adamw.numbers("betas");
  const auto with_decay = [&](double decay) {
    return optim::adamw(
        {.lr = adamw.number("lr"), .betas = {betas[0], betas[1]}, .eps = adamw.number("eps"), .weight_decay = decay});
  };
  optim::Chain steps =
      chain(clip_of(golden.args), optim::on(optim::select_rank(2), with_decay(adamw.number("weight_decay"))),
            optim::on(optim::select_rank(0, 1), with_decay(0)));
  train(golden, type, checker, model.parameters(), std::move(steps),
        [&](Index t) { return nn::cross_entropy(model(text.rows(t, 0)), text.rows(t, 1).flatten()); });
}

}  // namespace

std::vector<Row> e2e_network_rows() {
  return {{"lenet_adam", lenet_adam},
          {"resnet_onecycle", resnet_onecycle},
          {"lstm_clip", lstm_clip},
          {"gpt_adamw", gpt_adamw}};
}

}  // namespace espalier::golden
