#include "espalier/optim/mask_gradient.h"

namespace espalier::optim {
namespace {

class MaskGradient final : public TransformOf<MaskGradient> {
 public:
  std::string name() const override { return "mask_gradient"; }
  bool keeps_zeros() const override { return true; }
  template <class T>
  void apply(Block<T>& b) const {
    b.mask_gradient();
  }
};

}  // namespace

Chain mask_gradient() { return MaskGradient(); }

}  // namespace espalier::optim
