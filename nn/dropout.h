// Dropout as layers. They are active in training only; elsewhere they return x itself.
//
// Randomness is an argument of the constructor: each layer takes a generator of its own, split from the one given. Its
// position is a buffer, "rng" (seed, stream, position: i64 [3]), which moves on with every use. So it is saved with the
// model, and a run resumed from a checkpoint draws what it would have drawn.
#pragma once

#include <bit>

#include "espalier/autograd/ops/dropout.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// A generator that a const layer may draw from. One thread at a time may train a model, as for any buffer.
class RngCell final {
 public:
  explicit RngCell(Rng& rng) : state(to_tensor(rng.split())) {}

  /// draw(rng), with the generator left where draw leaves it.
  template <class F>
  decltype(auto) use(F&& draw) const {
    const std::vector<std::int64_t> words = state.value().to_vector<std::int64_t>();
    if (words.size() != 3) fail<ConfigError>("[dropout] the buffer 'rng' must be i64 [3], got ", state.value().shape());
    Rng rng;
    rng.set_state({std::bit_cast<std::uint64_t>(words[0]), std::bit_cast<std::uint64_t>(words[1]),
                   std::bit_cast<std::uint64_t>(words[2])});
    auto result = draw(rng);
    state.set(to_tensor(rng));
    return result;
  }

  Buffer state;

 private:
  static Tensor to_tensor(const Rng& rng) {
    const auto [key, stream, counter] = rng.state();
    return Tensor::from(
        {std::bit_cast<std::int64_t>(key), std::bit_cast<std::int64_t>(stream), std::bit_cast<std::int64_t>(counter)});
  }
};

/// x[i] / (1 - p), or 0 with probability p, each element for itself. Srivastava et al. 2014. Errors: ConfigError for p
/// outside [0, 1].
class Dropout final : public Module {
 public:
  explicit Dropout(Rng& rng, double p = 0.5) : p_(p), rng_(rng) {
    if (!(p >= 0 && p <= 1)) fail<ConfigError>("[dropout] p must be in [0, 1], got ", p);
  }
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if (!training() || p_ == 0) return x;
      return rng_.use([&](Rng& rng) { return dropout(x, p_, rng); });
    });
  }
  void members(Visitor& v) override { v("rng", rng_.state); }

 private:
  double p_;
  RngCell rng_;
};

/// The same for whole channels: x [N, C, ...]. Tompson et al. 2015. PyTorch's Dropout1d and Dropout2d.
class ChannelDropout final : public Module {
 public:
  explicit ChannelDropout(Rng& rng, double p = 0.5) : p_(p), rng_(rng) {
    if (!(p >= 0 && p <= 1)) fail<ConfigError>("[channel_dropout] p must be in [0, 1], got ", p);
  }
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if (!training() || p_ == 0) return x;
      return rng_.use([&](Rng& rng) { return channel_dropout(x, p_, rng); });
    });
  }
  void members(Visitor& v) override { v("rng", rng_.state); }

 private:
  double p_;
  RngCell rng_;
};

/// The same for whole samples, x [N, ...]: stochastic depth; stands at the end of a residual branch. Huang et al. 2016.
class DropPath final : public Module {
 public:
  explicit DropPath(Rng& rng, double p = 0.1) : p_(p), rng_(rng) {
    if (!(p >= 0 && p <= 1)) fail<ConfigError>("[drop_path] p must be in [0, 1], got ", p);
  }
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if (!training() || p_ == 0) return x;
      return rng_.use([&](Rng& rng) { return drop_path(x, p_, rng); });
    });
  }
  void members(Visitor& v) override { v("rng", rng_.state); }

 private:
  double p_;
  RngCell rng_;
};

}  // namespace espalier::nn
