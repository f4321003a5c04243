// How a mask and the live values of a pruned weight are written. Private to io.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/autograd/mask.h"
#include "espalier/core/tensor.h"

namespace espalier::io::detail {

/// A mask as u8 [n]: "bits", the mask's own words, ceil(size / 8) bytes; or "gaps", a byte for each live weight: how
/// many pruned ones stand before it, 255 meaning 255 and no live one yet; closed by the number behind the last live
/// one; or "gaps16", the same in two bytes, the lower first, with 65535.
struct MaskCode {
  std::string form;
  Tensor bytes;
};

/// Where the number of live weights is not known.
inline constexpr Index any_count = -1;

/// The smallest of the three.
MaskCode encode_mask(const Mask& mask);
/// Errors: FormatError, which begins with `where`, unless the code stands for exactly `size` weights and `live` live
/// ones. Nothing is allocated that the code's length does not vouch for.
Mask decode_mask(const MaskCode& code, Index size, Index live, const std::string& where);

/// [live]: the values where the mask is 1, in order. f32, f64.
Tensor gather_live(const Tensor& dense, const Mask& mask);
/// The opposite: zeros where the mask is 0.
Tensor scatter_live(const Tensor& values, const Mask& mask, const Shape& shape);
/// Live where the value is not 0; NaN is live.
Mask mask_of_nonzero(const Tensor& dense);

}  // namespace espalier::io::detail
