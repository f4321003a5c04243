// DType: the element types of a Tensor, and how code is chosen by them.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>

#include "espalier/core/error.h"

namespace espalier {

/// f32 and f64 compute; the others hold indices, labels, bytes and masks.
enum class DType : std::uint8_t { f32, f64, i64, i32, u8, boolean };

namespace detail {
template <class T>
struct DTypeOf {
  static constexpr bool known = false;
};
template <DType type>
struct Known {
  static constexpr bool known = true;
  static constexpr DType value = type;
};
template <>
struct DTypeOf<float> : Known<DType::f32> {};
template <>
struct DTypeOf<double> : Known<DType::f64> {};
template <>
struct DTypeOf<std::int64_t> : Known<DType::i64> {};
template <>
struct DTypeOf<std::int32_t> : Known<DType::i32> {};
template <>
struct DTypeOf<std::uint8_t> : Known<DType::u8> {};
template <>
struct DTypeOf<bool> : Known<DType::boolean> {};
}  // namespace detail

/// A C++ type that a Tensor can hold.
template <class T>
concept Element = detail::DTypeOf<T>::known;

template <Element T>
inline constexpr DType dtype_of = detail::DTypeOf<T>::value;

/// Bytes of one element.
constexpr Index size_of(DType type) noexcept {
  constexpr Index bytes[] = {4, 8, 8, 4, 1, 1};
  return bytes[static_cast<int>(type)];
}
constexpr bool is_floating(DType type) noexcept { return type == DType::f32 || type == DType::f64; }
/// "f32", "f64", "i64", "i32", "u8", "bool".
constexpr const char* name_of(DType type) noexcept {
  constexpr const char* names[] = {"f32", "f64", "i64", "i32", "u8", "bool"};
  return names[static_cast<int>(type)];
}
inline void append(std::string& text, DType type) { text += name_of(type); }

/// Calls f.operator()<T>() with the computing type, float or double. Errors: DTypeError, which names `op`.
template <class F>
decltype(auto) dispatch_floating(const char* op, DType type, F&& f) {
  if (type == DType::f32) return f.template operator()<float>();
  if (type == DType::f64) return f.template operator()<double>();
  fail<DTypeError>("[", op, "] needs f32 or f64, got ", type, ". Hint: .to(DType::f32)");
}

/// Calls f.operator()<T>() with the element type.
template <class F>
decltype(auto) dispatch(DType type, F&& f) {
  switch (type) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::u8:
      return f.template operator()<std::uint8_t>();
    case DType::boolean:
      return f.template operator()<bool>();
  }
  __builtin_unreachable();
}

}  // namespace espalier
