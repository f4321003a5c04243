// Differentiable orders along one axis: the gradient goes to where each element came from. NaN counts as largest, equal
// elements stay in their order. See core/sort.h; argsort() and argmax() are there and in core/reduce.h.
#pragma once

#include "espalier/autograd/ops/reduce.h"

namespace espalier {

/// In ascending (descending) order along `axis`, and the place each came from. Errors: IndexError.
IndexedResult sort(const Variable& x, int axis = -1, bool descending = false);
/// The k largest (smallest), best first. Errors: IndexError for a k or an axis that does not exist.
IndexedResult topk(const Variable& x, Index k, int axis = -1, bool largest = true);
/// The k-th smallest, k from 1 on. Drops the axis unless `keepdim`. Errors: as topk.
IndexedResult kthvalue(const Variable& x, Index k, int axis = -1, bool keepdim = false);
/// The lower of the two middle elements, NaN if there is one. Errors: ShapeError if the axis is empty.
IndexedResult median(const Variable& x, int axis = -1, bool keepdim = false);

}  // namespace espalier
