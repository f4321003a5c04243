#include "espalier/autograd/parameter.h"

#include <utility>

#include "espalier/core/elementwise.h"
#include "espalier/core/row_sparse.h"

namespace espalier {
namespace {

std::string quoted(const std::string& name) { return name.empty() ? std::string("a parameter") : "'" + name + "'"; }

void check_match(const char* op, const std::string& name, const Tensor& have, const Tensor& given) {
  if (!(have.shape() == given.shape()))
    fail<ShapeError>("[", op, "] ", quoted(name), " has shape ", have.shape(), ", got ", given.shape());
  if (have.dtype() != given.dtype())
    fail<DTypeError>("[", op, "] ", quoted(name), " holds ", have.dtype(), ", got ", given.dtype(),
                     ". Hint: .to(DType::", have.dtype(), ")");
}

void check_mask_size(const std::string& name, const Tensor& value, const Mask& mask) {
  if (mask.defined() && mask.size() != value.size())
    fail<ShapeError>("[set_mask] ", mask.size(), " bits for ", quoted(name), " of shape ", value.shape());
}

}  // namespace

ParameterState::ParameterState(Tensor value, std::string name) : value_(std::move(value)), name_(std::move(name)) {
  if (!is_floating(value_.dtype()) || !value_.defined())
    fail<DTypeError>("[parameter] ", quoted(name_), " must hold f32 or f64, got ",
                     value_.defined() ? name_of(value_.dtype()) : "an undefined tensor");
  if (!value_.packed()) value_ = value_.contiguous();
  if (!name_.empty()) listed_ = true;
}

void ParameterState::set_value(const Tensor& value) {
  check_match("set_value", name_, value_, value);
  Tensor& target = dense_.defined() ? dense_ : value_;
  target.copy_from(value, "set_value");
  if (dense_.defined())
    refresh_from_dense();
  else if (mask_.defined())
    zero_pruned(value_, mask_, "set_value");
}

void ParameterState::replace(Tensor value, Mask mask) {
  if (!value.defined() || !is_floating(value.dtype()))
    fail<DTypeError>("[replace] ", quoted(name_), " must hold f32 or f64");
  check_mask_size(name_, value, mask);
  resized_ = resized_ || !(value.shape() == value_.shape());
  value_ = value.packed() ? std::move(value) : value.contiguous();
  grad_ = Tensor();
  dense_ = Tensor();
  mode_ = MaskMode::hard;
  mask_ = std::move(mask);
  ++mask_version_;
  if (mask_.defined() && !value_.packed()) zero_pruned(value_, mask_, "replace");
}

void ParameterState::set_mask(Mask mask, MaskMode mode) {
  check_mask_size(name_, value_, mask);
  if (value_.packed())
    fail<ConfigError>("[set_mask] ", quoted(name_),
                      " is packed: its zeros are fixed. Hint: prune the model before compact()");
  if (mode == MaskMode::soft && mask.defined()) {
    if (!dense_.defined()) dense_ = value_.clone();
  } else {
    if (dense_.defined()) value_.copy_from(dense_, "set_mask");
    dense_ = Tensor();
  }
  mode_ = mask.defined() ? mode : MaskMode::hard;
  mask_ = std::move(mask);
  ++mask_version_;
  if (!mask_.defined()) return;
  if (mode_ == MaskMode::soft) return refresh_from_dense();
  zero_pruned(value_, mask_, "set_mask");
  zero_pruned_gradient("set_mask");
}

const RowSparse* ParameterState::row_gradient() const noexcept { return row_sparse(grad_); }

/// Pruned weights have no gradient.
void ParameterState::zero_pruned_gradient(const char* op) {
  if (!grad_.defined()) return;
  const RowSparse* rows = row_sparse(grad_);
  if (!rows) return zero_pruned(grad_, mask_, op);
  Tensor values = rows->values().clone();
  const std::vector<std::int64_t> row = rows->rows().to_vector<std::int64_t>();
  const Index n = row.empty() ? 0 : values.size() / static_cast<Index>(row.size());
  dispatch_floating(op, values.dtype(), [&]<class T>() {
    T* value = values.write<T>(op);
    for (const std::int64_t r : row)
      for (Index i = r * n; i < (r + 1) * n; ++i, ++value)
        if (!mask_[i]) *value = T(0);
  });
  grad_ = with_values(*rows, std::move(values));
}

void ParameterState::freeze() {
  if (mode_ != MaskMode::soft) return;
  dense_ = Tensor();
  mode_ = MaskMode::hard;
  ++mask_version_;
  zero_pruned_gradient("freeze");
}

void ParameterState::accumulate(Tensor gradient) {
  check_match("accumulate", name_, value_, gradient);
  if (gradient.packed() || grad_.packed())
    grad_ = grad_.defined() ? add_row_sparse(std::move(grad_), std::move(gradient)) : std::move(gradient);
  else if (!grad_.defined())  // taken over if nobody else sees it, else copied: the sum below writes in place
    grad_ = gradient.is_contiguous() && gradient.sole_owner() ? std::move(gradient) : gradient.clone();
  else
    add_in_place(grad_, gradient);
}

void ParameterState::convert(DType type) {
  if (!is_floating(type)) fail<DTypeError>("[to] ", quoted(name_), " must hold f32 or f64, not ", type);
  if (type == value_.dtype()) return;
  if (value_.packed())
    fail<ConfigError>("[to] ", quoted(full_name()),
                      " is packed, for kernels of its own type. Hint: convert the model before compact()");
  value_ = value_.to(type);
  if (dense_.defined()) dense_ = dense_.to(type);
  grad_ = Tensor();
}

Hook ParameterState::after_accumulate(std::function<void(ParameterState&)> f) {
  std::erase_if(hooks_, [](const auto& hook) { return hook->removed; });
  hooks_.push_back(std::make_shared<detail::HookFunction<void(ParameterState&)>>(std::move(f)));
  return Hook(hooks_.back());
}

void ParameterState::run_hooks() {
  const auto hooks = hooks_;  // a copy: a hook may add or remove some
  for (const auto& hook : hooks)
    if (!hook->removed) hook->function(*this);
  std::erase_if(hooks_, [](const auto& hook) { return hook->removed; });
}

void ParameterState::refresh_from_dense() {
  value_.copy_from(dense_, "mask");
  zero_pruned(value_, mask_, "mask");
}

// --- Parameter ------------------------------------------------------------------------------------------------------

Parameter::Parameter(Tensor value, std::string name)
    : state_(std::make_shared<ParameterState>(std::move(value), std::move(name))) {}

Parameter::Parameter(const Parameter& other) {
  if (!other.state_) return;
  const ParameterState& from = *other.state_;
  state_ = std::make_shared<ParameterState>(from.value_.clone(), from.name_);
  state_->mask_ = from.mask_;
  state_->mode_ = from.mode_;
  state_->resized_ = from.resized_;
  state_->frozen_ = from.frozen_;
  if (from.dense_.defined()) state_->dense_ = from.dense_.clone();
}

Parameter& Parameter::operator=(const Parameter& other) {
  if (this == &other) return *this;
  if (!state_ || !other.state_) return *this = Parameter(other);
  const ParameterState& from = *other.state_;
  ParameterState& to = *state_;
  to.resized_ = from.resized_ || !(from.value_.shape() == to.value_.shape());
  to.value_ = from.value_.clone();
  to.dense_ = from.dense_.defined() ? from.dense_.clone() : Tensor();
  to.grad_ = Tensor();
  to.mask_ = from.mask_;
  to.mode_ = from.mode_;
  ++to.mask_version_;
  return *this;
}

Parameter& Parameter::operator=(Parameter&& other) noexcept {
  if (this != &other) {
    release();
    state_ = std::move(other.state_);
    if (state_) state_->mark_moved();
  }
  return *this;
}

void Parameter::release() noexcept {
  if (state_) state_->owned_ = false;
  state_.reset();
}

void Parameter::refuse() {
  fail<ConfigError>("[parameter] used before it was given a value, or after it was moved from");
}

}  // namespace espalier
