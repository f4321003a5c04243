#include "espalier/core/packed_linear.h"

#include <algorithm>
#include <chrono>
#include <variant>
#include <vector>

#include "espalier/core/kernels/gemm.h"
#include "espalier/core/kernels/sparse.h"
#include "espalier/core/parallel.h"

namespace espalier {

struct PackedLinear::Form {
  std::variant<std::monostate, kernels::SparseMatrix<float>, kernels::SparseMatrix<double>> sparse;
  Tensor dense;  // undefined if no class needs it

  template <class T>
  const kernels::SparseMatrix<T>& as() const {
    return std::get<kernels::SparseMatrix<T>>(sparse);
  }
};

namespace {

Tensor checked_weight(const Tensor& weight) {
  if (weight.rank() != 2) fail<ShapeError>("[packed_linear] weight must be [out, in], got ", weight.shape());
  return weight.densify().contiguous();
}

template <class T>
void dense_linear(const T* w, Index out, Index in, const T* x, Index batch, const T* bias, T* y) {
  kernels::gemm<T>(batch, out, in, T(1), {x, in}, {w, in, true}, T(0), y, out, {bias, false});
}

template <class T>
Index count_live(const Tensor& weight) {
  const T* w = weight.data<T>();
  return weight.size() - std::count(w, w + weight.size(), T(0));
}

}  // namespace

const char* name_of(KernelChoice choice) noexcept { return choice == KernelChoice::dense ? "dense" : "sparse"; }

PackedLinear::PackedLinear(const Tensor& weight, KernelChoices choices)
    : shape_(weight.shape()), type_(weight.dtype()), choices_(choices) {
  const Tensor dense = checked_weight(weight);
  auto form = std::make_unique<Form>();
  dispatch_floating("packed_linear", type_, [&]<class T>() {
    if (choices.any(KernelChoice::sparse)) {
      form->sparse = kernels::to_sparse(dense.data<T>(), shape_[0], shape_[1]);
      live_ = form->template as<T>().live();
    } else {
      live_ = count_live<T>(dense);
    }
  });
  if (choices.any(KernelChoice::dense)) form->dense = dense.shares_storage(weight) ? dense.clone() : dense;
  form_ = std::move(form);
}

PackedLinear::~PackedLinear() = default;

Index PackedLinear::bytes() const noexcept {
  Index sum = form_->dense.defined() ? form_->dense.size() * size_of(type_) : 0;
  if (const auto* s = std::get_if<kernels::SparseMatrix<float>>(&form_->sparse)) sum += s->bytes();
  if (const auto* s = std::get_if<kernels::SparseMatrix<double>>(&form_->sparse)) sum += s->bytes();
  return sum;
}

Tensor PackedLinear::linear(const Tensor& x, const Tensor* bias) const {
  const Index out = shape_[0], in = shape_[1];
  if (x.rank() != 2 || x.shape()[1] != in)
    fail<ShapeError>("[linear] x ", x.shape(), " does not fit the packed weight ", shape_, "; it must be [N, ", in,
                     "]");
  if (x.dtype() != type_)
    fail<DTypeError>("[linear] x is ", x.dtype(), ", the packed weight ", type_, ". Hint: .to(", type_, ")");
  if (bias && (bias->rank() != 1 || bias->shape()[0] != out))
    fail<ShapeError>("[linear] bias ", bias->shape(), " does not fit the packed weight ", shape_, "; it must be [", out,
                     "]");
  if (bias && bias->dtype() != type_)
    fail<DTypeError>("[linear] bias is ", bias->dtype(), ", the packed weight ", type_);

  const Index batch = x.shape()[0];
  const Tensor rows = x.contiguous();
  const Tensor plain_bias = bias ? bias->contiguous() : Tensor();
  Tensor y = Tensor::empty({batch, out}, type_);
  dispatch_floating("linear", type_, [&]<class T>() {
    T* target = y.write<T>("linear");
    const T* shift = bias ? plain_bias.data<T>() : nullptr;
    if (choices_.at(batch) == KernelChoice::dense) {
      dense_linear(form_->dense.data<T>(), out, in, rows.data<T>(), batch, shift, target);
    } else {
      kernels::sparse_linear(form_->template as<T>(), rows.data<T>(), batch, shift, target);
    }
  });
  return y;
}

Tensor PackedLinear::densify() const {
  if (form_->dense.defined()) return form_->dense.clone();
  Tensor dense = Tensor::empty(shape_, type_);
  dispatch_floating("densify", type_,
                    [&]<class T>() { kernels::to_dense(form_->template as<T>(), dense.write<T>("densify")); });
  return dense;
}

std::string PackedLinear::describe() const {
  return join("sparse ", shape_, ", ", live_, " live, ", type_, "; batch 1 ", name_of(choices_.one), ", few ",
              name_of(choices_.few), ", many ", name_of(choices_.many));
}

namespace {

using Clock = std::chrono::steady_clock;

template <class F>
double seconds(F&& f) {
  const auto start = Clock::now();
  f();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

/// Interleaved rounds, so that what disturbs the machine disturbs both.
template <class Dense, class Sparse>
KernelChoice faster(Dense&& dense, Sparse&& sparse, double& dense_us, double& sparse_us) {
  constexpr double margin = 1.10, shortest_round = 100e-6, long_round = 10e-3;
  sparse();
  dense();
  const double once = seconds(dense);
  const int repeats = static_cast<int>(std::clamp(shortest_round / std::max(once, 1e-9), 1.0, 1000.0));
  const int rounds = once > long_round ? 5 : 15;
  std::vector<double> dense_times, sparse_times;
  for (int round = 0; round < rounds; ++round) {
    dense_times.push_back(seconds([&] {
      for (int i = 0; i < repeats; ++i) dense();
    }));
    sparse_times.push_back(seconds([&] {
      for (int i = 0; i < repeats; ++i) sparse();
    }));
  }
  dense_us = median(dense_times) / repeats * 1e6;
  sparse_us = median(sparse_times) / repeats * 1e6;
  return dense_us >= margin * sparse_us ? KernelChoice::sparse : KernelChoice::dense;
}

}  // namespace

KernelChoices measure_kernels(const Tensor& weight, KernelTimes* times) {
  const Tensor dense = checked_weight(weight);
  const Index out = dense.shape()[0], in = dense.shape()[1];
  const ThreadLimit alone(1);  // the choice must not depend on how many threads run later
  KernelChoices choices;
  KernelTimes seen;
  dispatch_floating("packed_linear", weight.dtype(), [&]<class T>() {
    const kernels::SparseMatrix<T> sparse = kernels::to_sparse(dense.data<T>(), out, in);
    constexpr Index most = 64;
    std::vector<T> x(static_cast<std::size_t>(most * in)), y(static_cast<std::size_t>(most * out));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i % 7) * T(0.25) - T(0.75);
    const auto choose = [&](std::size_t k, Index batch) {
      return faster([&] { dense_linear<T>(dense.data<T>(), out, in, x.data(), batch, nullptr, y.data()); },
                    [&] { kernels::sparse_linear<T>(sparse, x.data(), batch, nullptr, y.data()); }, seen.dense_us[k],
                    seen.sparse_us[k]);
    };
    choices = {choose(0, 1), choose(1, 8), choose(2, most)};
  });
  if (times) *times = seen;
  return choices;
}

KernelChoices fixed_kernels(const Shape& shape, Index live, DType type) {
  if (shape.rank() != 2) fail<ShapeError>("[packed_linear] weight must be [out, in], got ", shape);
  const Index size = count(shape);
  const double density = size == 0 ? 0.0 : static_cast<double>(live) / static_cast<double>(size);
  // Densities up to which sparse was at least 1.10 times faster (AVX2, f32, one thread, 100x300 to 4096x4096). At batch 1
  // a tiny weight is quick in either form, and one that leaves the cache is bound by memory: there less to read counts.
  constexpr Index tiny = 200000, beyond_cache = Index{16} << 20;
  const double one = size < tiny ? 0.06 : size * size_of(type) <= beyond_cache ? 0.11 : 0.25;
  const auto choose = [density](double most) { return density <= most ? KernelChoice::sparse : KernelChoice::dense; };
  return {choose(one), choose(0.35), choose(0.45)};
}

}  // namespace espalier
