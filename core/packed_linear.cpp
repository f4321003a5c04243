#include "espalier/core/packed_linear.h"

#include <algorithm>
#include <vector>

#include "espalier/core/detail/packed_form.h"
#include "espalier/core/kernels/gemm.h"

namespace espalier {

namespace {

constexpr std::array<const char*, 4> names = {"dense", "sparse", "blocked", "n:m"};

template <class T>
kernels::SparsePattern pattern_of(const Tensor& dense) {
  return kernels::find_pattern(dense.data<T>(), detail::rows_of(dense.shape()), detail::columns_of(dense.shape()));
}

KernelChoice choice_for(const kernels::SparsePattern& pattern) {
  return pattern.grouped() ? KernelChoice::grouped : pattern.blocked() ? KernelChoice::blocked : KernelChoice::sparse;
}

template <class T>
kernels::SparseMatrix<T> lay_out(const Tensor& dense, const kernels::SparsePattern& pattern) {
  return kernels::to_sparse(dense.data<T>(), detail::rows_of(dense.shape()), detail::columns_of(dense.shape()),
                            pattern);
}

Tensor checked_weight(const Tensor& weight) {
  if (weight.rank() < 2) fail<ShapeError>("[packed_linear] weight must be [out, in], got ", weight.shape());
  return weight.densify().contiguous();
}

template <class T>
Index count_live(const Tensor& weight) {
  const T* w = weight.data<T>();
  return weight.size() - std::count(w, w + weight.size(), T(0));
}

}  // namespace

const char* name_of(KernelChoice choice) noexcept { return names[static_cast<std::size_t>(choice)]; }

bool choice_of(std::string_view name, KernelChoice& choice) noexcept {
  const auto at = std::find(names.begin(), names.end(), name);
  if (at == names.end()) return false;
  choice = static_cast<KernelChoice>(at - names.begin());
  return true;
}

KernelChoice structure_of(const Tensor& weight) {
  const Tensor dense = checked_weight(weight);
  return dispatch_floating("packed_linear", weight.dtype(),
                           [&]<class T>() { return choice_for(pattern_of<T>(dense)); });
}

PackedLinear::PackedLinear(const Tensor& weight, KernelChoices choices)
    : shape_(weight.shape()), type_(weight.dtype()), choices_(choices) {
  const Tensor dense = checked_weight(weight);
  auto form = std::make_unique<Form>();
  dispatch_floating("packed_linear", type_, [&]<class T>() {
    live_ = count_live<T>(dense);
    if (choices.any(KernelChoice::sparse)) form->single = lay_out<T>(dense, {});
    for (const KernelChoice structure : {KernelChoice::blocked, KernelChoice::grouped}) {
      if (!choices.any(structure)) continue;
      const kernels::SparsePattern pattern = pattern_of<T>(dense);
      if (choice_for(pattern) != structure)
        fail<ConfigError>("[packed_linear] weight ", shape_, " has no pattern for the kernel \"", name_of(structure),
                          "\": it is stored best as ", pattern.describe(), ". Hint: measure_kernels() chooses");
      form->structured = lay_out<T>(dense, pattern);
    }
  });
  if (choices.any(KernelChoice::dense)) form->dense = dense.shares_storage(weight) ? dense.clone() : dense;
  form_ = std::move(form);
}

PackedLinear::~PackedLinear() = default;

Index PackedLinear::bytes() const noexcept {
  Index sum = form_->dense.defined() ? form_->dense.size() * size_of(type_) : 0;
  for (const AnySparse* form : {&form_->single, &form_->structured}) {
    if (const auto* s = std::get_if<kernels::SparseMatrix<float>>(form)) sum += s->bytes();
    if (const auto* s = std::get_if<kernels::SparseMatrix<double>>(form)) sum += s->bytes();
  }
  return sum;
}

Tensor PackedLinear::linear(const Tensor& x, const Tensor* bias) const {
  const Index out = detail::rows_of(shape_), in = detail::columns_of(shape_);
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
  const KernelChoice choice = choices_.at(batch);
  const Tensor rows = x.contiguous();
  const Tensor plain_bias = bias ? bias->contiguous() : Tensor();
  Tensor y = Tensor::empty({batch, out}, type_);
  dispatch_floating("linear", type_, [&]<class T>() {
    T* target = y.write<T>("linear");
    const T* shift = bias ? plain_bias.data<T>() : nullptr;
    if (choice == KernelChoice::dense)
      kernels::gemm<T>(batch, out, in, T(1), {rows.data<T>(), in}, {form_->dense.data<T>(), in, true}, T(0), target,
                       out, {shift, false});
    else
      kernels::sparse_linear(form_->as<T>(choice), rows.data<T>(), batch, shift, target);
  });
  return y;
}

Tensor PackedLinear::densify() const {
  if (form_->dense.defined()) return form_->dense.clone();
  Tensor dense = Tensor::empty(shape_, type_);
  dispatch_floating("densify", type_,
                    [&]<class T>() { kernels::to_dense(form_->any<T>(), dense.write<T>("densify")); });
  return dense;
}

std::string PackedLinear::describe() const {
  const std::string structure =
      form_->structured.index() == 0 ? "" : dispatch_floating("packed_linear", type_, [&]<class T>() {
        return std::get<kernels::SparseMatrix<T>>(form_->structured).pattern.describe() + ", ";
      });
  return join("sparse ", shape_, ", ", structure, live_, " live, ", type_, "; batch 1 ", name_of(choices_.one),
              ", few ", name_of(choices_.few), ", many ", name_of(choices_.many));
}

KernelChoices fixed_kernels(const Shape& shape, Index live, DType type, KernelChoice structure) {
  if (shape.rank() < 2) fail<ShapeError>("[packed_linear] weight must be [out, in], got ", shape);
  const Index size = count(shape);
  const double density = size == 0 ? 0.0 : static_cast<double>(live) / static_cast<double>(size);
  const auto choose = [density, structure](double most, double most_structured) {
    if (density <= most_structured && structure != KernelChoice::sparse) return structure;
    return density <= most ? KernelChoice::sparse : KernelChoice::dense;
  };
  // Densities up to which a kernel was at least 1.10 times faster than dense (AVX2, f32, one thread, 100x300 to
  // 4096x4096; convolutions of 16 to 512 channels). At batch 1 a tiny weight is quick in either form, and one that
  // leaves the cache is bound by memory: there less to read counts.
  const bool blocked = structure == KernelChoice::blocked;
  if (shape.rank() > 2) {
    const KernelChoice conv = choose(0.25, blocked ? 0.4 : 0.25);
    return {conv, conv, conv};
  }
  constexpr Index tiny = 200000, beyond_cache = Index{16} << 20;
  const double one = size < tiny ? 0.10 : size * size_of(type) <= beyond_cache ? 0.15 : 0.25;
  return {choose(one, blocked ? 0.4 : 0.3), choose(0.4, blocked ? 0.6 : 0.5), choose(0.5, blocked ? 0.6 : 0.5)};
}

}  // namespace espalier
