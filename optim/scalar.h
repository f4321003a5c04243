// Scalar: a number, or a function of the step. Any setting of a transform may be either.
//
//   sgd({.lr = 0.1});
//   sgd({.lr = [](std::int64_t step) { return step < 1000 ? 0.1 : 0.01; }});
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

namespace espalier::optim {

class Scalar {
 public:
  Scalar(double value) noexcept : value_(value) {}  // NOLINT: a number is a schedule that never changes
  /// `schedule(step)`: step counts from 0, the optimizer's first.
  template <class F>
  requires(std::is_invocable_r_v<double, F&, std::int64_t> && !std::same_as<std::remove_cvref_t<F>, Scalar>)
      Scalar(F schedule)  // NOLINT: see above
      : schedule_(std::move(schedule)) {}

  double at(std::int64_t step) const { return schedule_ ? schedule_(step) : value_; }
  bool scheduled() const noexcept { return static_cast<bool>(schedule_); }
  /// The number, where it is not scheduled.
  double value() const noexcept { return value_; }

 private:
  double value_ = 0;
  std::function<double(std::int64_t)> schedule_;
};

}  // namespace espalier::optim
