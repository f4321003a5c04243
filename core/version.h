// The version of Espalier. The build reads it from here.
#pragma once

#define ESPALIER_VERSION_MAJOR 0
#define ESPALIER_VERSION_MINOR 1
#define ESPALIER_VERSION_PATCH 0

namespace espalier {

/// "major.minor.patch" of the library that was linked; the macros above are those of the headers that were read.
const char* version() noexcept;

}  // namespace espalier
