#include "espalier/autograd/ops/loss.h"

#include <algorithm>
#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/elementwise.h"
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

/// softmax(logits) - onehot(labels), row r times g[r].
Tensor cross_entropy_gradient(const Tensor& g, const Tensor& logits, const Tensor& labels) {
  const Tensor dense = logits.contiguous(), weights = g.contiguous();
  Tensor dx = Tensor::empty(logits.shape(), logits.dtype());
  const Index rows = logits.shape()[0], classes = logits.shape()[1];
  dispatch_floating("softmax_cross_entropy", logits.dtype(), [&]<class T>() {
    const T *x = dense.data<T>(), *w = weights.data<T>();
    const std::int64_t* label = labels.data<std::int64_t>();
    T* out = dx.write<T>("softmax_cross_entropy");
    const auto kernel = kernels::reduce<T>().cross_entropy_row;
    parallel_for(rows, rows_per_chunk, [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) kernel(x + r * classes, classes, label[r], out + r * classes, w[r]);
    });
  });
  return dx;
}

}  // namespace

Variable softmax_cross_entropy(const Variable& logits, const Tensor& labels) {
  if (logits.rank() != 2) fail<ShapeError>("[softmax_cross_entropy] logits must be [N, C], got ", logits.shape());
  const Index rows = logits.shape()[0], classes = logits.shape()[1];
  if (labels.rank() != 1 || labels.size() != rows)
    fail<ShapeError>("[softmax_cross_entropy] labels ", labels.shape(), " for logits ", logits.shape(),
                     "; they must be [", rows, "]");
  const Tensor label_list = labels.contiguous();
  const std::int64_t* label = label_list.data<std::int64_t>();
  for (Index r = 0; r < rows; ++r)
    if (label[r] < 0 || label[r] >= classes) [[unlikely]]
      fail<IndexError>("[softmax_cross_entropy] label ", label[r], " of row ", r, " is outside [0, ", classes, ")");
  const Tensor dense = logits.value().contiguous();
  Tensor y = Tensor::empty({rows}, logits.dtype());
  dispatch_floating("softmax_cross_entropy", logits.dtype(), [&]<class T>() {
    const T* x = dense.data<T>();
    T* out = y.write<T>("softmax_cross_entropy");
    const auto kernel = kernels::reduce<T>().cross_entropy_row;
    parallel_for(rows, rows_per_chunk, [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r)
        out[r] = static_cast<T>(kernel(x + r * classes, classes, label[r], nullptr, T(0)));
    });
  });
  if (!recording(logits)) return y;
  return record("softmax_cross_entropy", std::move(y), {&logits},
                [x = Saved(logits), label_list](const Variable& g, Wants) -> Variable {
                  const Variable& v = x.get();
                  if (!recording(g, v)) return cross_entropy_gradient(g.value(), v.value(), label_list);
                  Tensor one_hot = Tensor::zeros(v.shape(), v.dtype());
                  const std::int64_t* place = label_list.data<std::int64_t>();
                  for (Index r = 0; r < v.shape()[0]; ++r) one_hot.select(0, r).select(0, place[r]).fill(1);
                  return mul(sub(softmax(v, 1), one_hot), reshape(g, {v.shape()[0], 1}));
                });
}

Variable sigmoid_cross_entropy(const Variable& x, const Variable& target) {
  check_same_shape("sigmoid_cross_entropy", x, target);
  Tensor y = zip_with("sigmoid_cross_entropy", x.value(), target.value(),
                      [](auto v, auto t) { return (v < 0 ? 0 : v) - v * t + std::log1p(std::exp(-std::abs(v))); });
  if (!recording(x, target)) return y;
  return record("sigmoid_cross_entropy", std::move(y), {&x, &target},
                [x = Saved(x), t = Saved(target)](const Variable& g, Wants wants) {
                  return gradients(wants[0] ? mul(g, sub(sigmoid(x.get()), t.get())) : no_gradient(),
                                   wants[1] ? neg(mul(g, x.get())) : no_gradient());
                });
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
  Tensor y = zip_with("probability_cross_entropy", p.value(), target.value(),
                      [](auto v, auto t) { return -(t * held(std::log(v)) + (1 - t) * held(std::log1p(-v))); });
  if (!recording(p, target)) return y;
  return record("probability_cross_entropy", std::move(y), {&p, &target},
                [p = Saved(p), t = Saved(target)](const Variable& g, Wants wants) {
                  return gradients(wants[0] ? mul(g, div(sub(p.get(), t.get()), spread(p.get()))) : no_gradient(),
                                   wants[1] ? mul(g, log_odds(p.get())) : no_gradient());
                });
}

}  // namespace espalier
