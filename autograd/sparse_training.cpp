#include "espalier/autograd/sparse_training.h"

#include <optional>
#include <utility>

namespace espalier {

thread_local constinit SparseTraining* SparseTraining::current_ = nullptr;

/// A parameter, and its products for the mask and the value they were made from.
struct SparseTraining::Weight {
  std::string name;
  ParameterRef parameter;
  std::optional<MaskedLinear> products = {};
  std::uint32_t mask_version = 0, value_version = 0;
  Tensor value = {};  // which storage the version is of

  MaskedLinear* up_to_date() {
    const Tensor& now = parameter->value();
    const Mask& mask = parameter->mask();
    if (!mask.defined() || parameter->mask_mode() != MaskMode::hard || now.rank() != 2 || now.packed()) return nullptr;
    const bool new_mask = !products || mask_version != parameter->mask_version() || !(value.shape() == now.shape()) ||
                          value.dtype() != now.dtype();
    if (new_mask) products.emplace(now.shape()[0], now.shape()[1], now.dtype(), mask.words());
    if (new_mask || value_version != now.version() || !value.shares_storage(now)) products->refresh(now);
    mask_version = parameter->mask_version();
    value_version = now.version();
    value = now;
    return &*products;
  }
};

SparseTraining::SparseTraining(const ParameterList& parameters, SparseTrainingOptions options)
    : outer_(current_), asked_(std::move(options.dense_gradient)) {
  if (options.batch < 1) fail<ConfigError>("[sparse_training] batch must be at least 1, got ", options.batch);
  for (const NamedParameter& named : parameters) {
    const ParameterState& p = *named.parameter;
    const Tensor& value = p.value();
    if (!p.mask().defined() || p.mask_mode() != MaskMode::hard || value.rank() != 2 || value.packed()) continue;
    if (options.measure &&
        !sparse_training_is_faster(value.shape()[0], value.shape()[1], value.dtype(), p.mask().words(), options.batch))
      continue;
    weights_.push_back(std::make_unique<Weight>(Weight{named.name, named.parameter}));
  }
  current_ = this;
}

SparseTraining::~SparseTraining() { current_ = outer_; }

std::vector<std::string> SparseTraining::chosen() const {
  std::vector<std::string> names;
  for (const auto& weight : weights_) names.push_back(weight->name);
  return names;
}

MaskedLinear* SparseTraining::products_of(const Tensor& value) {
  if (!current_) [[likely]]
    return nullptr;
  for (const auto& weight : current_->weights_)
    if (const Tensor& own = weight->parameter->value();
        own.shares_storage(value) && own.shape() == value.shape() && own.strides() == value.strides())
      return weight->up_to_date();
  return nullptr;
}

}  // namespace espalier
