#include "espalier/optim/constraint.h"

#include <utility>

#include "espalier/optim/detail/range.h"

namespace espalier::optim {
namespace {

class ClampParameters final : public TransformOf<ClampParameters> {
 public:
  ClampParameters(Scalar lo, Scalar hi) : bounds_("clamp_parameters", std::move(lo), std::move(hi)) {}
  std::string name() const override { return "clamp_parameters"; }
  bool is_constraint() const override { return true; }
  bool keeps_zeros() const override { return bounds_.always_hold_zero(); }
  void begin(const StepContext& context) override { bounds_.begin(context.step); }
  template <class T>
  void apply(Block<T>& b) const {
    b.clamp(bounds_.min(), bounds_.max());
  }

 private:
  detail::Bounds bounds_;
};

}  // namespace

Chain clamp_parameters(Scalar lo, Scalar hi) { return ClampParameters(std::move(lo), std::move(hi)); }

}  // namespace espalier::optim
