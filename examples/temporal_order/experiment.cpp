#include "examples/temporal_order/experiment.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

namespace temporal_order {

using namespace espalier;

namespace {

/// Tanh units over the sequence, softmax over the four answers behind its last symbol.
class Network final : public nn::Module {
 public:
  Network(Rng& rng, Index hidden)
      : rnn(rng, data::temporal_order_symbols, hidden, {.batch_first = true}),
        out(rng, hidden, data::temporal_order_classes) {
    for (Parameter* bias : {&rnn.weights().bias_ih, &rnn.weights().bias_hh, &out.bias})
      bias->set_value(Tensor::zeros(bias->shape()));
    rnn.weights().bias_hh.freeze();  // one bias is enough: two of them would learn at twice the rate
  }
  Variable operator()(const Variable& x) const { return out(rnn(x).state.h[0]); }
  void members(nn::Visitor& v) override { v("rnn", rnn)("out", out); }

  nn::Rnn rnn;
  nn::Linear out;
};

/// The largest |eigenvalue|: lim |A^k|^(1/k) (Gelfand 1941), by squaring 24 times.
double spectral_radius(const Tensor& matrix) {
  Variable power = matrix.to(DType::f64);
  double log_radius = 0, share = 1;
  for (int squarings = 0; squarings < 24; ++squarings) {
    const double size = norm(power.value()).item();
    if (size == 0) return 0;
    log_radius += share * std::log(size);
    share /= 2;
    power = power * (1 / size);
    power = matmul(power, power);
  }
  return std::exp(log_radius);
}

void set_normal(Rng& rng, Parameter& weight, double deviation) {
  weight.set_value(nn::init::normal(rng, weight.shape(), 0, deviation));
}

/// All N(0, 0.1^2): "basic tanh" of Pascanu, Mikolov and Bengio 2013.
void basic(Rng& rng, Network& net) {
  for (Parameter* weight : {&net.rnn.weights().weight_ih, &net.rnn.weights().weight_hh, &net.out.weight})
    set_normal(rng, *weight, 0.1);
}

/// "Smart tanh" of the same: N(0, 0.01^2), but each unit hears 15 others, and the recurrent matrix has spectral radius
/// 0.95. After Jaeger 2001 and Martens 2010.
void smart(Rng& rng, Network& net) {
  for (Parameter* weight : {&net.rnn.weights().weight_ih, &net.out.weight}) set_normal(rng, *weight, 0.01);
  Parameter& recurrent = net.rnn.weights().weight_hh;
  const double hidden = static_cast<double>(recurrent.shape()[0]);
  const Tensor sparse =
      nn::init::sparse(rng, recurrent.shape(), {.sparsity = std::max(0.0, 1 - 15 / hidden), .deviation = 1});
  const double radius = spectral_radius(sparse);
  recurrent.set_value(radius > 0 ? (sparse * (0.95 / radius)).value() : sparse);
}

/// The recurrent matrix orthogonal, so that nothing fades or grows while tanh is straight; the rest N(0, 0.1^2).
void orthogonal(Rng& rng, Network& net) {
  basic(rng, net);
  Parameter& recurrent = net.rnn.weights().weight_hh;
  recurrent.set_value(nn::init::orthogonal(rng, recurrent.shape()));
}

const std::map<std::string, void (*)(Rng&, Network&)>& initialisers() {
  static const std::map<std::string, void (*)(Rng&, Network&)> all{
      {"basic", basic}, {"orthogonal", orthogonal}, {"smart", smart}};
  return all;
}

Index count_wrong(const Tensor& logits, const Tensor& labels) {
  const std::vector<Index> guess = argmax(logits, 1).to_vector<Index>(), label = labels.to_vector<Index>();
  Index wrong = 0;
  for (std::size_t i = 0; i < label.size(); ++i) wrong += guess[i] != label[i];
  return wrong;
}

/// Share of wrong answers among `n` sequences.
double measure_error(const Network& net, Rng& rng, Index n, Index length) {
  Index wrong = 0;
  for (Index done = 0; done < n; done += 500) {
    const data::Dataset some = data::temporal_order(rng, std::min<Index>(500, n - done), length);
    wrong += count_wrong(net(some.x).value(), some.y);
  }
  return static_cast<double>(wrong) / static_cast<double>(n);
}

}  // namespace

std::vector<std::string> initialiser_names() {
  std::vector<std::string> names;
  for (const auto& [name, initialise] : initialisers()) names.push_back(name);
  return names;
}

Run train_one(const Settings& s, std::uint64_t seed, bool clipped,
              const std::function<void(const Stretch&)>& on_stretch) {
  const ThreadLimit one_thread(1);  // an update is too small to share out
  const auto start = std::chrono::steady_clock::now();
  Rng rng(seed), train_rng = rng.split(), test_rng = rng.split();
  Network net(rng, s.hidden);
  initialisers().at(s.init)(rng, net);
  // Where nothing is to be clipped, the same link in the chain only measures.
  optim::Optimizer optimizer(
      net.parameters(),
      optim::chain(optim::clip_by_global_norm({.max_norm = s.clip.value_or(1), .measure_only = !clipped}),
                   optim::sgd({.lr = s.lr})));
  Run run{.seed = seed, .clipped = clipped, .curve = {}};
  try {
    Stretch stretch;
    Index wrong = 0, begin = 0;
    while (run.updates < s.updates && !run.solved()) {
      const data::Dataset batch = data::temporal_order(train_rng, s.batch, s.length);
      Tape tape;
      const Variable logits = net(batch.x);
      tape.backward(nn::cross_entropy(logits, batch.y));
      const optim::ClipRecord record = optimizer.step().clips().front();
      wrong += count_wrong(logits.value(), batch.y);
      stretch.largest_norm = std::max(stretch.largest_norm, record.norm_before);
      stretch.clipped_share += record.clipped;
      ++run.updates;
      if ((run.updates - begin) % s.every != 0 && run.updates < s.updates) continue;

      const double updates = static_cast<double>(run.updates - begin);
      stretch.updates = run.updates;
      stretch.error = static_cast<double>(wrong) / (updates * static_cast<double>(s.batch));
      stretch.clipped_share /= updates;
      run.largest_norm = std::max(run.largest_norm, stretch.largest_norm);
      run.curve.push_back(stretch);
      on_stretch(stretch);
      // The batches tell whether it is worth while to draw so many more.
      if (stretch.error < 5 * solved_below || run.updates == s.updates) {
        run.error = measure_error(net, test_rng, s.test, s.length);
        if (run.error < solved_below) run.outcome = "solved";
      }
      stretch = {};
      wrong = 0;
      begin = run.updates;
    }
  } catch (const NonFiniteError&) {
    run.outcome = "diverged";
    run.error = std::numeric_limits<double>::quiet_NaN();
    run.largest_norm = std::numeric_limits<double>::infinity();
  }
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return run;
}

}  // namespace temporal_order
