#include "espalier/core/recurrent.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

#include "espalier/core/detail/scratch.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/own_gemm.h"
#include "espalier/core/kernels/recurrent.h"
#include "espalier/core/masked_linear.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/core/reduce.h"

namespace espalier {

namespace {
const kernels::CellKernel& tanh_kernel() noexcept { return kernels::cells().rnn_tanh; }
const kernels::CellKernel& relu_kernel() noexcept { return kernels::cells().rnn_relu; }
const kernels::CellKernel& lstm_kernel() noexcept { return kernels::cells().lstm; }
const kernels::CellKernel& gru_kernel() noexcept { return kernels::cells().gru; }
}  // namespace

namespace cell_kinds {
const RecurrentCell& rnn_tanh() noexcept {
  static constexpr RecurrentCell cell{"rnn", 1, false, false, false, tanh_kernel};
  return cell;
}
const RecurrentCell& rnn_relu() noexcept {
  static constexpr RecurrentCell cell{"rnn", 1, false, false, false, relu_kernel};
  return cell;
}
const RecurrentCell& lstm() noexcept {
  static constexpr RecurrentCell cell{"lstm", 4, true, true, false, lstm_kernel};
  return cell;
}
const RecurrentCell& gru() noexcept {
  static constexpr RecurrentCell cell{"gru", 3, false, true, true, gru_kernel};
  return cell;
}
}  // namespace cell_kinds

namespace {

// --- arguments ------------------------------------------------------------------------------------------------------

void check_state(const char* op, const char* what, const Tensor& state, const Shape& shape, const Tensor& x) {
  if (!state.defined()) return;
  check_same_dtype(op, x, state);
  if (!(state.shape() == shape))
    fail<ShapeError>("[", op, "] state ", what, " ", state.shape(), " does not fit x ", x.shape(), "; it must be ",
                     shape, ", one row for each sequence. Hint: leave it out to start at 0");
}

void check_bias(const char* op, const char* what, const Tensor& bias, Index rows, const Tensor& x) {
  if (!bias.defined()) return;
  check_same_dtype(op, x, bias);
  if (bias.rank() != 1 || bias.size() != rows)
    fail<ShapeError>("[", op, "] ", what, " ", bias.shape(), " must be ", Shape{rows},
                     ", one value for each row of the weights");
}

}  // namespace

void check_recurrent(const char* op, const RecurrentCell& cell, const RecurrentArguments& a, bool one_step) {
  if (a.x.rank() != (one_step ? 2 : 3))
    fail<ShapeError>("[", op, "] x ", a.x.shape(), " must be ",
                     one_step        ? "[N, in]"
                     : a.batch_first ? "[N, T, in]"
                                     : "[T, N, in]",
                     ". Hint: unsqueeze() what is a single one");
  dispatch_floating(op, a.x.dtype(), []<class T>() {});
  check_same_dtype(op, a.x, a.weight_ih);
  check_same_dtype(op, a.x, a.weight_hh);
  if (a.weight_hh.rank() != 2 || a.weight_hh.shape()[0] != cell.gates * a.weight_hh.shape()[1])
    fail<ShapeError>("[", op, "] weight_hh ", a.weight_hh.shape(), " must be [", cell.gates, " * hidden, hidden]");
  const Index rows = a.weight_hh.shape()[0], hidden = a.weight_hh.shape()[1], in = a.x.shape()[-1];
  if (!(a.weight_ih.shape() == Shape{rows, in}))
    fail<ShapeError>("[", op, "] weight_ih ", a.weight_ih.shape(), " does not fit x ", a.x.shape(), " and weight_hh ",
                     a.weight_hh.shape(), "; it must be ", Shape{rows, in});
  check_bias(op, "bias_ih", a.bias_ih, rows, a.x);
  check_bias(op, "bias_hh", a.bias_hh, rows, a.x);
  const Index batch = a.x.shape()[one_step || a.batch_first ? 0 : 1];
  check_state(op, "h", a.h, {batch, hidden}, a.x);
  if (cell.carries_cell) check_state(op, "c", a.c, {batch, hidden}, a.x);
  if (!a.lengths.defined()) return;
  if (a.lengths.dtype() != DType::i64)
    fail<DTypeError>("[", op, "] lengths must be i64, got ", a.lengths.dtype(), ". Hint: .to(DType::i64)");
  if (!(a.lengths.shape() == Shape{batch}))
    fail<ShapeError>("[", op, "] lengths ", a.lengths.shape(), " for x ", a.x.shape(), "; they must be ", Shape{batch},
                     ", one for each sequence");
  const std::vector<std::int64_t> lengths = a.lengths.to_vector<std::int64_t>();
  const Index steps = a.x.shape()[a.batch_first ? 1 : 0];
  for (std::size_t n = 0; n < lengths.size(); ++n)
    if (lengths[n] < 0 || lengths[n] > steps)
      fail<IndexError>("[", op, "] length ", lengths[n], " of sequence ", n, " is outside [0, ", steps,
                       "], the steps of x ", a.x.shape());
}

namespace {

SequenceLayout layout_of(const RecurrentArguments& a) {
  SequenceLayout layout;
  layout.batch = a.x.shape()[a.batch_first ? 0 : 1];
  layout.steps = a.x.shape()[a.batch_first ? 1 : 0];
  layout.rows = layout.batch * layout.steps;
  layout.step_stride = a.batch_first ? 1 : layout.batch;
  layout.batch_stride = a.batch_first ? layout.steps : 1;
  if (!a.lengths.defined()) return layout;
  const std::vector<std::int64_t> lengths = a.lengths.to_vector<std::int64_t>();
  if (std::all_of(lengths.begin(), lengths.end(), [&](Index length) { return length == layout.steps; })) return layout;
  layout.order.resize(lengths.size());
  std::iota(layout.order.begin(), layout.order.end(), Index{0});
  auto length_of = [&](Index n) { return lengths[static_cast<std::size_t>(n)]; };
  std::stable_sort(layout.order.begin(), layout.order.end(),
                   [&](Index m, Index n) { return length_of(m) > length_of(n); });
  Index running = layout.batch, row = 0;
  for (Index t = 0; t < layout.steps; ++t) {
    while (running > 0 && length_of(layout.order[static_cast<std::size_t>(running - 1)]) <= t) --running;
    layout.active.push_back(running);
    layout.first_row.push_back(row);
    row += running;
  }
  layout.rows = row;
  layout.batch_stride = 1;
  return layout;
}

/// Sequences [begin, end) of the sorted order that run at step t, counted from `begin`.
Index running_at(const SequenceLayout& layout, Index t, Index begin, Index end) {
  if (!layout.ragged()) return end - begin;
  return std::max<Index>(0, std::min(end, layout.active[static_cast<std::size_t>(t)]) - begin);
}
Index row_of(const SequenceLayout& layout, Index t, Index n) {
  return layout.ragged() ? layout.first_row[static_cast<std::size_t>(t)] + n
                         : t * layout.step_stride + n * layout.batch_stride;
}
Index sequence_of(const SequenceLayout& layout, Index n) {
  return layout.ragged() ? layout.order[static_cast<std::size_t>(n)] : n;
}

/// Between the user's [T, N, width] (or [N, T, width]) and the rows of a ragged layout.
template <class T, class F>
void for_ragged_rows(const SequenceLayout& layout, const Tensor& user, bool batch_first, F&& f) {
  const Index step = user.strides()[batch_first ? 1 : 0], sequence = user.strides()[batch_first ? 0 : 1];
  parallel_for(layout.steps, 16, [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index n = 0; n < running_at(layout, t, 0, layout.batch); ++n)
        f(row_of(layout, t, n), t * step + sequence_of(layout, n) * sequence);
  });
}

/// x as [rows, in] in the order of the layout; no copy where it lies so already.
Tensor to_rows(const SequenceLayout& layout, const Tensor& x, bool batch_first) {
  const Index width = x.shape()[2];
  if (!layout.ragged()) return x.reshape({layout.rows, width});
  const Tensor dense = x.contiguous();
  Tensor rows = Tensor::empty({layout.rows, width}, x.dtype());
  dispatch_floating("recurrent", x.dtype(), [&]<class T>() {
    const T* from = dense.data<T>();
    T* to = rows.write<T>("recurrent");
    for_ragged_rows<T>(layout, dense, batch_first,
                       [&](Index row, Index at) { std::copy_n(from + at, width, to + row * width); });
  });
  return rows;
}
/// The way back, with zeros behind the ends.
Tensor from_rows(const SequenceLayout& layout, const Tensor& rows, const Shape& shape, bool batch_first) {
  if (!layout.ragged()) return rows.reshape(shape);
  const Index width = shape[2];
  Tensor x = Tensor::zeros(shape, rows.dtype());
  dispatch_floating("recurrent", rows.dtype(), [&]<class T>() {
    const T* from = rows.data<T>();
    T* to = x.write<T>("recurrent");
    for_ragged_rows<T>(layout, x, batch_first,
                       [&](Index row, Index at) { std::copy_n(from + row * width, width, to + at); });
  });
  return x;
}

/// The bias of the input projections: both together, but for the gate whose recurrent bias stays with the product.
Tensor joint_bias(const RecurrentCell& cell, const RecurrentArguments& a, Index hidden) {
  if (!a.bias_ih.defined() && !a.bias_hh.defined()) return {};
  Tensor bias = Tensor::zeros({cell.gates * hidden}, a.x.dtype());
  if (a.bias_ih.defined()) add_in_place(bias, a.bias_ih);
  if (a.bias_hh.defined()) {
    const Index shared = (cell.gates - (cell.split_bias ? 1 : 0)) * hidden;
    Tensor part = bias.narrow(0, 0, shared);
    add_in_place(part, a.bias_hh.narrow(0, 0, shared));
  }
  return bias;
}

/// Sequences that one thread takes at a time: about 16, in chunks of one length.
Index sequences_per_chunk(Index batch) {
  constexpr Index most = 16;
  return std::max<Index>(1, detail::chunk_count(batch, std::max<Index>(1, detail::chunk_count(batch, most))));
}

/// Room of a thread for the states of its sequences, or what is of their size. Rows are padded, so that they do not crowd
/// into few sets of the cache.
template <class T>
struct PaddedRows {
  PaddedRows(Index rows, Index width) : stride(width + 64 / static_cast<Index>(sizeof(T))), values(rows * stride) {}
  T* data() const { return values.data(); }
  T* row(Index n) const { return data() + n * stride; }
  /// Rows of [N, width] in sorted order, or zeros.
  void load(const SequenceLayout& layout, const T* from, Index width, Index begin, Index end) const {
    for (Index n = begin; n < end; ++n) {
      if (from)
        std::copy_n(from + sequence_of(layout, n) * width, width, row(n - begin));
      else
        std::fill_n(row(n - begin), width, T(0));
    }
  }
  void store(const SequenceLayout& layout, T* to, Index width, Index begin, Index end) const {
    for (Index n = begin; n < end; ++n) std::copy_n(row(n - begin), width, to + sequence_of(layout, n) * width);
  }
  Index stride;
  detail::Scratch<T> values;
};

template <class T>
const T* values_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}
template <class T>
T* write_or_null(Tensor& t) {
  return t.defined() ? t.write<T>("recurrent") : nullptr;
}
Tensor dense_or_undefined(const Tensor& t) { return t.defined() ? t.contiguous() : Tensor(); }

template <class T>
T* advanced(T* p, Index offset) {
  return p ? p + offset : nullptr;
}

template <class T>
const kernels::CellLoops<T>& loops_of(const RecurrentCell& cell) {
  return cell.kernel().template get<T>();
}

/// A weight [out, in] in the products of a sequence: x W^T, or backward x W. A dense one is laid out once, which is
/// faster than the general product, for that packs for every tile anew. Else the kernels of what the weight is packed in
/// multiply, or those of its live entries.
template <class T>
class WeightProduct {
 public:
  /// `products`: of the live entries, or null.
  WeightProduct(const Tensor& weight, const MaskedLinear* products, bool backward)
      : weight_(weight),
        products_(products),
        backward_(backward),
        inner_(weight.shape()[backward ? 0 : 1]),
        width_(weight.shape()[backward ? 1 : 0]) {
    if (products || weight.packed()) return;
    dense_ = weight.contiguous();
    const kernels::Operand<T> operand{dense_.data<T>(), std::max<Index>(1, dense_.shape()[1]), !backward};
    laid_out_.emplace(operand, inner_, width_);
  }

  /// All rows of a sequence [rows, inner] -> [rows, width]. Bias may be undefined.
  Tensor of_all(const Tensor& x, const Tensor& bias) const {
    if (!laid_out_) return of_entries(x, bias.defined() ? &bias : nullptr);
    constexpr Index block = 48;  // whole blocks of the kernel; a few hundred KB of x at most
    const Tensor from = x.contiguous();
    Tensor y = Tensor::empty({x.shape()[0], width_}, dtype_of<T>);
    const T* const source = from.data<T>();
    T* const target = y.write<T>("recurrent");
    parallel_for(x.shape()[0], block, [&](Index begin, Index end) {
      laid_out_->multiply(end - begin, source + begin * inner_, inner_, target + begin * width_, width_, false,
                          values_or_null<T>(bias));
    });
    return y;
  }

  /// Some rows of one step; adds to `y` if it is to accumulate.
  void of_step(Index m, const PaddedRows<T>& x, const PaddedRows<T>& y, bool accumulate) const {
    if (laid_out_) return laid_out_->multiply(m, x.data(), x.stride, y.data(), y.stride, accumulate);
    Tensor rows = Tensor::empty({m, inner_}, dtype_of<T>);
    T* const to = rows.write<T>("recurrent");
    for (Index n = 0; n < m; ++n) std::copy_n(x.row(n), inner_, to + n * inner_);
    const Tensor result = of_entries(rows, nullptr);
    const T* from = result.data<T>();
    for (Index n = 0; n < m; ++n, from += width_) {
      if (accumulate)
        std::transform(from, from + width_, y.row(n), y.row(n), std::plus<T>());
      else
        std::copy_n(from, width_, y.row(n));
    }
  }

 private:
  Tensor of_entries(const Tensor& x, const Tensor* bias) const {
    if (!products_) return linear(x, weight_, bias);
    return backward_ ? products_->input_gradient(x) : products_->linear(x, bias);
  }

  Tensor weight_, dense_;
  const MaskedLinear* products_;
  bool backward_;
  Index inner_, width_;
  std::optional<kernels::Prepacked<T>> laid_out_;
};

template <class T>
void run_forward(const RecurrentCell& cell, const RecurrentArguments& a, const SequenceLayout& layout, Tensor& gates,
                 RecurrentTrace* trace, RecurrentOutput& out) {
  const Index hidden = a.weight_hh.shape()[1], width = cell.gates * hidden;
  const Tensor h0 = dense_or_undefined(a.h), c0 = cell.carries_cell ? dense_or_undefined(a.c) : Tensor();
  const Tensor bias = cell.split_bias ? dense_or_undefined(a.bias_hh) : Tensor();
  const WeightProduct<T> product(a.weight_hh, a.products_hh, false);
  T* const g = gates.write<T>("recurrent");
  T *const h_before = trace ? trace->h_before.write<T>("recurrent") : nullptr,
           *const c_before = trace ? write_or_null<T>(trace->c_before) : nullptr,
           *const inner = trace ? write_or_null<T>(trace->inner) : nullptr;
  T *const y = out.y.write<T>("recurrent"), *const h_last = out.h.write<T>("recurrent"),
           *const c_last = write_or_null<T>(out.c);
  const Index y_step = out.y.strides()[a.batch_first ? 1 : 0], y_batch = out.y.strides()[a.batch_first ? 0 : 1];
  const auto loop = loops_of<T>(cell).forward;
  parallel_for(layout.batch, sequences_per_chunk(layout.batch), [&](Index begin, Index end) {
    const PaddedRows<T> h(end - begin, hidden), c(cell.carries_cell ? end - begin : 0, hidden), p(end - begin, width);
    h.load(layout, values_or_null<T>(h0), hidden, begin, end);
    if (cell.carries_cell) c.load(layout, values_or_null<T>(c0), hidden, begin, end);
    for (Index s = 0; s < layout.steps; ++s) {
      const Index t = a.reverse ? layout.steps - 1 - s : s;
      const Index running = running_at(layout, t, begin, end);
      if (running == 0) continue;
      product.of_step(running, h, p, false);
      for (Index n = 0; n < running; ++n) {
        const Index row = row_of(layout, t, begin + n);
        loop({.hidden = hidden,
              .a = g + row * width,
              .product = p.row(n),
              .bias = advanced(values_or_null<T>(bias), (cell.gates - 1) * hidden),
              .h = h.row(n),
              .c = cell.carries_cell ? c.row(n) : nullptr,
              .gates = trace ? g + row * width : nullptr,
              .h_before = advanced(h_before, row * hidden),
              .c_before = advanced(c_before, row * hidden),
              .inner = advanced(inner, row * hidden)});
        std::copy_n(h.row(n), hidden, y + t * y_step + sequence_of(layout, begin + n) * y_batch);
      }
    }
    h.store(layout, h_last, hidden, begin, end);
    if (c_last) c.store(layout, c_last, hidden, begin, end);
  });
}

}  // namespace

RecurrentOutput recurrent_forward(const RecurrentCell& cell, const RecurrentArguments& a, RecurrentTrace* trace) {
  check_recurrent(cell.name, cell, a);
  const SequenceLayout layout = layout_of(a);
  const Index hidden = a.weight_hh.shape()[1];
  const DType type = a.x.dtype();
  const Tensor bias = joint_bias(cell, a, hidden);
  Tensor gates = dispatch_floating(cell.name, type, [&]<class T>() {
    return WeightProduct<T>(a.weight_ih, a.products_ih, false).of_all(to_rows(layout, a.x, a.batch_first), bias);
  });
  Shape shape = a.x.shape();
  shape[2] = hidden;
  RecurrentOutput out;
  out.y = layout.ragged() ? Tensor::zeros(shape, type) : Tensor::empty(shape, type);
  out.h = Tensor::empty({layout.batch, hidden}, type);
  if (cell.carries_cell) out.c = Tensor::empty({layout.batch, hidden}, type);
  if (trace) {
    trace->layout = layout;
    trace->gates = gates;
    trace->h_before = Tensor::empty({layout.rows, hidden}, type);
    if (cell.carries_cell) trace->c_before = Tensor::empty({layout.rows, hidden}, type);
    if (cell.inner_kept) trace->inner = Tensor::empty({layout.rows, hidden}, type);
  }
  dispatch_floating(cell.name, type, [&]<class T>() { run_forward<T>(cell, a, layout, gates, trace, out); });
  return out;
}

namespace {

/// Gradients of the input projections and of the products, for all rows, and those of the first states.
struct Unrolled {
  Tensor a, product, h, c;
};

template <class T>
void run_backward(const RecurrentCell& cell, const RecurrentArguments& a, const RecurrentTrace& trace,
                  const RecurrentOutput& gradients, Unrolled& out) {
  const SequenceLayout& layout = trace.layout;
  const Index hidden = a.weight_hh.shape()[1], width = a.weight_hh.shape()[0];
  const WeightProduct<T> product(a.weight_hh, a.products_hh, true);
  const Tensor dy = dense_or_undefined(gradients.y), dh_last = dense_or_undefined(gradients.h),
               dc_last = dense_or_undefined(gradients.c);
  const Index y_step = dy.defined() ? dy.strides()[a.batch_first ? 1 : 0] : 0,
              y_batch = dy.defined() ? dy.strides()[a.batch_first ? 0 : 1] : 0;
  const T* const from_y = values_or_null<T>(dy);
  const T *const gates = trace.gates.data<T>(), *const h_before = trace.h_before.data<T>(),
                 *const c_before = values_or_null<T>(trace.c_before), *const inner = values_or_null<T>(trace.inner);
  T *const da = out.a.write<T>("recurrent"), *const dh0 = out.h.write<T>("recurrent"),
           *const dc0 = write_or_null<T>(out.c);
  T* const dproduct = cell.split_bias ? out.product.write<T>("recurrent") : nullptr;
  const auto loop = loops_of<T>(cell).backward;
  parallel_for(layout.batch, sequences_per_chunk(layout.batch), [&](Index begin, Index end) {
    const PaddedRows<T> dh(end - begin, hidden), dc(cell.carries_cell ? end - begin : 0, hidden), g(end - begin, width);
    dh.load(layout, values_or_null<T>(dh_last), hidden, begin, end);
    if (cell.carries_cell) dc.load(layout, values_or_null<T>(dc_last), hidden, begin, end);
    for (Index s = 0; s < layout.steps; ++s) {
      const Index t = a.reverse ? s : layout.steps - 1 - s;
      const Index running = running_at(layout, t, begin, end);
      if (running == 0) continue;
      for (Index n = 0; n < running; ++n) {
        const Index row = row_of(layout, t, begin + n);
        T* const to = dproduct ? dproduct : da;
        loop({.hidden = hidden,
              .gates = gates + row * width,
              .h_before = h_before + row * hidden,
              .c_before = advanced(c_before, row * hidden),
              .inner = advanced(inner, row * hidden),
              .dy = advanced(from_y, t * y_step + sequence_of(layout, begin + n) * y_batch),
              .dh = dh.row(n),
              .dc = cell.carries_cell ? dc.row(n) : nullptr,
              .da = da + row * width,
              .dproduct = to + row * width});
        std::copy_n(to + row * width, width, g.row(n));
      }
      product.of_step(running, g, dh, cell.split_bias);
    }
    dh.store(layout, dh0, hidden, begin, end);
    if (dc0) dc.store(layout, dc0, hidden, begin, end);
  });
}

}  // namespace

RecurrentGradients recurrent_backward(const RecurrentCell& cell, const RecurrentArguments& a,
                                      const RecurrentTrace& trace, const RecurrentOutput& gradients,
                                      const RecurrentWants& wants) {
  const SequenceLayout& layout = trace.layout;
  const Index hidden = a.weight_hh.shape()[1], width = a.weight_hh.shape()[0];
  const DType type = a.x.dtype();
  Unrolled u;
  u.a = Tensor::empty({layout.rows, width}, type);
  u.product = cell.split_bias ? Tensor::empty({layout.rows, width}, type) : u.a;
  u.h = Tensor::empty({layout.batch, hidden}, type);
  if (cell.carries_cell) u.c = Tensor::empty({layout.batch, hidden}, type);
  dispatch_floating(cell.name, type, [&]<class T>() { run_backward<T>(cell, a, trace, gradients, u); });

  RecurrentGradients d;
  if (wants.h) d.h = u.h;
  if (wants.c) d.c = u.c;
  if (wants.x) {
    const Tensor rows = dispatch_floating(
        cell.name, type, [&]<class T>() { return WeightProduct<T>(a.weight_ih, a.products_ih, true).of_all(u.a, {}); });
    d.x = from_rows(layout, rows, a.x.shape(), a.batch_first);
  }
  auto weight_gradient = [&](const MaskedLinear* products, const Tensor& g, const Tensor& x) {
    return products && !wants.pruned_weights ? products->weight_gradient(g, x) : matmul(g.t(), x);
  };
  if (wants.weight_ih) d.weight_ih = weight_gradient(a.products_ih, u.a, to_rows(layout, a.x, a.batch_first));
  if (wants.weight_hh) d.weight_hh = weight_gradient(a.products_hh, u.product, trace.h_before);
  if (wants.bias_ih) d.bias_ih = sum(u.a, {0});
  if (wants.bias_hh) d.bias_hh = d.bias_ih.defined() && !cell.split_bias ? d.bias_ih.clone() : sum(u.product, {0});
  return d;
}

// --- one step -------------------------------------------------------------------------------------------------------

namespace {
constexpr Index rows_per_chunk(Index width) { return std::max<Index>(1, (Index{1} << 13) / std::max<Index>(1, width)); }
}  // namespace

RecurrentOutput cell_forward(const RecurrentCell& cell, const Tensor& a, const Tensor& product, const Tensor& h,
                             const Tensor& c, RecurrentTrace* trace) {
  const Index batch = h.shape()[0], hidden = h.shape()[1], width = cell.gates * hidden;
  const Tensor from = a.contiguous(), products = product.contiguous();
  RecurrentOutput out;
  out.h = h.clone();
  if (cell.carries_cell) out.c = c.clone();
  if (trace) {
    trace->gates = Tensor::empty(a.shape(), a.dtype());
    trace->h_before = h.contiguous();
    if (cell.carries_cell) trace->c_before = c.contiguous();
    if (cell.inner_kept) trace->inner = Tensor::empty(h.shape(), h.dtype());
  }
  dispatch_floating(cell.name, h.dtype(), [&]<class T>() {
    T *const next = out.h.write<T>(cell.name), *const next_c = write_or_null<T>(out.c);
    T *const gates = trace ? trace->gates.write<T>(cell.name) : nullptr, *const inner =
                                                                             trace ? write_or_null<T>(trace->inner)
                                                                                   : nullptr;
    const T *const xs = from.data<T>(), *const ps = products.data<T>();
    const auto loop = loops_of<T>(cell).forward;
    parallel_for(batch, rows_per_chunk(width), [&](Index begin, Index end) {
      for (Index n = begin; n < end; ++n)
        loop({.hidden = hidden,
              .a = xs + n * width,
              .product = ps + n * width,
              .bias = nullptr,
              .h = next + n * hidden,
              .c = advanced(next_c, n * hidden),
              .gates = advanced(gates, n * width),
              .h_before = nullptr,
              .c_before = nullptr,
              .inner = advanced(inner, n * hidden)});
    });
  });
  return out;
}

CellGradients cell_backward(const RecurrentCell& cell, const RecurrentTrace& trace, const Tensor& dh,
                            const Tensor& dc) {
  const Shape& shape = trace.h_before.shape();
  const Index batch = shape[0], hidden = shape[1], width = cell.gates * hidden;
  const DType type = trace.gates.dtype();
  auto copy_or_zeros = [&](const Tensor& t) { return t.defined() ? t.clone() : Tensor::zeros(shape, type); };
  CellGradients d;
  d.h = copy_or_zeros(dh);
  if (cell.carries_cell) d.c = copy_or_zeros(dc);
  d.a = Tensor::empty(trace.gates.shape(), type);
  d.product = cell.split_bias ? Tensor::empty(trace.gates.shape(), type) : d.a;
  dispatch_floating(cell.name, type, [&]<class T>() {
    T *const h = d.h.write<T>(cell.name), *const c = write_or_null<T>(d.c), *const da = d.a.write<T>(cell.name),
             *const dp = cell.split_bias ? d.product.write<T>(cell.name) : nullptr;
    const T *const gates = trace.gates.data<T>(), *const h_before = trace.h_before.data<T>(),
                   *const c_before = values_or_null<T>(trace.c_before), *const inner = values_or_null<T>(trace.inner);
    const auto loop = loops_of<T>(cell).backward;
    parallel_for(batch, rows_per_chunk(width), [&](Index begin, Index end) {
      for (Index n = begin; n < end; ++n)
        loop({.hidden = hidden,
              .gates = gates + n * width,
              .h_before = h_before + n * hidden,
              .c_before = advanced(c_before, n * hidden),
              .inner = advanced(inner, n * hidden),
              .dy = nullptr,
              .dh = h + n * hidden,
              .dc = advanced(c, n * hidden),
              .da = da + n * width,
              .dproduct = advanced(dp, n * width)});
    });
  });
  return d;
}

}  // namespace espalier
