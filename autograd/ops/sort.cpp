#include "espalier/autograd/ops/sort.h"

#include "espalier/autograd/detail/along.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/sort.h"

namespace espalier {
namespace {

IndexedResult picked(const char* op, const Variable& x, MaxResult y, int axis) {
  const int at = x.rank() == 0 ? 0 : checked_axis(op, axis, x.rank());
  return {detail::picked(op, x, std::move(y.values), y.indices, at), y.indices};
}
/// The same of one element along the axis, which then goes.
IndexedResult picked_one(const char* op, const Variable& x, MaxResult y, int axis, bool keepdim) {
  IndexedResult kept = picked(op, x, std::move(y), axis);
  if (keepdim || x.rank() == 0) return kept;
  return {squeeze(kept.values, axis), kept.indices.squeeze(axis)};
}

}  // namespace

IndexedResult sort(const Variable& x, int axis, bool descending) {
  return picked("sort", x, sort(x.value(), axis, descending), axis);
}
IndexedResult topk(const Variable& x, Index k, int axis, bool largest) {
  return picked("topk", x, topk(x.value(), k, axis, largest), axis);
}
IndexedResult kthvalue(const Variable& x, Index k, int axis, bool keepdim) {
  return picked_one("kthvalue", x, kthvalue(x.value(), k, axis, true), axis, keepdim);
}
IndexedResult median(const Variable& x, int axis, bool keepdim) {
  return picked_one("median", x, median(x.value(), axis, true), axis, keepdim);
}

}  // namespace espalier
