// Both: the kernels of a family for float and for double.
#pragma once

#include <type_traits>

namespace espalier::kernels {

template <template <class> class Kernels>
struct Both {
  Kernels<float> f32;
  Kernels<double> f64;

  template <class T>
  const Kernels<T>& get() const noexcept {
    if constexpr (std::is_same_v<T, float>)
      return f32;
    else
      return f64;
  }
};

}  // namespace espalier::kernels
