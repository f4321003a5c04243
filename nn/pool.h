// Pooling layers: nothing to learn. x [N, C, H, W] or sequences [N, C, L]; see autograd/ops/pool.h for what they do.
#pragma once

#include "espalier/autograd/ops/pool.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

/// Largest value of each window. Errors: as max_pool2d.
template <int axes>
class MaxPool final : public Module {
 public:
  explicit MaxPool(WindowExtent<axes> kernel_size, MaxPoolOptions<WindowExtent<axes>> options = {})
      : kernel_(kernel_size), options_(options) {}
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if constexpr (axes == 2)
        return max_pool2d(x, kernel_, options_);
      else
        return max_pool1d(x, kernel_, options_);
    });
  }
  void members(Visitor&) override {}

 private:
  WindowExtent<axes> kernel_;
  MaxPoolOptions<WindowExtent<axes>> options_;
};
using MaxPool2d = MaxPool<2>;
using MaxPool1d = MaxPool<1>;

/// Mean of each window. Errors: as avg_pool2d.
template <int axes>
class AvgPool final : public Module {
 public:
  explicit AvgPool(WindowExtent<axes> kernel_size, AvgPoolOptions<WindowExtent<axes>> options = {})
      : kernel_(kernel_size), options_(options) {}
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if constexpr (axes == 2)
        return avg_pool2d(x, kernel_, options_);
      else
        return avg_pool1d(x, kernel_, options_);
    });
  }
  void members(Visitor&) override {}

 private:
  WindowExtent<axes> kernel_;
  AvgPoolOptions<WindowExtent<axes>> options_;
};
using AvgPool2d = AvgPool<2>;
using AvgPool1d = AvgPool<1>;

/// Largest values of windows that make an image of `output_size`; 1 is the whole image.
template <int axes>
class AdaptiveMaxPool final : public Module {
 public:
  explicit AdaptiveMaxPool(WindowExtent<axes> output_size) : size_(output_size) {}
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if constexpr (axes == 2)
        return adaptive_max_pool2d(x, size_);
      else
        return adaptive_max_pool1d(x, size_);
    });
  }
  void members(Visitor&) override {}

 private:
  WindowExtent<axes> size_;
};
using AdaptiveMaxPool2d = AdaptiveMaxPool<2>;
using AdaptiveMaxPool1d = AdaptiveMaxPool<1>;

/// Means of windows that make an image of `output_size`; 1 is the whole image (Lin et al. 2014, global average pooling).
template <int axes>
class AdaptiveAvgPool final : public Module {
 public:
  explicit AdaptiveAvgPool(WindowExtent<axes> output_size) : size_(output_size) {}
  Variable operator()(const Variable& x) const {
    return forward([&] {
      if constexpr (axes == 2)
        return adaptive_avg_pool2d(x, size_);
      else
        return adaptive_avg_pool1d(x, size_);
    });
  }
  void members(Visitor&) override {}

 private:
  WindowExtent<axes> size_;
};
using AdaptiveAvgPool2d = AdaptiveAvgPool<2>;
using AdaptiveAvgPool1d = AdaptiveAvgPool<1>;

}  // namespace espalier::nn
