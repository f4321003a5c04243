// Which SIMD targets the kernels are compiled for; included before any header of Highway.
#pragma once

// On x86: the baseline, SSE4, AVX2 and AVX3 (= AVX-512). A processor with SSSE3 and without SSE4 takes the baseline.
#define HWY_DISABLED_TARGETS HWY_SSSE3
