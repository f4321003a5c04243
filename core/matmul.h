// Matrix products of tensors. Transposed views cost nothing: the kernels read them as they lie.
#pragma once

#include "espalier/core/tensor.h"

namespace espalier {

/// a b over the last two axes, [..., m, k] x [..., k, n] -> [..., m, n]; the leading axes broadcast. A vector stands
/// for a row on the left and a column on the right, and its axis vanishes, as in NumPy. f32, f64. Errors: ShapeError,
/// DTypeError. Cost: 2 m n k operations a matrix.
Tensor matmul(const Tensor& a, const Tensor& b);

/// y = x W^T + bias. x [..., in], weight [out, in], bias [out] or null -> y [..., out]. A packed weight runs its sparse
/// kernel. With `relu`, y = max(0, x W^T + bias) in the same pass. Errors: ShapeError, DTypeError.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor* bias, bool relu = false);

}  // namespace espalier
