#include "espalier/core/kernels/target.h"

#include "espalier/core/error.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/target.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
const char* TargetInUse() { return hwy::TargetName(HWY_TARGET); }
}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(TargetInUse);

namespace {
/// The bits of the targets that can be used, best first: a lower bit is a better target.
std::vector<std::int64_t> usable() {
  hwy::SetSupportedTargetsForTest(0);
  const std::int64_t possible = (hwy::SupportedTargets() | HWY_STATIC_TARGET) & HWY_TARGETS;
  std::vector<std::int64_t> bits;
  for (std::int64_t left = possible; left != 0; left &= left - 1) bits.push_back(left & -left);
  return bits;
}
void use(std::int64_t only) {
  hwy::SetSupportedTargetsForTest(only);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}
}  // namespace

std::string simd_target() { return HWY_DYNAMIC_DISPATCH(TargetInUse)(); }

std::vector<std::string> simd_targets() {
  const std::string now = simd_target();
  std::vector<std::string> names;
  for (const std::int64_t bit : usable()) names.emplace_back(hwy::TargetName(bit));
  set_simd_target(now);  // usable() has forgotten it
  return names;
}

void set_simd_target(const std::string& name) {
  const auto bits = usable();
  if (name.empty()) return use(0);
  for (const std::int64_t bit : bits)
    if (name == hwy::TargetName(bit)) return use(bit);
  fail<ConfigError>("[set_simd_target] '", name, "' is not compiled in or not in this processor");
}

}  // namespace espalier::kernels
#endif
