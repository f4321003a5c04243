// The SIMD target that the kernels use: chosen once, by what the processor has.
#pragma once

#include <string>
#include <vector>

namespace espalier::kernels {

/// Name of the target in use: "AVX3", "AVX2", "SSE4" or "SCALAR" on x86. Part of what bits depend on: print it in
/// reports.
std::string simd_target();
/// Targets that are compiled in and that this processor has, best first.
std::vector<std::string> simd_targets();
/// Uses `name`, one of simd_targets(), from now on; "" is the best again. For tests and benchmarks.
/// Not to be called while kernels run. Errors: ConfigError for a name that is not among them.
void set_simd_target(const std::string& name);

}  // namespace espalier::kernels
