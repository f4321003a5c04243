// Pooling layers: nothing to learn. x [N, C, H, W] or sequences [N, C, L]; see autograd/ops/pool.h for what they do.
#pragma once

#include "espalier/autograd/ops/pool.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// Largest value of each window. Errors: as max_pool2d.
class MaxPool2d final : public Module {
 public:
  explicit MaxPool2d(IndexPair kernel_size, MaxPool2dOptions options = {}) : kernel_(kernel_size), options_(options) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return max_pool2d(x, kernel_, options_); });
  }
  void members(Visitor&) override {}

 private:
  IndexPair kernel_;
  MaxPool2dOptions options_;
};

/// The same over sequences.
class MaxPool1d final : public Module {
 public:
  explicit MaxPool1d(Index kernel_size, MaxPool1dOptions options = {}) : kernel_(kernel_size), options_(options) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return max_pool1d(x, kernel_, options_); });
  }
  void members(Visitor&) override {}

 private:
  Index kernel_;
  MaxPool1dOptions options_;
};

/// Mean of each window. Errors: as avg_pool2d.
class AvgPool2d final : public Module {
 public:
  explicit AvgPool2d(IndexPair kernel_size, AvgPool2dOptions options = {}) : kernel_(kernel_size), options_(options) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return avg_pool2d(x, kernel_, options_); });
  }
  void members(Visitor&) override {}

 private:
  IndexPair kernel_;
  AvgPool2dOptions options_;
};

/// The same over sequences.
class AvgPool1d final : public Module {
 public:
  explicit AvgPool1d(Index kernel_size, AvgPool1dOptions options = {}) : kernel_(kernel_size), options_(options) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return avg_pool1d(x, kernel_, options_); });
  }
  void members(Visitor&) override {}

 private:
  Index kernel_;
  AvgPool1dOptions options_;
};

/// Largest values of windows that make an image of `output_size`; 1 is the whole image.
class AdaptiveMaxPool2d final : public Module {
 public:
  explicit AdaptiveMaxPool2d(IndexPair output_size) : size_(output_size) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return adaptive_max_pool2d(x, size_); });
  }
  void members(Visitor&) override {}

 private:
  IndexPair size_;
};

/// Means of windows that make an image of `output_size`; 1 is the whole image (Lin et al. 2014, global average pooling).
class AdaptiveAvgPool2d final : public Module {
 public:
  explicit AdaptiveAvgPool2d(IndexPair output_size) : size_(output_size) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return adaptive_avg_pool2d(x, size_); });
  }
  void members(Visitor&) override {}

 private:
  IndexPair size_;
};

/// The same over sequences.
class AdaptiveMaxPool1d final : public Module {
 public:
  explicit AdaptiveMaxPool1d(Index output_size) : size_(output_size) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return adaptive_max_pool1d(x, size_); });
  }
  void members(Visitor&) override {}

 private:
  Index size_;
};

/// The same over sequences.
class AdaptiveAvgPool1d final : public Module {
 public:
  explicit AdaptiveAvgPool1d(Index output_size) : size_(output_size) {}
  Variable operator()(const Variable& x) const {
    return forward([&] { return adaptive_avg_pool1d(x, size_); });
  }
  void members(Visitor&) override {}

 private:
  Index size_;
};

}  // namespace espalier::nn
