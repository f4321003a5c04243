#include "espalier/optim/muon.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

constexpr Index chunk = 1 << 15;

/// y <- a x + b y.
template <class T>
void blend(T a, const Tensor& x, T b, Tensor& y) {
  const T* from = x.data<T>();
  T* to = y.write<T>("orthogonalize");
  parallel_for(y.size(), chunk, [=](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) to[i] = a * from[i] + b * to[i];
  });
}

template <class T>
Tensor newton_schulz(const Tensor& wide, int steps) {
  const T* from = wide.data<T>();
  const T most = parallel_reduce<T>(
      wide.size(), chunk,
      [=](Index begin, Index end) {
        T m = 0;
        for (Index i = begin; i < end; ++i) m = std::max(m, std::abs(from[i]));
        return m;
      },
      [](T a, T b) { return std::max(a, b); });
  if (!(most > 0)) return wide.clone();
  const double squares = parallel_reduce<double>(
      wide.size(), chunk,
      [=](Index begin, Index end) {
        double s = 0;
        for (Index i = begin; i < end; ++i) {
          const double x = static_cast<double>(from[i]) / static_cast<double>(most);  // no square overflows
          s += x * x;
        }
        return s;
      },
      [](double a, double b) { return a + b; });
  Tensor x = Tensor::empty(wide.shape(), wide.dtype());
  T* to = x.write<T>("orthogonalize");
  const double root = std::sqrt(squares);
  parallel_for(x.size(), chunk, [=](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      to[i] = static_cast<T>(static_cast<double>(from[i]) / static_cast<double>(most) / root);
  });
  constexpr T a = T(3.4445), b = T(-4.775), c = T(2.0315);
  for (int k = 0; k < steps; ++k) {
    const Tensor gram = matmul(x, x.transpose(0, 1));
    Tensor quintic = matmul(gram, gram);
    blend(b, gram, c, quintic);
    Tensor next = matmul(quintic, x);
    blend(a, x, T(1), next);
    x = std::move(next);
  }
  return x;
}

class Muon final : public TransformOf<Muon> {
 public:
  explicit Muon(MuonOptions o)
      : lr_("muon", "lr", std::move(o.lr)),
        momentum_("muon", "momentum", std::move(o.momentum)),
        weight_decay_("muon", "weight_decay", std::move(o.weight_decay)),
        nesterov_(o.nesterov),
        match_adam_(o.match_adam),
        steps_(o.steps) {
    if (steps_ < 1) fail<ConfigError>("[muon] steps must be at least 1, got ", steps_);
  }

  std::string name() const override { return "muon"; }
  std::string settings() const override { return lr_.describe() + ", " + momentum_.describe(); }
  std::vector<StateSpec> states() const override { return {{"momentum"}}; }
  Grain grain() const override { return Grain::tensor; }
  bool makes_update() const override { return true; }

  void check(const NamedParameter& p) const override {
    if (p.parameter->value().rank() < 2)
      fail<ConfigError>("[muon] '", p.name, "' is ", p.parameter->value().shape(),
                        ", and only weights of two axes and more can be orthogonalised. Hint: chain(on(select_rank(2), "
                        "muon()), on(select_rank(0, 1), adamw()))");
  }
  void begin(const StepContext& context) override {
    lr_now_ = lr_.at(context.step);
    momentum_now_ = momentum_.at(context.step);
    decay_now_ = weight_decay_.at(context.step);
  }

  template <class T>
  void apply(Block<T>& b) const {
    if (b.size() == 0) return;
    const std::span<T> g = b.gradient(), m = b.state(0);
    const auto momentum = static_cast<T>(momentum_now_);
    parallel_for(b.size(), chunk, [&](Index begin, Index end) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        m[i] = momentum * m[i] + g[i];
        g[i] = nesterov_ ? g[i] + momentum * m[i] : m[i];
      }
    });
    const Index rows = b.units(), columns = b.unit_size();
    const Tensor direction = orthogonalize(Tensor::borrow(g, {rows, columns}), steps_).contiguous();
    std::copy_n(direction.data<T>(), b.size(), g.data());
    b.multiply(static_cast<Figure>(-lr_now_ * scale(static_cast<double>(rows), static_cast<double>(columns))));
    b.decay(1 - lr_now_ * decay_now_);
  }

 private:
  double scale(double rows, double columns) const {
    return match_adam_ ? 0.2 * std::sqrt(std::max(rows, columns)) : std::sqrt(std::max(1.0, rows / columns));
  }
  detail::Range lr_, momentum_, weight_decay_;
  bool nesterov_, match_adam_;
  int steps_;
  double lr_now_ = 0, momentum_now_ = 0, decay_now_ = 0;
};

}  // namespace

Tensor orthogonalize(const Tensor& x, int steps) {
  if (x.rank() != 2) fail<ShapeError>("[orthogonalize] a matrix is needed, got ", x.shape());
  if (steps < 1) fail<ConfigError>("[orthogonalize] steps must be at least 1, got ", steps);
  if (x.size() == 0) return x.clone();
  const bool tall = x.shape()[0] > x.shape()[1];  // the products are of the shorter side
  const Tensor wide = (tall ? x.transpose(0, 1) : x).contiguous();
  const Tensor y = x.dtype() == DType::f32 ? newton_schulz<float>(wide, steps) : newton_schulz<double>(wide, steps);
  return tall ? y.transpose(0, 1) : y;
}

Chain muon(MuonOptions options) { return Muon(std::move(options)); }

}  // namespace espalier::optim
