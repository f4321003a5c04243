#include "espalier/core/version.h"

#define ESPALIER_TEXT_OF(number) #number
#define ESPALIER_TEXT(number) ESPALIER_TEXT_OF(number)

namespace espalier {

const char* version() noexcept {
  return ESPALIER_TEXT(ESPALIER_VERSION_MAJOR) "." ESPALIER_TEXT(ESPALIER_VERSION_MINOR) "." ESPALIER_TEXT(
      ESPALIER_VERSION_PATCH);
}

}  // namespace espalier
