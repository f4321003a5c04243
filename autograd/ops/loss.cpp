#include "espalier/autograd/ops/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/reduce.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

void check_same_shape(const char* op, const Variable& a, const Variable& b) {
  if (!(a.shape() == b.shape()))
    fail<ShapeError>("[", op, "] input ", a.shape(), " and target ", b.shape(),
                     " must have one shape. Hint: reshape() one");
}

constexpr Index rows_per_chunk = 64;

/// Labels of rows, checked against [N, C]; with what the options say of each class.
class Targets final {
 public:
  Targets(const char* op, const Variable& scores, const Tensor& labels, const ClassOptions& options)
      : saved_(labels.contiguous()), ignored_(options.ignore_index), smoothing_(options.label_smoothing) {
    if (scores.rank() != 2) fail<ShapeError>("[", op, "] logits must be [N, C], got ", scores.shape());
    rows_ = scores.shape()[0];
    classes_ = scores.shape()[1];
    if (labels.rank() != 1 || labels.size() != rows_)
      fail<ShapeError>("[", op, "] labels ", labels.shape(), " for logits ", scores.shape(), "; they must be [", rows_,
                       "]");
    if (!(smoothing_ >= 0 && smoothing_ <= 1))
      fail<ConfigError>("[", op, "] label_smoothing must be in [0, 1], got ", smoothing_);
    const std::int64_t* label = saved_.value().data<std::int64_t>();
    for (Index r = 0; r < rows_; ++r)
      if ((label[r] < 0 || label[r] >= classes_) && label[r] != ignored_) [[unlikely]]
        fail<IndexError>("[", op, "] label ", label[r], " of row ", r, " is outside [0, ", classes_, ")");
    if (options.weight.defined()) {
      check_same_dtype(op, scores.value(), options.weight);
      if (options.weight.rank() != 1 || options.weight.size() != classes_)
        fail<ShapeError>("[", op, "] weight ", options.weight.shape(), " for logits ", scores.shape(), "; it must be [",
                         classes_, "]");
      weight_.emplace(options.weight.contiguous());
    }
  }

  Index rows() const noexcept { return rows_; }
  Index classes() const noexcept { return classes_; }
  /// True if every row is -log p[label], no more.
  bool plain() const noexcept { return !weight_ && smoothing_ == 0; }

  /// The loss of a row is the sum over c of at(c) (logsumexp(x) - x[c]) for one label: `here` more at the label, and
  /// spread * weight[c] everywhere.
  template <class T>
  struct Row {
    Index label;  // -1: ignored
    double here, spread, total;
    const T* weight;
    double at_class(Index c) const { return spread * (weight ? static_cast<double>(weight[c]) : 1); }
  };
  /// To be called as f(r, row) for a range of rows.
  template <class T, class F>
  void for_rows(Index begin, Index end, F f) const {
    const std::int64_t* label = saved_.value().data<std::int64_t>();
    const T* weight = weight_ ? weight_->value().data<T>() : nullptr;
    double all = static_cast<double>(classes_);
    if (weight && smoothing_ > 0) {
      all = 0;
      for (Index c = 0; c < classes_; ++c) all += static_cast<double>(weight[c]);
    }
    const double spread = smoothing_ / static_cast<double>(std::max<Index>(1, classes_));
    for (Index r = begin; r < end; ++r) {
      const Index at = label[r] == ignored_ ? -1 : label[r];
      const double here = at < 0 ? 0 : (1 - smoothing_) * (weight ? static_cast<double>(weight[at]) : 1);
      f(r, Row<T>{at, here, spread, here + spread * all, weight});
    }
  }

 private:
  Saved saved_;
  std::optional<Saved> weight_;
  Index ignored_, rows_ = 0, classes_ = 0;
  double smoothing_;
};

Tensor cross_entropy_value(const Tensor& logits, const Targets& targets) {
  const Tensor dense = logits.contiguous();
  Tensor y = Tensor::empty({targets.rows()}, logits.dtype());
  const Index classes = targets.classes();
  dispatch_floating("softmax_cross_entropy", logits.dtype(), [&]<class T>() {
    const T* x = dense.data<T>();
    T* out = y.write<T>("softmax_cross_entropy");
    const auto kernel = kernels::reduce<T>().cross_entropy_row;
    parallel_for(targets.rows(), rows_per_chunk, [&](Index begin, Index end) {
      targets.for_rows<T>(begin, end, [&](Index r, const Targets::Row<T>& row) {
        const T* scores = x + r * classes;
        if (row.label < 0) {
          out[r] = 0;
          return;
        }
        const double at_label = kernel(scores, classes, row.label, nullptr, T(0));  // logsumexp(x) - x[label]
        double loss = row.total * at_label;
        if (row.spread > 0) {
          double rest = 0;
          const double own = static_cast<double>(scores[row.label]);
          for (Index c = 0; c < classes; ++c) rest += row.at_class(c) * (static_cast<double>(scores[c]) - own);
          loss -= rest;
        }
        out[r] = static_cast<T>(loss);
      });
    });
  });
  return y;
}

/// Row r: g[r] (total softmax(logits) - the target).
Tensor cross_entropy_gradient(const Tensor& g, const Tensor& logits, const Targets& targets) {
  const Tensor dense = logits.contiguous(), weights = g.contiguous();
  Tensor dx = Tensor::empty(logits.shape(), logits.dtype());
  const Index classes = targets.classes();
  dispatch_floating("softmax_cross_entropy", logits.dtype(), [&]<class T>() {
    const T *x = dense.data<T>(), *w = weights.data<T>();
    T* out = dx.write<T>("softmax_cross_entropy");
    const auto kernel = kernels::reduce<T>().cross_entropy_row;
    parallel_for(targets.rows(), rows_per_chunk, [&](Index begin, Index end) {
      targets.for_rows<T>(begin, end, [&](Index r, const Targets::Row<T>& row) {
        T* to = out + r * classes;
        if (row.label < 0) {
          std::fill_n(to, classes, T(0));
          return;
        }
        const double scale = static_cast<double>(w[r]);
        kernel(x + r * classes, classes, row.label, to, static_cast<T>(scale * row.total));
        if (row.spread <= 0) return;
        to[row.label] += static_cast<T>(scale * (row.total - row.here));
        for (Index c = 0; c < classes; ++c) to[c] -= static_cast<T>(scale * row.at_class(c));
      });
    });
  });
  return dx;
}

/// The target of every class, [N, C], and its sum over the classes, [N, 1].
std::pair<Tensor, Tensor> target_matrix(const Targets& targets, DType type) {
  const Index rows = targets.rows(), classes = targets.classes();
  Tensor matrix = Tensor::zeros({rows, classes}, type), totals = Tensor::zeros({rows, 1}, type);
  dispatch_floating("softmax_cross_entropy", type, [&]<class T>() {
    T *q = matrix.write<T>("softmax_cross_entropy"), *total = totals.write<T>("softmax_cross_entropy");
    targets.for_rows<T>(0, rows, [&](Index r, const Targets::Row<T>& row) {
      if (row.label < 0) return;
      for (Index c = 0; c < classes; ++c) q[r * classes + c] = static_cast<T>(row.at_class(c));
      q[r * classes + row.label] += static_cast<T>(row.here);
      total[r] = static_cast<T>(row.total);
    });
  });
  return {matrix, totals};
}

}  // namespace

Variable softmax_cross_entropy(const Variable& logits, const Tensor& labels, const ClassOptions& options) {
  Targets targets("softmax_cross_entropy", logits, labels, options);
  Tensor y = cross_entropy_value(logits.value(), targets);
  if (!recording(logits)) return y;
  return record("softmax_cross_entropy", std::move(y), {&logits},
                [x = Saved(logits), targets = std::move(targets)](const Variable& g, Wants) -> Variable {
                  const Variable& v = x.get();
                  if (!recording(g, v)) return cross_entropy_gradient(g.value(), v.value(), targets);
                  const auto [matrix, totals] = target_matrix(targets, v.dtype());
                  return mul(sub(mul(softmax(v, 1), totals), matrix), reshape(g, {targets.rows(), 1}));
                });
}

Tensor label_weights(const Tensor& labels, const ClassOptions& options, DType type) {
  Tensor result = Tensor::empty(labels.shape(), type);
  const Tensor list = labels.contiguous(), weights = options.weight.defined() ? options.weight.contiguous() : Tensor();
  dispatch_floating("label_weights", type, [&]<class T>() {
    const std::int64_t* label = list.data<std::int64_t>();
    const T* weight = weights.defined() ? weights.data<T>() : nullptr;
    T* out = result.write<T>("label_weights");
    for (Index r = 0; r < list.size(); ++r)
      out[r] = label[r] == options.ignore_index ? T(0) : weight ? weight[label[r]] : T(1);
  });
  return result;
}

namespace {

/// zeros [N, C] with -weight g[r] at each row's label: the gradient of nll, and its adjoint, which is nll itself.
Variable nll_gradient(const Variable& g, const Targets& targets);

Variable nll_of(const Variable& log_p, const Targets& targets) {
  const Tensor dense = log_p.value().contiguous();
  Tensor y = Tensor::empty({targets.rows()}, log_p.dtype());
  dispatch_floating("nll", log_p.dtype(), [&]<class T>() {
    const T* x = dense.data<T>();
    T* out = y.write<T>("nll");
    targets.for_rows<T>(0, targets.rows(), [&](Index r, const Targets::Row<T>& row) {
      out[r] = row.label < 0 ? T(0) : static_cast<T>(-row.here) * x[r * targets.classes() + row.label];
    });
  });
  if (!recording(log_p)) return y;
  return record("nll", std::move(y), {&log_p},
                [targets](const Variable& g, Wants) { return nll_gradient(g, targets); });
}

Variable nll_gradient(const Variable& g, const Targets& targets) {
  const Tensor dense = g.value().contiguous();
  Tensor dx = Tensor::zeros({targets.rows(), targets.classes()}, g.dtype());
  dispatch_floating("nll", g.dtype(), [&]<class T>() {
    const T* w = dense.data<T>();
    T* out = dx.write<T>("nll");
    targets.for_rows<T>(0, targets.rows(), [&](Index r, const Targets::Row<T>& row) {
      if (row.label >= 0) out[r * targets.classes() + row.label] = static_cast<T>(-row.here) * w[r];
    });
  });
  if (!recording(g)) return dx;
  return record("nll_backward", std::move(dx), {&g},
                [targets](const Variable& gg, Wants) { return nll_of(gg, targets); });
}

}  // namespace

Variable nll(const Variable& log_p, const Tensor& labels, const ClassOptions& options) {
  if (options.label_smoothing != 0)
    fail<ConfigError>("[nll] takes no label_smoothing, got ", options.label_smoothing,
                      ". Hint: softmax_cross_entropy() of the logits does");
  return nll_of(log_p, Targets("nll", log_p, labels, options));
}

namespace {

constexpr Index elements_per_chunk = 1 << 12;

/// y[i] = f(kernel(h(x[i])), x[i], t[i]), by chunks that stay in L1.
template <class H, class F>
Tensor map_between(const char* op, const kernels::UnaryKernel& kernel, const Tensor& x, const Tensor& t, H h, F f) {
  const Tensor in = x.contiguous(), other = t.contiguous();
  Tensor y = Tensor::empty(x.shape(), x.dtype());
  dispatch_floating(op, x.dtype(), [&]<class T>() {
    const T *v = in.data<T>(), *w = other.data<T>();
    T* out = y.write<T>(op);
    const auto run = kernel.get<T>();
    parallel_for(y.size(), elements_per_chunk, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) out[i] = h(v[i]);
      run(out + begin, out + begin, end - begin, T(1), std::numeric_limits<T>::infinity());
      for (Index i = begin; i < end; ++i) out[i] = f(out[i], v[i], w[i]);
    });
  });
  return y;
}

}  // namespace

Variable sigmoid_cross_entropy(const Variable& x, const Variable& target, const Tensor& pos_weight) {
  check_same_shape("sigmoid_cross_entropy", x, target);
  check_same_dtype("sigmoid_cross_entropy", x.value(), target.value());
  if (pos_weight.defined()) {
    check_same_dtype("sigmoid_cross_entropy", x.value(), pos_weight);
    if (!(broadcast_shapes("sigmoid_cross_entropy", x.shape(), pos_weight.shape()) == x.shape()))
      fail<ShapeError>("[sigmoid_cross_entropy] pos_weight ", pos_weight.shape(), " does not broadcast to input ",
                       x.shape());
    const Variable spread = softplus(neg(x), 1, std::numeric_limits<double>::infinity());
    const Variable weight = add(mul(target, affine(pos_weight, 1, -1)), Tensor::ones({}, x.dtype()));
    return add(mul(affine(target, -1, 1), x), mul(weight, spread));
  }
  // log(1 + exp(-|x|)) and the rest, which is a product: their difference would cancel.
  Tensor y = map_between(
      "sigmoid_cross_entropy", kernels::unary().softplus, x.value(), target.value(),
      [](auto v) { return -std::abs(v); }, [](auto s, auto v, auto t) { return (v > 0 ? (1 - t) * v : -t * v) + s; });
  if (!recording(x, target)) return y;
  return record("sigmoid_cross_entropy", std::move(y), {&x, &target},
                [x = Saved(x), t = Saved(target)](const Variable& g, Wants wants) {
                  auto of_x = [&]() -> Variable {
                    if (recording(g, x.get(), t.get())) return mul(g, sub(sigmoid(x.get()), t.get()));
                    return zip("sigmoid_cross_entropy", kernels::binary().mul, g.value(),
                               map_between(
                                   "sigmoid_cross_entropy", kernels::unary().sigmoid, x.value(), t.value(),
                                   [](auto v) { return v; }, [](auto s, auto, auto w) { return s - w; }));
                  };
                  return gradients(wants[0] ? of_x() : no_gradient(), wants[1] ? neg(mul(g, x.get())) : no_gradient());
                });
}

Variable huber(const Variable& x, double delta) {
  if (!(delta > 0)) fail<ConfigError>("[huber] delta must be above 0, got ", delta);
  Tensor y = map_with("huber", x.value(), [delta](auto v) {
    using T = decltype(v);
    const T d = static_cast<T>(delta), a = std::abs(v);
    return a <= d ? v * v / 2 : d * (a - d / 2);
  });
  if (!recording(x)) return y;
  return record("huber", std::move(y), {&x},
                [x = Saved(x), delta](const Variable& g, Wants) { return mul(g, clamp(x.get(), -delta, delta)); });
}

namespace {

/// A logarithm, at least -100.
template <class T>
T held(T logarithm) {
  return logarithm < -100 ? T(-100) : logarithm;
}

/// max(p (1 - p), 1e-12), the bound a single-precision constant in both precisions, as PyTorch has it.
Variable spread(const Variable& p) {
  return maximum(mul(p, affine(p, -1, 1)), Tensor::full({}, static_cast<double>(1e-12f), p.dtype()));
}

/// log(1 - p) - log p, each held. Its slope is -1 / (p (1 - p)), with the bound that the gradient by p has.
Variable log_odds(const Variable& p) {
  Tensor y =
      map_with("probability_cross_entropy", p.value(), [](auto v) { return held(std::log1p(-v)) - held(std::log(v)); });
  if (!recording(p)) return y;
  return record("log_odds", std::move(y), {&p},
                [p = Saved(p)](const Variable& g, Wants) { return neg(div(g, spread(p.get()))); });
}

}  // namespace

Variable probability_cross_entropy(const Variable& p, const Variable& target) {
  check_same_shape("probability_cross_entropy", p, target);
  Tensor y = zip_with("probability_cross_entropy", p.value(), target.value(), [](auto v, auto t) {
    if (v < 0 || v > 1) [[unlikely]]
      fail<ConfigError>("[probability_cross_entropy] a probability is ", static_cast<double>(v),
                        ", outside [0, 1]. Hint: binary_cross_entropy_with_logits() takes logits");
    return -(t * held(std::log(v)) + (1 - t) * held(std::log1p(-v)));
  });
  if (!recording(p, target)) return y;
  return record("probability_cross_entropy", std::move(y), {&p, &target},
                [p = Saved(p), t = Saved(target)](const Variable& g, Wants wants) {
                  return gradients(wants[0] ? mul(g, div(sub(p.get(), t.get()), spread(p.get()))) : no_gradient(),
                                   wants[1] ? mul(g, log_odds(p.get())) : no_gradient());
                });
}

}  // namespace espalier
