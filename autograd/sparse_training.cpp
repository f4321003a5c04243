#include "espalier/autograd/sparse_training.h"

#include <optional>
#include <utility>
#include <variant>

namespace espalier {

thread_local constinit SparseTraining* SparseTraining::current_ = nullptr;

namespace {

/// A weight that has a mask to go by: of a product, or, with more axes, perhaps of a convolution.
bool is_masked(const ParameterState& p) {
  const Tensor& value = p.value();
  return p.mask().defined() && p.mask_mode() == MaskMode::hard && value.rank() >= 2 && value.rank() <= 4 &&
         value.size() > 0 && !value.packed();
}

}  // namespace

/// A parameter, and its products for the mask and the value they were made from.
struct SparseTraining::Weight {
  std::string name;
  ParameterRef parameter;
  std::optional<bool> chosen = {};  // nothing: a convolution that nobody has met
  std::variant<std::monostate, MaskedLinear, MaskedConv> products = {};
  std::uint32_t mask_version = 0, value_version = 0;
  Tensor value = {};  // which storage the version is of

  /// `make(value, words of the mask)` for another mask or shape, or if what there is does not fit(); other values are
  /// taken over.
  template <class Products, class Make, class Fit>
  Products* up_to_date(const Make& make, const Fit& fit) {
    const Tensor& now = parameter->value();
    Products* made = std::get_if<Products>(&products);
    const bool anew = !made || !fit(*made) || mask_version != parameter->mask_version() ||
                      !(value.shape() == now.shape()) || value.dtype() != now.dtype();
    if (anew) made = &products.emplace<Products>(make(now, parameter->mask().words()));
    if (anew || value_version != now.version() || !value.shares_storage(now)) made->refresh(now);
    mask_version = parameter->mask_version();
    value_version = now.version();
    value = now;
    return made;
  }
};

SparseTraining::SparseTraining(const ParameterList& parameters, SparseTrainingOptions options)
    : outer_(current_), options_(std::move(options)) {
  if (options_.batch < 1) fail<ConfigError>("[sparse_training] batch must be at least 1, got ", options_.batch);
  for (const NamedParameter& named : parameters) {
    const ParameterState& p = *named.parameter;
    if (!is_masked(p)) continue;
    const Tensor& value = p.value();
    weights_.push_back(std::make_unique<Weight>(Weight{named.name, named.parameter}));
    if (value.rank() == 2)
      weights_.back()->chosen =
          !options_.measure || sparse_training_is_faster(value.shape()[0], value.shape()[1], value.dtype(),
                                                         p.mask().words(), options_.batch);
  }
  current_ = this;
}

SparseTraining::~SparseTraining() { current_ = outer_; }

std::vector<std::string> SparseTraining::chosen() const {
  std::vector<std::string> names;
  for (const auto& weight : weights_)
    if (weight->chosen.value_or(false)) names.push_back(weight->name);
  return names;
}

SparseTraining::Weight* SparseTraining::find(const Tensor& value) {
  if (!current_) [[likely]]
    return nullptr;
  for (const auto& weight : current_->weights_)
    if (const Tensor& own = weight->parameter->value();
        own.shares_storage(value) && own.shape() == value.shape() && own.strides() == value.strides())
      return weight->chosen.value_or(true) && is_masked(*weight->parameter) ? weight.get() : nullptr;
  return nullptr;
}

MaskedLinear* SparseTraining::products_of(const Tensor& value) {
  Weight* weight = find(value);
  if (!weight || value.rank() != 2) return nullptr;
  return weight->up_to_date<MaskedLinear>(
      [](const Tensor& w, std::span<const std::uint64_t> live) {
        return MaskedLinear(w.shape()[0], w.shape()[1], w.dtype(), live);
      },
      [](const MaskedLinear&) { return true; });
}

MaskedConv* SparseTraining::products_of(const Tensor& value, const ConvGeometry& geometry) {
  Weight* weight = MaskedConv::suits(geometry) ? find(value) : nullptr;
  if (!weight || value.rank() < 3) return nullptr;
  if (!weight->chosen) {
    ConvGeometry measured = geometry;
    measured.batch = current_->options_.batch;
    weight->chosen =
        !current_->options_.measure ||
        sparse_training_is_faster(value.shape(), value.dtype(), weight->parameter->mask().words(), measured);
    if (!*weight->chosen) return nullptr;
  }
  return weight->up_to_date<MaskedConv>(
      [&](const Tensor& w, std::span<const std::uint64_t> live) {
        return MaskedConv(w.shape(), geometry, w.dtype(), live);
      },
      [&](const MaskedConv& made) { return made.fits(geometry); });
}

bool SparseTraining::covers(const Tensor& value) {
  const Weight* weight = find(value);
  return weight && weight->chosen.value_or(false);
}

}  // namespace espalier
