#include "espalier/data/loader.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace espalier::data {

Loader::Loader(Dataset dataset, Index batch_size, Rng rng, LoaderOptions options)
    : dataset_(std::move(dataset)), rows_(dataset_.size()), batch_size_(batch_size), rng_(rng), options_(options) {
  if (rows_ == 0) fail<ConfigError>("[loader] the dataset is empty");
  if (batch_size < 1 || batch_size > rows_)
    fail<ConfigError>("[loader] batch_size ", batch_size, " for ", rows_, " rows; it must be in [1, ", rows_, "]");
  dataset_.x = dataset_.x.contiguous();  // once, not in every batch
  if (dataset_.y.defined()) dataset_.y = dataset_.y.contiguous();
}

Index Loader::batches() const noexcept {
  return options_.drop_last ? rows_ / batch_size_ : (rows_ - 1) / batch_size_ + 1;
}

void Loader::shuffle() {
  order_.resize(static_cast<std::size_t>(rows_));
  if (!options_.shuffle) return std::iota(order_.begin(), order_.end(), Index{0});
  // A stream of its own for each epoch, so that epoch 1,000 needs none of the 999 before it.
  Rng key = rng_;
  Rng epoch_rng;
  epoch_rng.set_state({key.next(), static_cast<std::uint64_t>(epoch_), 0});
  order_ = epoch_rng.permutation(rows_);
}

Loader::Iterator Loader::begin() {
  if (position_ != 0 && !resuming_) {
    ++epoch_;
    position_ = 0;
  }
  resuming_ = false;
  shuffle();
  return Iterator(*this);
}

bool Loader::next(Batch& batch) {
  const Index left = rows_ - position_;
  if (left == 0 || (options_.drop_last && left < batch_size_)) {
    ++epoch_;
    position_ = 0;
    return false;
  }
  const Index n = std::min(batch_size_, left);
  const std::span<const Index> chosen(order_.data() + position_, static_cast<std::size_t>(n));
  Dataset rows = dataset_.rows(chosen);
  batch = {std::move(rows.x), std::move(rows.y)};
  position_ += n;
  return true;
}

Loader::Iterator& Loader::Iterator::operator++() {
  if (loader_ && !loader_->next(batch_)) {
    loader_ = nullptr;
    batch_ = {};
  }
  return *this;
}

Loader::State Loader::state() const {
  const Rng::State rng = rng_.state();
  return {rng[0],
          rng[1],
          rng[2],
          static_cast<std::uint64_t>(epoch_),
          static_cast<std::uint64_t>(position_),
          static_cast<std::uint64_t>(rows_)};
}

void Loader::set_state(const State& state) {
  const auto [key, stream, counter, epoch, position, rows] = state;
  if (rows != static_cast<std::uint64_t>(rows_))
    fail<ConfigError>("[loader] the state is of a dataset of ", rows, " rows, this one has ", rows_);
  if (position > rows) fail<ConfigError>("[loader] position ", position, " in an epoch of ", rows, " rows");
  if (epoch > static_cast<std::uint64_t>(std::numeric_limits<Index>::max() / 2))
    fail<ConfigError>("[loader] epoch ", epoch, " is no possible count");
  rng_.set_state({key, stream, counter});
  epoch_ = static_cast<Index>(epoch);
  position_ = static_cast<Index>(position);
  resuming_ = true;
}

}  // namespace espalier::data
