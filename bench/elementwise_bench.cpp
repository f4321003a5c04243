// Every elementwise family beside a plain loop over the function of the standard library, on 16 Ki floats; exp, log and
// tanh beside Highway's own too.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <vector>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/core/compare.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/elementwise_bench.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class F>
HWY_INLINE void Loop(const float* x, float* y, std::size_t n, F f) {
  const hn::ScalableTag<float> d;
  for (std::size_t i = 0; i + Lanes(d) <= n; i += Lanes(d)) StoreU(f(d, LoadU(d, x + i)), d, y + i);
}
void Exp(const float* x, float* y, std::size_t n) {
  Loop(
      x, y, n, [](auto d, auto v) __attribute__((always_inline)) { return hn::Exp(d, v); });
}
void Log(const float* x, float* y, std::size_t n) {
  Loop(
      x, y, n, [](auto d, auto v) __attribute__((always_inline)) { return hn::Log(d, v); });
}
void Tanh(const float* x, float* y, std::size_t n) {
  Loop(
      x, y, n, [](auto d, auto v) __attribute__((always_inline)) { return hn::Tanh(d, v); });
}

}  // namespace espalier::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::bench {
HWY_EXPORT(Exp);
HWY_EXPORT(Log);
HWY_EXPORT(Tanh);

namespace {

constexpr std::size_t elements = 1 << 14;
using K = kernels::UnaryKernels;
using B = kernels::BackwardKernels;

std::vector<float> numbers(float low = 0.1f, float high = 0.9f) {
  std::vector<float> x(elements);
  for (float& v : x) v = low + (high - low) * static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX);
  return x;
}
template <class F>
void timed(benchmark::State& state, double bytes, F body) {
  for (auto _ : state) {
    body();
    benchmark::ClobberMemory();
  }
  const auto items = static_cast<double>(state.iterations()) * static_cast<double>(elements);
  state.counters["ns/element"] =
      benchmark::Counter(items * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["GB/s"] = benchmark::Counter(items * bytes * 1e-9, benchmark::Counter::kIsRate);
}

void kernel(const char* name, kernels::UnaryKernel K::*which, float low = 0.1f, float high = 0.9f) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) {
    const auto x = numbers(low, high);
    std::vector<float> y(elements);
    const auto f = (kernels::unary().*which).f32;
    timed(state, 8, [&] { f(x.data(), y.data(), elements, 1.0f, 1.0f); });
  });
}
template <class F>
void plain(const std::string& name, F f, float low = 0.1f, float high = 0.9f) {
  benchmark::RegisterBenchmark((name + "/plain").c_str(), [=](benchmark::State& state) {
    const auto x = numbers(low, high);
    std::vector<float> y(elements);
    timed(state, 8, [&] {
      for (std::size_t i = 0; i < elements; ++i) y[i] = f(x[i]);
    });
  });
}
/// The kernel beside the plain loop, both from [low, high].
template <class F>
void both(const char* name, kernels::UnaryKernel K::*which, F f, float low = 0.1f, float high = 0.9f) {
  kernel(name, which, low, high);
  plain(name, f, low, high);
}
void highway(const char* name, void (*f)(const float*, float*, std::size_t), float low = -3, float high = 3) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) {
    const auto x = numbers(low, high);
    std::vector<float> y(elements);
    timed(state, 8, [&] { f(x.data(), y.data(), elements); });
  });
}
void slope(const char* name, kernels::BinaryKernel B::*which) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) {
    const auto g = numbers(-1, 1), x = numbers(-3, 3);
    std::vector<float> y(elements);
    const auto f = (kernels::backward().*which).f32.vv;
    timed(state, 12, [&] { f(g.data(), x.data(), y.data(), elements, 1.0f, 1.0f); });
  });
}
/// A whole call with tensors, without a tape.
template <class F>
void call(const char* name, double bytes, F f) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) {
    const Tensor a = Tensor::from(numbers(-3, 3), {elements}), b = Tensor::from(numbers(-3, 3), {elements});
    timed(state, bytes, [&] { benchmark::DoNotOptimize(f(a, b)); });
  });
}

float logistic(float x) { return 1 / (1 + std::exp(-x)); }

const bool registered = [] {
  kernel("copy", &K::copy);
  both(
      "exp", &K::exp, [](float x) { return std::exp(x); }, -3, 3);
  highway("exp/highway", [](const float* x, float* y, std::size_t n) { HWY_DYNAMIC_DISPATCH(Exp)(x, y, n); });
  both(
      "log", &K::log, [](float x) { return std::log(x); }, 0.1f, 3);
  highway(
      "log/highway", [](const float* x, float* y, std::size_t n) { HWY_DYNAMIC_DISPATCH(Log)
                                                                   (x, y, n); }, 0.1f, 3);
  both(
      "tanh", &K::tanh, [](float x) { return std::tanh(x); }, -3, 3);
  highway("tanh/highway", [](const float* x, float* y, std::size_t n) { HWY_DYNAMIC_DISPATCH(Tanh)(x, y, n); });
  both("expm1", &K::expm1, [](float x) { return std::expm1(x); });
  both("log1p", &K::log1p, [](float x) { return std::log1p(x); });
  both("log2", &K::log2, [](float x) { return std::log2(x); });
  both("log10", &K::log10, [](float x) { return std::log10(x); });
  both("sqrt", &K::sqrt, [](float x) { return std::sqrt(x); });
  both("rsqrt", &K::rsqrt, [](float x) { return 1 / std::sqrt(x); });
  both("sin", &K::sin, [](float x) { return std::sin(x); });
  both("cos", &K::cos, [](float x) { return std::cos(x); });
  both("tan", &K::tan, [](float x) { return std::tan(x); });
  both("asin", &K::asin, [](float x) { return std::asin(x); });
  both("atan", &K::atan, [](float x) { return std::atan(x); });
  both("sinh", &K::sinh, [](float x) { return std::sinh(x); });
  both("atanh", &K::atanh, [](float x) { return std::atanh(x); });
  both(
      "erf", &K::erf, [](float x) { return std::erf(x); }, -3, 3);
  both(
      "erfc", &K::erfc, [](float x) { return std::erfc(x); }, -3, 3);
  both("round", &K::round, [](float x) { return std::nearbyint(x); });
  both(
      "relu", &K::relu, [](float x) { return x < 0 ? 0 : x; }, -3, 3);
  both("sigmoid", &K::sigmoid, logistic, -3, 3);
  both(
      "softplus", &K::softplus, [](float x) { return x > 20 ? x : std::log1p(std::exp(x)); }, -3, 3);
  both(
      "logsigmoid", &K::logsigmoid, [](float x) { return -std::log1p(std::exp(-x)); }, -3, 3);
  both(
      "elu", &K::elu, [](float x) { return x > 0 ? x : std::expm1(x); }, -3, 3);
  both(
      "gelu", &K::gelu, [](float x) { return x / 2 * (1 + std::erf(x * 0.70710678f)); }, -3, 3);
  both(
      "gelu_tanh", &K::gelu_tanh,
      [](float x) { return x / 2 * (1 + std::tanh(0.79788456f * (x + 0.044715f * x * x * x))); }, -3, 3);
  both(
      "silu", &K::silu, [](float x) { return x * logistic(x); }, -3, 3);
  both(
      "mish", &K::mish, [](float x) { return x * std::tanh(std::log1p(std::exp(x))); }, -3, 3);
  both(
      "hardswish", &K::hardswish, [](float x) { return x * std::fmin(std::fmax(x + 3, 0.f), 6.f) / 6; }, -4, 4);
  slope("gelu/backward", &B::gelu);
  slope("gelu_tanh/backward", &B::gelu_tanh);
  slope("silu/backward", &B::silu);
  slope("mish/backward", &B::mish);
  slope("elu/backward", &B::elu);
  slope("softplus/backward", &B::softplus);
  slope("tanh/backward", &B::tanh);
  call("add", 12, [](const Tensor& a, const Tensor& b) { return add(a, b); });
  call("add/alpha", 12, [](const Tensor& a, const Tensor& b) { return add(a, b, 0.5); });
  call("maximum", 12, [](const Tensor& a, const Tensor& b) { return maximum(a, b); });
  call("lerp", 16, [](const Tensor& a, const Tensor& b) { return lerp(a, b, a); });
  call("less", 9, [](const Tensor& a, const Tensor& b) { return lt(a, b); });
  call("less and where", 14, [](const Tensor& a, const Tensor& b) { return where(lt(a, b), a, b); });
  return true;
}();

}  // namespace
}  // namespace espalier::bench
#endif
