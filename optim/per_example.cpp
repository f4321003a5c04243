#include "espalier/optim/per_example.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/optim/detail/example_gradient.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

using detail::Layout;
using detail::OpRecord;
using detail::Use;

constexpr const char* op_name = "per_example";

/// Writes down every op that reads a parameter.
class Recorder final : public TapeObserver {
 public:
  explicit Recorder(const ParameterList& listed) : listed_(listed) {}

  void begin(const Tape& tape) {
    tape_ = &tape;
    clear();
  }
  void clear() {
    records.clear();
    stranger = nullptr;
    mixer.reset();
    numbers_.clear();
  }
  void recorded(const RecordedOp& node, std::span<const Variable* const> inputs,
                std::span<const Variable> outputs) override {
    if (std::string_view(node.op) == "parameter") return remember(node.first_output);
    OpRecord record{node.op, {}, {}, {}, {}};
    bool any = false;
    for (const std::uint32_t slot : node.inputs) {
      record.parameters.push_back(slot < numbers_.size() ? numbers_[slot] : -1);
      any = any || record.parameters.back() >= 0;
    }
    if (std::string_view(node.op) == "batch_norm" && !mixer) mixer = record;
    if (!any) return;
    for (const Variable* input : inputs) record.inputs.push_back(*input);
    record.output = outputs[0];
    record.settings.assign(node.settings.begin(), node.settings.end());
    records.push_back(std::move(record));
  }

  std::vector<OpRecord> records;
  ParameterRef stranger;          // the first parameter on the tape that is not listed
  std::optional<OpRecord> mixer;  // the first batch_norm

 private:
  void remember(std::uint32_t slot) {
    const ParameterRef parameter = tape_->parameter_of(slot);
    const auto at = std::find_if(listed_.begin(), listed_.end(),
                                 [&](const NamedParameter& named) { return named.parameter == parameter; });
    if (at == listed_.end()) {
      if (!stranger) stranger = parameter;
      return;
    }
    if (numbers_.size() <= slot) numbers_.resize(slot + 1, -1);
    numbers_[slot] = static_cast<int>(at - listed_.begin());
  }
  const ParameterList& listed_;
  const Tape* tape_ = nullptr;
  std::vector<int> numbers_;  // of the listed parameter whose leaf is in this slot, or -1
};

/// A parameter read by an op as its input number `input`.
struct Reading {
  std::size_t record, input;
};

/// Weights that tell examples apart and are exact to multiply with: powers of two in no simple order.
Tensor telling_weights(Index n, DType type) {
  std::vector<double> weights;
  std::uint32_t state = 12345;
  for (Index i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    weights.push_back(static_cast<double>(1u << (state >> 29 << 1 | (i & 1))));  // neighbours always differ
  }
  return Tensor::from(weights, {n}).to(type);
}

/// Each example's part of `other` is that of g times its weight: no other example has a part in it.
bool tells_apart(const Tensor& g, const Tensor& other, const Tensor& weights, Layout layout, Index n) {
  const Tensor a = detail::by_example(g, layout, n, 0).to(DType::f64),
               b = detail::by_example(other, layout, n, 0).to(DType::f64), w = weights.to(DType::f64);
  const double *p = a.data<double>(), *q = b.data<double>(), *scale = w.data<double>();
  const Index each = a.shape()[1];
  for (Index i = 0; i < n; ++i) {
    double most = 0, difference = 0;
    for (Index j = i * each; j < (i + 1) * each; ++j) {
      most = std::max(most, std::abs(q[j]));
      difference = std::max(difference, std::abs(q[j] - scale[i] * p[j]));
    }
    if (difference > 1e-6 * most) return false;  // false for NaN, which the norms will report
  }
  return true;
}

void check_generator(const Tensor& state) {
  if (!state.defined() || state.dtype() != DType::i64 || !(state.shape() == Shape{4}) ||
      state.to_vector<std::int64_t>()[3] < 0)
    fail<ConfigError>("[PerExampleClip] a state is i64 [4]: generator and steps; got ",
                      state.defined() ? join(state.dtype(), " ", state.shape()) : std::string("an undefined tensor"));
}

}  // namespace

class PerExampleClip::Impl {
 public:
  Impl(ParameterList parameters, PerExampleOptions options, Rng noise)
      : parameters_(unique(std::move(parameters))),
        options_(std::move(options)),
        max_norm_(name, "max_norm", options_.max_norm),
        sigma_(name, "noise_multiplier", options_.noise_multiplier),
        noise_(noise),
        recorder_(parameters_) {
    if (parameters_.empty()) fail<ConfigError>("[", name, "] there are no parameters");
    if (!(options_.expected_batch >= 0 && std::isfinite(options_.expected_batch)))
      fail<ConfigError>("[", name, "] expected_batch must be a number of examples, got ", options_.expected_batch);
    if (!options_.max_norm.scheduled() && !options_.noise_multiplier.scheduled()) bounds();
  }

  void watch(Tape& tape) {
    for (std::size_t k = 0; k < tape.size(); ++k) {
      const RecordedOp node = tape.node(k);
      if (!node.inputs.empty()) continue;
      if (const ParameterRef parameter = tape.parameter_of(node.first_output))
        fail<GradError>("[", name, "] '", parameter->full_name(),
                        "' was read on this tape before watch(). Hint: watch a tape as soon as it is made");
    }
    recorder_.begin(tape);
    tape.observe(recorder_);
    watched_ = &tape;
  }

  PerExampleReport accumulate(Tape& tape, const Variable& losses) {
    if (std::exchange(watched_, nullptr) != &tape)
      fail<GradError>("[", name, "] this tape is not watched. Hint: clip.watch(tape) before the forward pass");
    tape.unobserve(recorder_);
    struct Forget {
      Recorder& recorder;
      ~Forget() { recorder.clear(); }
    } forget{recorder_};
    return clip(tape, losses);
  }

  void add_noise() {
    const auto [bound, sigma] = bounds();
    const double divisor = options_.expected_batch > 0 ? options_.expected_batch : static_cast<double>(examples_);
    if (divisor == 0)
      fail<ConfigError>("[", name,
                        "] a batch without examples cannot be divided by their number. Hint: set expected_batch");
    for (const NamedParameter& named : parameters_) {
      ParameterState& p = *named.parameter;
      if (p.frozen()) continue;
      if (sigma > 0) {
        // One after the other, in the order of the list, from a generator that counts: the same draws at any number of
        // threads, and after a restart.
        Tensor draw = noise_.normal(p.value().shape(), 0, sigma * bound, p.value().dtype());
        if (p.mask().defined() && p.mask_mode() == MaskMode::hard) zero_pruned(draw, p.mask(), op_name);
        p.accumulate(std::move(draw));
      }
      if (!p.has_grad() || divisor == 1) continue;
      Tensor& grad = p.mutable_grad();
      grad = map(op_name, kernels::unary().affine, grad, 1 / divisor, 0);
    }
    examples_ = 0;
    pending_ = false;
    ++steps_;
  }

  std::int64_t steps() const noexcept { return steps_; }
  Tensor state() const {
    std::vector<std::int64_t> words;
    for (const std::uint64_t word : noise_.state()) words.push_back(std::bit_cast<std::int64_t>(word));
    words.push_back(steps_);
    return Tensor::from(words, {4});
  }
  void load_state(const Tensor& state) {
    check_generator(state);
    const std::vector<std::int64_t> words = state.to_vector<std::int64_t>();
    Rng::State generator;
    for (std::size_t k = 0; k < 3; ++k) generator[k] = std::bit_cast<std::uint64_t>(words[k]);
    noise_.set_state(generator);
    steps_ = words[3];
  }

 private:
  static constexpr const char* name = "PerExampleClip";
  struct Bounds {
    double bound, sigma;
  };
  using Squares = std::vector<std::vector<long double>>;  // by parameter and example

  static ParameterList unique(ParameterList all) {
    ParameterList kept;
    for (NamedParameter& named : all)
      if (std::none_of(kept.begin(), kept.end(),
                       [&](const NamedParameter& other) { return other.parameter == named.parameter; }))
        kept.push_back(std::move(named));
    return kept;
  }

  /// Of this step.
  Bounds bounds() const {
    const Bounds b{max_norm_.at(steps_), sigma_.at(steps_)};
    if (!(b.bound > 0)) fail<ConfigError>("[", name, "] max_norm must be positive, got ", b.bound);
    if (b.sigma > 0 && !(std::isfinite(b.sigma) && std::isfinite(b.bound)))
      fail<ConfigError>("[", name, "] noise of ", b.sigma, " times max_norm ", b.bound, " is not finite");
    return b;
  }

  PerExampleReport clip(Tape& tape, const Variable& losses) {
    if (losses.rank() != 1)
      fail<ShapeError>("[", name, "] losses must be [N], one for each example, got ", losses.shape(),
                       ". Hint: reduction none, and a sum over what one example has several of");
    PerExampleReport report;
    report.max_norm = bounds().bound;
    check_what_was_seen();
    const Index n = losses.size();
    if (n == 0) {
      report.norms = Tensor::zeros({0}, DType::f64);
      return report;
    }
    if (tape.slot_of(losses) == Tape::constant)
      fail<GradError>("[", name, "] the losses were not computed on this tape from any parameter that trains");

    const NoTape quiet;
    sort_readings(n);
    std::vector<std::size_t> slow_ones;
    for (std::size_t k = 0; k < parameters_.size(); ++k)
      if (slow_[k]) slow_ones.push_back(k);
    find_uses(tape, losses, !slow_ones.empty());
    Squares squares(parameters_.size());
    for (std::size_t k = 0; k < parameters_.size(); ++k)  // of slow ones there are no uses, and zeros
      squares[k] = detail::squared_norms(uses_[k], *parameters_[k].parameter, n);
    measure_one_by_one(tape, losses, slow_ones, squares);
    report.slow_parameters = static_cast<Index>(slow_ones.size());

    const std::vector<Tensor> coefficients = coefficients_for(squares, report);
    std::vector<Tensor> sums = weighted_sums(tape, losses, slow_ones, coefficients);
    for (std::size_t k = 0; k < parameters_.size(); ++k) {
      ParameterState& p = *parameters_[k].parameter;
      if (!sums[k].defined()) continue;
      if (p.mask().defined() && p.mask_mode() == MaskMode::hard) {
        if (!sums[k].sole_owner() || !sums[k].is_contiguous()) sums[k] = sums[k].clone();
        zero_pruned(sums[k], p.mask(), op_name);
      }
      p.accumulate(std::move(sums[k]));
    }
    uses_.clear();
    pending_ = true;
    examples_ += n;
    return report;
  }

  void check_what_was_seen() {
    if (recorder_.mixer) {
      std::string of;
      for (const int k : recorder_.mixer->parameters)
        if (of.empty() && k >= 0) of = join(" of '", name_of(static_cast<std::size_t>(k)), "'");
      fail<GradError>("[", name, "] the batch_norm", of,
                      " mixes examples: no gradient belongs to one of them alone. Hint: group_norm or layer_norm");
    }
    if (recorder_.stranger)
      fail<GradError>("[", name, "] the parameter '", recorder_.stranger->full_name(), "' of shape ",
                      recorder_.stranger->value().shape(),
                      " is on the tape but was not listed: its gradient would be neither clipped nor noised. Hint: "
                      "list it, or freeze it");
    const bool any = std::any_of(parameters_.begin(), parameters_.end(),
                                 [](const NamedParameter& named) { return named.parameter->has_grad(); });
    if (!any) {  // a batch that was accumulated and then dropped does not count
      examples_ = 0;
      pending_ = false;
    }
    if (any && !pending_)
      for (const NamedParameter& named : parameters_)
        if (named.parameter->has_grad())
          fail<GradError>("[", name, "] '", named.name,
                          "' has a gradient that was not clipped here: it would join those that were. Hint: step(), or "
                          "clear_grad(), before the next batch");
  }

  const std::string& name_of(std::size_t k) const { return parameters_[k].name; }

  /// Who reads which parameter; slow are those that are read by an op without a formula, or without an axis of examples.
  void sort_readings(Index n) {
    readings_.assign(parameters_.size(), {});
    slow_.assign(parameters_.size(), false);
    for (std::size_t r = 0; r < recorder_.records.size(); ++r) {
      const OpRecord& record = recorder_.records[r];
      for (std::size_t input = 0; input < record.parameters.size(); ++input) {
        if (record.parameters[input] < 0) continue;
        const auto k = static_cast<std::size_t>(record.parameters[input]);
        readings_[k].push_back({r, input});
        const int leading = detail::leading_axes(record, input);
        if (detail::possible_layouts(record.output.shape(), leading, n).empty()) slow_[k] = true;
      }
    }
  }

  /// d losses / d output of every op that is looked at, and what follows from it.
  void find_uses(Tape& tape, const Variable& losses, bool slow) {
    const Index n = losses.size();
    const std::vector<OpRecord>& records = recorder_.records;
    std::vector<int> place(records.size(), -1);
    std::vector<Variable> outputs;
    std::vector<std::size_t> looked_at;
    for (std::size_t k = 0; k < parameters_.size(); ++k) {
      if (slow_[k]) continue;
      for (const Reading& reading : readings_[k]) {
        if (place[reading.record] >= 0) continue;
        place[reading.record] = static_cast<int>(outputs.size());
        outputs.push_back(records[reading.record].output);
        looked_at.push_back(reading.record);
      }
    }
    uses_.clear();
    uses_.resize(parameters_.size());
    const std::vector<std::string> signature = signature_of(looked_at);
    const bool check = n > 1 && !outputs.empty() &&
                       (options_.check == PerExampleCheck::always ||
                        (options_.check == PerExampleCheck::first && signature != signature_));
    const Variable ones = Tensor::ones({n}, losses.dtype());
    const std::vector<Variable> g = tape.gradient({&losses, 1}, {&ones, 1}, outputs, {.retain = check || slow});
    std::vector<Layout> layouts(outputs.size(), Layout::first);
    if (check) {
      const Tensor weights = telling_weights(n, losses.dtype());
      const Variable weighted(weights);
      const std::vector<Variable> other = tape.gradient({&losses, 1}, {&weighted, 1}, outputs, {.retain = slow});
      for (std::size_t o = 0; o < outputs.size(); ++o)
        layouts[o] = layout_of(records[looked_at[o]], g[o], other[o], weights, n);
      signature_ = signature;
      layouts_ = layouts;
    } else {
      for (std::size_t o = 0; o < outputs.size(); ++o) {
        const std::vector<Layout> possible = possible_of(records[looked_at[o]], n);
        const bool known = signature == signature_ && o < layouts_.size() &&
                           std::find(possible.begin(), possible.end(), layouts_[o]) != possible.end();
        layouts[o] = known ? layouts_[o] : possible.front();
      }
    }
    for (std::size_t k = 0; k < parameters_.size(); ++k) {
      if (slow_[k]) continue;
      for (const Reading& reading : readings_[k]) {
        const auto o = static_cast<std::size_t>(place[reading.record]);
        if (!g[o].defined()) continue;  // no loss depends on it
        uses_[k].push_back(detail::make_use(records[reading.record], reading.input, g[o].value(), layouts[o], n));
      }
    }
  }

  std::vector<Layout> possible_of(const OpRecord& record, Index n) const {
    for (std::size_t input = 0; input < record.parameters.size(); ++input)
      if (record.parameters[input] >= 0)
        if (const int leading = detail::leading_axes(record, input); leading > 0)
          return detail::possible_layouts(record.output.shape(), leading, n);
    return {};
  }

  std::vector<std::string> signature_of(const std::vector<std::size_t>& looked_at) const {
    std::vector<std::string> signature;
    for (const std::size_t r : looked_at) {
      const OpRecord& record = recorder_.records[r];
      std::string text = record.op;
      for (const int k : record.parameters) text += ' ' + std::to_string(k);
      signature.push_back(std::move(text));
    }
    return signature;
  }

  Layout layout_of(const OpRecord& record, const Variable& g, const Variable& other, const Tensor& weights,
                   Index n) const {
    const std::vector<Layout> possible = possible_of(record, n);
    if (!g.defined()) return possible.front();
    for (const Layout layout : possible)
      if (tells_apart(g.value(), other.value(), weights, layout, n)) return layout;
    std::string of;
    for (const int k : record.parameters)
      if (of.empty() && k >= 0) of = name_of(static_cast<std::size_t>(k));
    fail<GradError>("[", name, "] the gradient of the output ", record.output.shape(), " of [", record.op,
                    "], which reads '", of, "', does not fall into ", n,
                    " examples: behind it examples are mixed, or a hook changes gradients, or they lie along "
                    "no axis of this length. Hint: losses[i] must depend on example i alone");
  }

  /// One backward pass for each example.
  void measure_one_by_one(Tape& tape, const Variable& losses, const std::vector<std::size_t>& which, Squares& squares) {
    if (which.empty()) return;
    const std::vector<Variable> leaves = leaves_of(tape, which);
    for (Index i = 0; i < losses.size(); ++i) {
      Tensor one = Tensor::zeros({losses.size()}, losses.dtype());
      one.select(0, i).fill(1, op_name);
      const Variable weight(std::move(one));
      const std::vector<Variable> g = tape.gradient({&losses, 1}, {&weight, 1}, leaves, {.retain = true});
      for (std::size_t j = 0; j < which.size(); ++j) {
        if (!g[j].defined()) continue;
        const ParameterState& p = *parameters_[which[j]].parameter;
        Tensor value = g[j].value();
        if (p.mask().defined() && p.mask_mode() == MaskMode::hard) {
          value = value.clone();
          zero_pruned(value, p.mask(), op_name);
        }
        squares[which[j]][static_cast<std::size_t>(i)] = detail::sum_squares(value);
      }
    }
  }

  std::vector<Variable> leaves_of(Tape& tape, const std::vector<std::size_t>& which) const {
    std::vector<Variable> leaves;
    for (const std::size_t k : which) leaves.push_back(tape.leaf(parameters_[k].parameter));
    return leaves;
  }

  /// min(1, bound / norm): one for all parameters, or one for each.
  std::vector<Tensor> coefficients_for(const Squares& squares, PerExampleReport& report) const {
    const std::size_t n = squares[0].size();
    const bool whole = options_.bound == PerExampleBound::whole;
    const auto trained =
        static_cast<double>(std::count_if(parameters_.begin(), parameters_.end(),
                                          [](const NamedParameter& named) { return !named.parameter->frozen(); }));
    const double bound = whole ? report.max_norm : report.max_norm / std::sqrt(trained);
    std::vector<double> norms(n);
    std::vector<std::vector<double>> c(whole ? 1 : squares.size(), std::vector<double>(n, 1.0));
    for (std::size_t i = 0; i < n; ++i) {
      long double total = 0;
      bool clipped = false;
      auto coefficient = [&](double norm) {
        if (norm <= bound) return 1.0;
        clipped = true;
        return bound / norm;
      };
      for (std::size_t k = 0; k < squares.size(); ++k) {
        total += squares[k][i];
        if (!std::isfinite(squares[k][i]))
          fail<NonFiniteError>("[", name, "] the gradient of example ", i, " among ", n, " in '", name_of(k),
                               "' is not finite: its norm is ", static_cast<double>(std::sqrt(squares[k][i])),
                               ". Hint: look at that example's loss");
        if (!whole) c[k][i] = coefficient(static_cast<double>(std::sqrt(squares[k][i])));
      }
      norms[i] = static_cast<double>(std::sqrt(total));
      if (whole) c[0][i] = coefficient(norms[i]);
      report.clipped += clipped;
    }
    std::vector<Tensor> all;
    for (const auto& one : c) all.push_back(Tensor::from(one, {static_cast<Index>(n)}));
    report.norms = Tensor::from(norms, {static_cast<Index>(n)});
    std::nth_element(norms.begin(), norms.begin() + static_cast<std::ptrdiff_t>((n - 1) / 2), norms.end());
    report.median = norms[(n - 1) / 2];
    return all;
  }

  /// sum over i of c[i] g_i of each parameter; undefined where no loss depends on it.
  std::vector<Tensor> weighted_sums(Tape& tape, const Variable& losses, const std::vector<std::size_t>& slow_ones,
                                    const std::vector<Tensor>& coefficients) {
    std::vector<Tensor> sums(parameters_.size());
    auto of = [&](std::size_t k) -> const Tensor& { return coefficients[coefficients.size() == 1 ? 0 : k]; };
    for (std::size_t k = 0; k < parameters_.size(); ++k) {
      const Tensor c = of(k).to(parameters_[k].parameter->value().dtype());
      for (std::unique_ptr<Use>& use : uses_[k]) {
        Tensor part = use->weighted(c);
        use.reset();  // gives back what it holds
        if (!sums[k].defined())
          sums[k] = std::move(part);
        else
          sums[k] = add(Variable(sums[k]), Variable(part)).value();
      }
    }
    const std::vector<Variable> leaves = leaves_of(tape, slow_ones);
    const bool together = coefficients.size() == 1;
    for (std::size_t j = 0; j < slow_ones.size(); j += together ? slow_ones.size() : 1) {
      const Variable weights(of(slow_ones[j]).to(losses.dtype()));
      const std::span<const Variable> some = together ? std::span(leaves) : std::span(leaves).subspan(j, 1);
      const bool more = j + some.size() < leaves.size();
      const std::vector<Variable> g = tape.gradient({&losses, 1}, {&weights, 1}, some, {.retain = more});
      for (std::size_t m = 0; m < some.size(); ++m)
        if (g[m].defined()) sums[slow_ones[j + m]] = g[m].value();
    }
    return sums;
  }

  ParameterList parameters_;
  PerExampleOptions options_;
  detail::Range max_norm_, sigma_;
  Rng noise_;
  std::int64_t steps_ = 0;
  Recorder recorder_;
  const Tape* watched_ = nullptr;
  bool pending_ = false;  // gradients that are there came from here
  Index examples_ = 0;    // in them

  // Of the batch at hand.
  std::vector<std::vector<Reading>> readings_;
  std::vector<bool> slow_;
  std::vector<std::vector<std::unique_ptr<Use>>> uses_;
  // Of the last batch that was checked.
  std::vector<std::string> signature_;
  std::vector<Layout> layouts_;
};

PerExampleClip::PerExampleClip(ParameterList parameters, PerExampleOptions options, Rng noise)
    : impl_(std::make_unique<Impl>(std::move(parameters), std::move(options), noise)) {}
PerExampleClip::PerExampleClip(PerExampleClip&&) noexcept = default;
PerExampleClip& PerExampleClip::operator=(PerExampleClip&&) noexcept = default;
PerExampleClip::~PerExampleClip() = default;

void PerExampleClip::watch(Tape& tape) { impl_->watch(tape); }
PerExampleReport PerExampleClip::accumulate(Tape& tape, const Variable& losses) {
  return impl_->accumulate(tape, losses);
}
PerExampleReport PerExampleClip::backward(Tape& tape, const Variable& losses) {
  PerExampleReport report = impl_->accumulate(tape, losses);
  impl_->add_noise();
  return report;
}
void PerExampleClip::add_noise() { impl_->add_noise(); }
std::int64_t PerExampleClip::steps() const noexcept { return impl_->steps(); }
Tensor PerExampleClip::state() const { return impl_->state(); }
void PerExampleClip::load_state(const Tensor& state) { impl_->load_state(state); }

}  // namespace espalier::optim
