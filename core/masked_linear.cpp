#include "espalier/core/masked_linear.h"

#include <algorithm>
#include <variant>
#include <vector>

#include "espalier/core/detail/race.h"
#include "espalier/core/detail/refreshed.h"
#include "espalier/core/kernels/sparse.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"
#include "espalier/core/storage.h"

namespace espalier {
namespace {

using detail::Refreshed;

template <class T>
struct Products {
  Refreshed<T> forward, backward;          // W, W^T
  std::vector<std::uint32_t> row, column;  // live entries row by row: row[r] to row[r + 1]
};

}  // namespace

struct MaskedLinear::Form {
  Index out, in;
  DType type;
  std::variant<Products<float>, Products<double>> products;

  template <class T>
  Products<T>& as() {
    return std::get<Products<T>>(products);
  }
};

MaskedLinear::MaskedLinear(Index out, Index in, DType type, std::span<const std::uint64_t> live) {
  if (out < 0 || in < 0 || static_cast<Index>(live.size()) != (out * in + 63) / 64)
    fail<ShapeError>("[masked_linear] ", live.size(), " words of live entries for ", Shape{out, in});
  if (out * in > Index{0xffffffff}) fail<ConfigError>("[masked_linear] ", out * in, " entries; at most 2^32 - 1");
  form_ = std::make_unique<Form>(Form{out, in, type, {}});
  const auto is_live = [&](Index i) { return live[static_cast<std::size_t>(i >> 6)] >> (i & 63) & 1; };
  dispatch_floating("masked_linear", type, [&]<class T>() {
    Products<T>& p = form_->products.template emplace<Products<T>>();
    p.forward.build(out, in, [&](Index r, Index c) { return is_live(r * in + c) ? r * in + c : -1; });
    p.backward.build(in, out, [&](Index r, Index c) { return is_live(c * in + r) ? c * in + r : -1; });
    p.row.push_back(0);
    for (Index r = 0; r < out; ++r) {
      for (Index c = 0; c < in; ++c)
        if (is_live(r * in + c)) p.column.push_back(static_cast<std::uint32_t>(c));
      p.row.push_back(static_cast<std::uint32_t>(p.column.size()));
    }
  });
}

MaskedLinear::~MaskedLinear() = default;
MaskedLinear::MaskedLinear(MaskedLinear&&) noexcept = default;
MaskedLinear& MaskedLinear::operator=(MaskedLinear&&) noexcept = default;

void MaskedLinear::refresh(const Tensor& weight) {
  if (!(weight.shape() == Shape{form_->out, form_->in}) || !weight.is_contiguous())
    fail<ShapeError>("[masked_linear] weight ", weight.shape(), " must be ", Shape{form_->out, form_->in},
                     " and contiguous");
  dispatch_floating("masked_linear", form_->type, [&]<class T>() {
    const T* values = weight.data<T>();
    form_->as<T>().forward.refresh(values);
    form_->as<T>().backward.refresh(values);
  });
}

namespace {

template <class T>
Tensor product(const kernels::SparseMatrix<T>& w, const Tensor& x, const Tensor* bias) {
  if (x.rank() != 2 || x.shape()[1] != w.columns)
    fail<ShapeError>("[masked_linear] ", x.shape(), " for a weight of ", w.rows, " x ", w.columns);
  const Tensor from = x.contiguous(), shift = bias ? bias->contiguous() : Tensor();
  Tensor y = Tensor::empty({x.shape()[0], w.rows}, dtype_of<T>);
  kernels::sparse_linear(w, from.data<T>(), x.shape()[0], bias ? shift.data<T>() : nullptr, y.write<T>("linear"));
  return y;
}

/// Samples [first, first + count) of x [N, width] as a panel [width, length], zeros behind the last.
template <class T>
void panel_of(const T* x, Index first, Index count, Index width, T* panel, Index length) {
  constexpr Index part = 512;
  parallel_for(width, part, [&](Index begin, Index end) {
    if (count < length) std::fill_n(panel + begin * length, (end - begin) * length, T(0));
    kernels::to_panel(x + first * width + begin, width, count, end - begin, panel + begin * length, length);
  });
}

}  // namespace

Tensor MaskedLinear::linear(const Tensor& x, const Tensor* bias) const {
  return dispatch_floating("linear", form_->type,
                           [&]<class T>() { return product(form_->as<T>().forward.matrix, x, bias); });
}

Tensor MaskedLinear::input_gradient(const Tensor& g) const {
  return dispatch_floating("linear", form_->type,
                           [&]<class T>() { return product(form_->as<T>().backward.matrix, g, nullptr); });
}

Tensor MaskedLinear::weight_gradient(const Tensor& g, const Tensor& x) const {
  const Index out = form_->out, in = form_->in, batch = x.rank() == 2 ? x.shape()[0] : -1;
  if (!(x.shape() == Shape{batch, in}) || !(g.shape() == Shape{batch, out}))
    fail<ShapeError>("[masked_linear] g ", g.shape(), " and x ", x.shape(), " for a weight ", Shape{out, in});
  Tensor gradient = Tensor::zeros({out, in}, form_->type);
  const Tensor gs = g.contiguous(), xs = x.contiguous();
  dispatch_floating("linear", form_->type, [&]<class T>() {
    const Products<T>& p = form_->as<T>();
    T* const to = gradient.write<T>("linear");
    const Index most = kernels::panel_length<T>(batch);
    const StoragePtr room(Storage::take(static_cast<std::uint64_t>(most * (in + out)) * sizeof(T)));
    T *const xt = reinterpret_cast<T*>(room->data()), *const gt = xt + most * in;
    const Index rows = std::clamp<Index>((Index{1} << 14) * out / (static_cast<Index>(p.column.size()) + 1), 1, 256);
    std::vector<T> sums(p.column.size());
    for (Index first = 0; first < batch; first += most) {
      const Index samples = std::min(most, batch - first), length = kernels::panel_length<T>(samples);
      panel_of(xs.data<T>(), first, samples, in, xt, length);
      panel_of(gs.data<T>(), first, samples, out, gt, length);
      parallel_for(out, rows, [&](Index begin, Index end) {
        for (Index r = begin; r < end; ++r) {
          const std::uint32_t k = p.row[static_cast<std::size_t>(r)];
          kernels::add_dots(gt + r * length, xt, p.column.data() + k,
                            static_cast<Index>(p.row[static_cast<std::size_t>(r) + 1] - k), length, sums.data() + k);
        }
      });
    }
    parallel_for(out, rows, [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r)
        for (std::uint32_t k = p.row[static_cast<std::size_t>(r)]; k < p.row[static_cast<std::size_t>(r) + 1]; ++k)
          to[r * in + p.column[k]] = sums[k];
    });
  });
  return gradient;
}

bool sparse_training_is_faster(Index out, Index in, DType type, std::span<const std::uint64_t> live, Index batch) {
  constexpr double margin = 1.10;
  const ThreadLimit alone(1);
  MaskedLinear sparse(out, in, type, live);
  const Tensor w = Tensor::ones({out, in}, type), x = Tensor::ones({batch, in}, type),
               g = Tensor::ones({batch, out}, type);
  const std::vector<double> times = detail::race({[&] {
                                                    linear(x, w, nullptr);
                                                    matmul(g, w);
                                                    matmul(g.t(), x);
                                                  },
                                                  [&] {
                                                    sparse.refresh(w);
                                                    sparse.linear(x, nullptr);
                                                    sparse.input_gradient(g);
                                                    sparse.weight_gradient(g, x);
                                                  }});
  return times[0] >= margin * times[1];
}

}  // namespace espalier
