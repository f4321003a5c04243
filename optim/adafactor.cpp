#include "espalier/optim/adafactor.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "espalier/core/kernels/step.h"
#include "espalier/core/parallel.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

constexpr double tiny = 1e-30;  // keeps v from 0, as the paper's eps1

/// Rows of a matrix that one chunk of work takes.
Index rows_at_a_time(Index columns) { return std::max<Index>(1, (Index{1} << 15) / std::max<Index>(columns, 1)); }

/// Per row and per column of a matrix: the sum of f(i) over live weights, and how many live ones there are.
struct Margins {
  std::vector<double> row, column, row_live, column_live;
  double total = 0, live_total = 0;

  template <class F>
  Margins(Index rows, Index columns, const std::uint64_t* mask, const F& f)
      : row(static_cast<std::size_t>(rows)),
        column(static_cast<std::size_t>(columns)),
        row_live(row.size()),
        column_live(column.size()) {
    const Index step = rows_at_a_time(columns), chunks = (rows + step - 1) / step;
    // Columns are added up by chunk, then over the chunks in order: the same bytes at any number of threads.
    std::vector<double> parts(static_cast<std::size_t>(2 * chunks * columns));
    parallel_for(rows, step, [&](Index begin, Index end) {
      double* sums = parts.data() + 2 * (begin / step) * columns;
      double* counts = sums + columns;
      for (Index r = begin; r < end; ++r) {
        double sum = 0, alive = 0;
        for (Index c = 0; c < columns; ++c) {
          if (!kernels::is_live(mask, r * columns + c)) continue;
          const double x = f(r, c);
          sum += x;
          alive += 1;
          sums[c] += x;
          counts[c] += 1;
        }
        row[static_cast<std::size_t>(r)] = sum;
        row_live[static_cast<std::size_t>(r)] = alive;
      }
    });
    for (Index k = 0; k < chunks; ++k)
      for (std::size_t c = 0; c < column.size(); ++c) {
        column[c] += parts[static_cast<std::size_t>(2 * k * columns) + c];
        column_live[c] += parts[static_cast<std::size_t>((2 * k + 1) * columns) + c];
      }
    for (std::size_t r = 0; r < row.size(); ++r) {
      total += row[r];
      live_total += row_live[r];
    }
  }
};

double mean(double sum, double count) { return count > 0 ? sum / count : 0; }

class Adafactor final : public TransformOf<Adafactor> {
 public:
  explicit Adafactor(AdafactorOptions o)
      : lr_("adafactor", "lr", std::move(o.lr)),
        max_rms_("adafactor", "max_rms", std::move(o.max_rms)),
        momentum_("adafactor", "momentum", std::move(o.momentum)),
        weight_decay_("adafactor", "weight_decay", std::move(o.weight_decay)),
        exponent_(o.decay_exponent),
        eps_(o.eps),
        relative_(o.relative),
        maximize_(o.maximize),
        remembers_(!momentum_.constantly(0)) {
    if (!(exponent_ >= 0)) fail<ConfigError>("[adafactor] decay_exponent must not be negative, got ", exponent_);
    if (!(eps_ >= 0)) fail<ConfigError>("[adafactor] eps must not be negative, got ", eps_);
  }

  std::string name() const override { return "adafactor"; }
  std::string settings() const override { return lr_.describe(); }
  std::vector<StateSpec> states() const override {
    std::vector<StateSpec> states = {{"row", StateShape::unit}, {"column", StateShape::column}};
    if (remembers_) states.push_back({"m"});
    return states;
  }
  Grain grain() const override { return Grain::tensor; }
  bool keeps_zeros() const override { return true; }
  bool makes_update() const override { return true; }

  void begin(const StepContext& context) override {
    lr_now_ = lr_.at(context.step);
    bound_ = max_rms_.at(context.step);
    momentum_now_ = momentum_.at(context.step);
    decay_now_ = weight_decay_.at(context.step);
    if (!(momentum_now_ < 1)) fail<ConfigError>("[adafactor] momentum must be below 1, got ", momentum_now_);
  }

  template <class T>
  void apply(Block<T>& b) const {
    if (b.size() == 0) return;
    const Index rows = b.units(), columns = b.unit_size();
    const std::uint64_t* mask = b.mask();
    T* g = b.gradient().data();
    const T* w = b.value().data();
    const auto t = static_cast<double>(b.updates());
    const double fresh = std::pow(t, -exponent_);  // 1 - b2: all of it in the first step
    const Margins squares(rows, columns, mask, [=](Index r, Index c) {
      const auto x = static_cast<double>(g[r * columns + c]);
      return x * x + tiny;
    });
    const std::span<T> row = b.state(0), column = b.state(1);
    double mean_square = 0;
    for (std::size_t r = 0; r < row.size(); ++r) {
      row[r] = next(row[r], mean(squares.row[r], squares.row_live[r]), fresh);
      mean_square += static_cast<double>(row[r]) * squares.row_live[r];
    }
    for (std::size_t c = 0; c < column.size(); ++c)
      column[c] = next(column[c], mean(squares.column[c], squares.column_live[c]), fresh);
    mean_square = mean(mean_square, squares.live_total);

    const Index step = rows_at_a_time(columns);
    using Sums = std::array<double, 2>;  // of u^2 and of w^2
    const Sums sums = parallel_reduce<Sums>(
        rows, step,
        [&](Index begin, Index end) {
          Sums s{};
          for (Index r = begin; r < end; ++r) {
            const double factor =
                rows == 1 || mean_square == 0 ? 1 : static_cast<double>(row[static_cast<std::size_t>(r)]) / mean_square;
            for (Index c = 0; c < columns; ++c) {
              T& x = g[r * columns + c];
              const double v = factor * static_cast<double>(column[static_cast<std::size_t>(c)]);
              const double u = v > 0 ? static_cast<double>(x) / std::sqrt(v) : 0;
              x = static_cast<T>(u);
              s[0] += u * u;
              const auto weight = static_cast<double>(w[r * columns + c]);
              s[1] += weight * weight;
            }
          }
          return s;
        },
        [](const Sums& a, const Sums& c) {
          return Sums{a[0] + c[0], a[1] + c[1]};
        });
    const double rms_u = std::sqrt(mean(sums[0], squares.live_total)),
                 rms_w = std::sqrt(mean(sums[1], squares.live_total));
    const double clip = rms_u > bound_ ? bound_ / rms_u : 1;
    const double size = relative_ ? std::max(eps_, rms_w) * std::min(lr_now_, 1 / std::sqrt(t)) : lr_now_;
    const double sign = maximize_ ? 1 : -1;
    if (remembers_) {
      T* m = b.state(2).data();
      const auto keep = static_cast<T>(momentum_now_), add = static_cast<T>((1 - momentum_now_) * clip);
      parallel_for(b.size(), Index{1} << 15, [=](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) g[i] = m[i] = keep * m[i] + add * g[i];
      });
      b.multiply(static_cast<Figure>(sign * size));
    } else {
      b.multiply(static_cast<Figure>(sign * size * clip));
    }
    b.decay(1 - lr_now_ * decay_now_);
  }

  void mask_changed(Block<float>& b) const override { rebuild(b); }
  void mask_changed(Block<double>& b) const override { rebuild(b); }

 private:
  template <class T>
  static T next(T old, double now, double fresh) {
    return static_cast<T>((1 - fresh) * static_cast<double>(old) + fresh * now);
  }
  /// Margins of what is live of r c / mean.
  template <class T>
  static void rebuild(Block<T>& b) {
    const std::span<T> row = b.state(0), column = b.state(1);
    const bool vector = b.units() == 1;
    const Margins v(b.units(), b.unit_size(), b.mask(), [&](Index r, Index c) {
      const auto of_column = static_cast<double>(column[static_cast<std::size_t>(c)]);
      return vector ? of_column : static_cast<double>(row[static_cast<std::size_t>(r)]) * of_column;
    });
    // The mean of g^2 that the step divides by: of the rows that have ever seen a gradient.
    double sum = 0, seen = 0;
    for (T x : row) {
      sum += static_cast<double>(x);
      seen += x > 0;
    }
    const double mean_row = vector ? 1 : mean(sum, seen);
    const double scale = mean_row > 0 ? 1 / mean_row : 0;
    for (std::size_t r = 0; r < row.size(); ++r) row[r] = static_cast<T>(scale * mean(v.row[r], v.row_live[r]));
    for (std::size_t c = 0; c < column.size(); ++c)
      column[c] = static_cast<T>(scale * mean(v.column[c], v.column_live[c]));
  }

  detail::Range lr_, max_rms_, momentum_, weight_decay_;
  double exponent_, eps_;
  bool relative_, maximize_, remembers_;
  double lr_now_ = 0, bound_ = 1, momentum_now_ = 0, decay_now_ = 0;
};

}  // namespace

Chain adafactor(AdafactorOptions options) { return Adafactor(std::move(options)); }

}  // namespace espalier::optim
