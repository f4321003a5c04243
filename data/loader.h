// Loader: a dataset in batches, in a new order each epoch.
//
//   data::Loader loader(train, 64, Rng(1));
//   for (int epoch = 0; epoch < 10; ++epoch)
//     for (auto& [x, y] : loader) ...
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <vector>

#include "espalier/data/dataset.h"

namespace espalier::data {

struct LoaderOptions {
  bool shuffle = true;     ///< else in the dataset's order
  bool drop_last = false;  ///< leave out a last batch that is not full
};

struct Batch {
  Tensor x;
  Tensor y;
};

/// One range-for is one epoch. The order of an epoch depends on the rng given here and the epoch's number alone, so a
/// resumed run sees the batches that the unbroken one would have seen. Each batch is a fresh tensor: the tape may still
/// hold the last. A loop that was left early is over: the next one begins a new epoch.
/// One loop at a time; the loader must outlive it and stay where it is.
class Loader final {
 public:
  /// Errors: ConfigError for an empty dataset or unless 1 <= batch_size <= dataset.size(); ShapeError if x and y differ
  /// in rows.
  Loader(Dataset dataset, Index batch_size, Rng rng, LoaderOptions options = {});

  class Iterator final {
   public:
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(Loader& loader) : loader_(&loader) { ++*this; }
    Batch& operator*() { return batch_; }
    Batch* operator->() { return &batch_; }
    Iterator& operator++();
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& it, std::default_sentinel_t) { return it.loader_ == nullptr; }

   private:
    Loader* loader_;  // null: the epoch is over
    Batch batch_;
  };
  Iterator begin();
  std::default_sentinel_t end() const noexcept { return {}; }

  Index batch_size() const noexcept { return batch_size_; }
  Index batches() const noexcept;  ///< in one epoch
  Index epoch() const noexcept { return epoch_; }
  const Dataset& dataset() const noexcept { return dataset_; }

  /// All that changes, and what it depends on: rng, epoch, rows of the epoch given out, rows of the dataset.
  using State = std::array<std::uint64_t, 6>;
  State state() const;
  /// The next range-for continues exactly where the saved loader stood, in the middle of an epoch if need be; if that
  /// was behind its last batch, it is empty. Errors: ConfigError for a state of a dataset of another size, or a
  /// position outside it; then nothing is changed.
  void set_state(const State& state);

 private:
  bool next(Batch& batch);
  void shuffle();

  Dataset dataset_;
  Index rows_;
  Index batch_size_;
  Rng rng_;
  LoaderOptions options_;
  Index epoch_ = 0;
  Index position_ = 0;     // rows of this epoch given out
  bool resuming_ = false;  // set_state was called: the next loop goes on at position_
  std::vector<Index> order_;
};

}  // namespace espalier::data
