#include "espalier/prune/splice.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"
#include "espalier/core/table.h"
#include "espalier/prune/detail/followed.h"
#include "espalier/prune/report.h"
#include "espalier/prune/schedule.h"
#include "espalier/prune/score.h"
#include "espalier/prune/select.h"

namespace espalier::prune {
namespace {

constexpr Index grain = 1 << 14;  // a multiple of 64: no word of a mask is written by two
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// |w| as doubles. Errors: NonFiniteError.
std::vector<double> magnitudes(const NamedParameter& named) {
  const Tensor w = weights_of(*named.parameter).contiguous();
  std::vector<double> m(static_cast<std::size_t>(w.size()));
  dispatch_floating("splice", w.dtype(), [&]<class T>() {
    const T* from = w.data<T>();
    parallel_for(w.size(), grain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) m[static_cast<std::size_t>(i)] = std::abs(static_cast<double>(from[i]));
    });
  });
  const auto bad = std::find_if(m.begin(), m.end(), [](double v) { return !std::isfinite(v); });
  if (bad != m.end())
    fail<NonFiniteError>("[splice] '", named.name, "' is ", std::isnan(*bad) ? "NaN" : "infinite", " at flat index ",
                         bad - m.begin());
  return m;
}

/// mean + c * standard deviation of what is not 0.
double spread(const std::vector<double>& m, double c) {
  using Sums = std::array<double, 2>;
  const auto sum = [&](auto value) {
    return parallel_reduce<Sums>(
        static_cast<Index>(m.size()), grain,
        [&](Index begin, Index end) {
          Sums s{};
          for (Index i = begin; i < end; ++i) {
            const double v = m[static_cast<std::size_t>(i)];
            if (v == 0) continue;
            s[0] += value(v);
            s[1] += 1;
          }
          return s;
        },
        [](const Sums& a, const Sums& b) {
          return Sums{a[0] + b[0], a[1] + b[1]};
        });
  };
  const Sums first = sum([](double v) { return v; });
  if (first[1] == 0) return 0;
  const double mean = first[0] / first[1];
  const Sums second = sum([mean](double v) { return (v - mean) * (v - mean); });
  return mean + c * std::sqrt(second[0] / first[1]);
}

/// The number that so many lie below, but for ties.
double quantile(std::vector<double> m, Index below) {
  if (below >= static_cast<Index>(m.size())) return std::numeric_limits<double>::infinity();
  const auto at = m.begin() + below;
  std::nth_element(m.begin(), at, m.end());
  return *at;
}

Mask with_hysteresis(const std::vector<double>& m, const Mask& before, double a, double b) {
  const Index n = static_cast<Index>(m.size());
  std::vector<std::uint64_t> words(static_cast<std::size_t>((n + 63) / 64));
  parallel_for(n, grain, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const double v = m[static_cast<std::size_t>(i)];
      const bool live = v >= b || (v >= a && (!before.defined() || before[i]));
      words[static_cast<std::size_t>(i / 64)] |= static_cast<std::uint64_t>(live) << (i % 64);
    }
  });
  return Mask(n, std::move(words));
}

}  // namespace

class Splice::Work final : public optim::StepHook {
 public:
  Work(const ParameterList& parameters, SpliceOptions o)
      : list(detail::followed("splice", parameters, o.select)), options(std::move(o)), thresholds(list.size(), nan) {
    const SpliceOptions& s = options;
    if (std::isnan(s.sparsity) == std::isnan(s.c)) fail<ConfigError>("[splice] either sparsity or c must be given");
    if (s.sparsity < 0 || s.sparsity > 1) fail<ConfigError>("[splice] sparsity must be in [0, 1], got ", s.sparsity);
    if (std::isinf(s.c)) fail<ConfigError>("[splice] c must be finite, got ", s.c);
    if (!(s.lower >= 0 && s.lower <= s.upper && std::isfinite(s.upper)))
      fail<ConfigError>("[splice] needs 0 <= lower <= upper, got lower ", s.lower, " and upper ", s.upper);
    if (s.begin < 0 || s.end < s.begin)
      fail<ConfigError>("[splice] needs 0 <= begin <= end, got begin ", s.begin, " and end ", s.end,
                        s.end < 0 ? ". Hint: .end must be given" : "");
    if (s.rise < 0) fail<ConfigError>("[splice] rise must not be negative, got ", s.rise);
    if (!(s.gamma >= 0 && std::isfinite(s.gamma)))
      fail<ConfigError>("[splice] gamma must be at least 0 and finite, got ", s.gamma);
    if (!(s.power >= 0 && std::isfinite(s.power)))
      fail<ConfigError>("[splice] power must be at least 0 and finite, got ", s.power);
    if (s.min_keep < 0) fail<ConfigError>("[splice] min_keep must not be negative, got ", s.min_keep);
  }

  bool due(std::int64_t step) const override {
    if (step < options.begin || step > options.end) return false;
    if (step == options.begin || step == options.end) return true;
    Rng chance;  // a draw of its own for each step, so that there is nothing to save
    chance.set_state({options.seed, 0, static_cast<std::uint64_t>(step)});
    const double since = static_cast<double>(step - options.begin);
    return chance.uniform() < std::pow(1 + options.gamma * since, -options.power);
  }

  void begin(const optim::StepContext& context) override {
    detail::check_shared("splice", list, context);
    update(context.step);
  }

  /// All masks are made before the first is set.
  void update(std::int64_t step) {
    std::vector<Mask> masks;
    std::vector<double> found = thresholds;
    for (std::size_t i = 0; i < list.size(); ++i) {
      detail::check_not_packed("splice", list[i]);
      const std::vector<double> m = magnitudes(list[i]);
      const Index n = static_cast<Index>(m.size());
      double t;
      if (std::isnan(options.c)) {
        const double sparsity = polynomial_sparsity(
            {.final_sparsity = options.sparsity, .begin = options.begin, .end = options.begin + options.rise}, step);
        t = quantile(m, count_of("splice", sparsity, n));
      } else {
        if (std::isnan(found[i])) found[i] = spread(m, options.c);
        t = found[i];
      }
      Mask mask = with_hysteresis(m, list[i].parameter->mask(), options.lower * t, options.upper * t);
      if (mask.live() < std::min(options.min_keep, n))
        mask = prune_lowest(std::vector<Candidate>{{list[i].name, Tensor::from(m, {n})}}, n, options.min_keep)[0];
      masks.push_back(mask.defined() && mask.live() == n ? Mask() : std::move(mask));
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
      ParameterState& p = *list[i].parameter;
      if (p.mask() == masks[i] && (!p.mask().defined() || p.mask_mode() == MaskMode::soft)) continue;
      p.set_mask(std::move(masks[i]), MaskMode::soft);
    }
    thresholds = std::move(found);
    last_step = step;
  }

  ParameterList list;
  SpliceOptions options;
  std::vector<double> thresholds;  // of .c: NaN until they are found
  std::int64_t last_step = -1;
};

Splice::Splice(const ParameterList& parameters, SpliceOptions options)
    : work_(std::make_shared<Work>(parameters, std::move(options))) {}

std::shared_ptr<optim::StepHook> Splice::hook() const { return work_; }
void Splice::update(std::int64_t step) { work_->update(step); }
bool Splice::due(std::int64_t step) const { return work_->due(step); }
void Splice::freeze() {
  for (const NamedParameter& named : work_->list) named.parameter->freeze();
}
double Splice::sparsity() const { return prune::sparsity(work_->list, optim::Select()); }
const ParameterList& Splice::parameters() const noexcept { return work_->list; }

std::string Splice::describe() const {
  const SpliceOptions& o = work_->options;
  return join("splice ", std::isnan(o.c) ? join("to ", o.sparsity) : join("at mean + ", o.c, " deviations"), " within ",
              o.lower, " to ", o.upper, " of the threshold, in steps ", o.begin, " to ", o.end,
              " with probability (1 + ", o.gamma, " t)^-", o.power, "; soft masks, ", percent(sparsity()), " pruned");
}

std::map<std::string, Tensor> Splice::state() const {
  std::map<std::string, Tensor> state{{"step", detail::i64_scalar(work_->last_step)}};
  for (std::size_t i = 0; i < work_->list.size(); ++i)
    state["threshold/" + work_->list[i].name] = Tensor::scalar(work_->thresholds[i], DType::f64);
  return state;
}

void Splice::load_state(const std::map<std::string, Tensor>& state) {
  detail::StateReader reader("splice", state);
  const std::int64_t step = reader.count("step");
  std::vector<double> thresholds;
  for (const NamedParameter& named : work_->list)
    thresholds.push_back(reader.number("threshold/" + named.name, DType::f64));
  reader.finish();
  work_->last_step = step;
  work_->thresholds = std::move(thresholds);
}

}  // namespace espalier::prune
