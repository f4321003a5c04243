// The language models of the workloads, over 65 characters.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "espalier/autograd/ops/attention.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/embedding.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/norm.h"
#include "espalier/nn/recurrent.h"

namespace espalier::bench {

inline constexpr Index characters = 65;

/// Embedding, LSTM, Linear: ids [N, T] -> logits [N, T, 65]. The state is carried from call to call, without its history.
class CharLstm final : public nn::Module {
 public:
  CharLstm(Rng& rng, Index hidden, int layers)
      : embedding_(rng, characters, hidden),
        lstm_(rng, hidden, hidden, {.num_layers = layers, .batch_first = true}),
        out_(rng, hidden, characters) {}
  Variable operator()(const Tensor& ids) const {
    const nn::LstmOutput y = lstm_(embedding_(ids), state_);
    state_ = y.state.detach();
    return out_(y.output);
  }
  void members(nn::Visitor& v) override { v("e", embedding_)("l", lstm_)("o", out_); }

 private:
  nn::Embedding embedding_;
  nn::Lstm lstm_;
  nn::Linear out_;
  mutable nn::LstmState state_;
};

/// x + proj(attention(ln1 x)), then x + out(gelu(fc(ln2 x))), four times as wide inside.
class GptBlock final : public nn::Module {
 public:
  GptBlock(Rng& rng, Index width, Index heads)
      : ln1_(width),
        ln2_(width),
        qkv_(rng, width, 3 * width, {.bias = false}),
        proj_(rng, width, width, {.bias = false}),
        fc_(rng, width, 4 * width, {.bias = false}),
        out_(rng, 4 * width, width, {.bias = false}),
        heads_(heads) {}
  Variable operator()(Variable x) const {
    x = x + proj_(self_attention(qkv_(ln1_(x)), heads_, {}, {.causal = true}));
    return x + out_(linear(ln2_(x), fc_.weight, {}, Activation::gelu));
  }
  void members(nn::Visitor& v) override {
    v("ln1", ln1_)("qkv", qkv_)("proj", proj_)("ln2", ln2_)("fc", fc_)("out", out_);
  }

 private:
  nn::LayerNorm ln1_, ln2_;
  nn::Linear qkv_, proj_, fc_, out_;
  Index heads_;
};

/// ids [N, T] -> logits [N, T, 65], the head tied to the embedding. Weights ~ N(0, 0.02^2), those that write into the
/// residual stream divided by sqrt(2 blocks). Radford et al. 2019.
class Gpt final : public nn::Module {
 public:
  Gpt(Rng& rng, int blocks, Index heads, Index width, Index longest)
      : wte_(rng, characters, width), wpe_(rng, longest, width), lnf_(width) {
    for (int k = 0; k < blocks; ++k) blocks_.emplace_back(rng, width, heads);
    for (const NamedParameter& p : parameters()) {
      const Shape& shape = p.parameter->value().shape();
      const bool writes = p.name.ends_with("proj.weight") || p.name.ends_with("out.weight");
      if (shape.rank() > 1) p.parameter->set_value(rng.normal(shape, 0, writes ? 0.02 / std::sqrt(2. * blocks) : 0.02));
    }
  }
  Variable operator()(const Tensor& ids) const {
    Variable x = wte_(ids) + narrow(wpe_.weight, 0, 0, ids.dim(1));
    for (const GptBlock& block : blocks_) x = block(std::move(x));
    return linear(lnf_(x), wte_.weight);
  }
  void members(nn::Visitor& v) override { v("wte", wte_)("wpe", wpe_)("blocks", blocks_)("lnf", lnf_); }

 private:
  nn::Embedding wte_, wpe_;
  std::vector<GptBlock> blocks_;
  nn::LayerNorm lnf_;
};

}  // namespace espalier::bench
