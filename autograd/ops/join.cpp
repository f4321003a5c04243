#include "espalier/autograd/ops/join.h"

#include <algorithm>

#include "espalier/autograd/ops/shape.h"
#include "espalier/core/rearrange.h"

namespace espalier {
namespace {

std::vector<Tensor> values_of(std::span<const Variable> pieces) {
  std::vector<Tensor> values;
  values.reserve(pieces.size());
  for (const Variable& piece : pieces) values.push_back(piece.value());
  return values;
}

/// The gradients that came, zeros (which take no memory) where none did.
std::vector<Variable> completed(std::span<const Variable> g, const std::vector<Shape>& shapes, DType type) {
  std::vector<Variable> all;
  all.reserve(g.size());
  for (std::size_t k = 0; k < g.size(); ++k)
    all.push_back(g[k].defined() ? g[k] : Variable(Tensor::zeros({}, type).broadcast_to(shapes[k])));
  return all;
}

std::vector<Variable> taken_apart(const char* op, const Variable& x, std::vector<Tensor> pieces, int axis,
                                  Variable (*together)(std::span<const Variable>, int)) {
  if (!recording(x) || pieces.empty())
    return {std::make_move_iterator(pieces.begin()), std::make_move_iterator(pieces.end())};
  std::vector<Shape> shapes;
  for (const Tensor& piece : pieces) shapes.push_back(piece.shape());
  return record(
      op, std::move(pieces), {&x},
      [shapes = std::move(shapes), type = x.dtype(), axis, together](std::span<const Variable> g, Wants) {
        return together(completed(g, shapes, type), axis);
      },
      settings(axis < 0 ? axis + x.rank() : axis));
}

std::vector<Variable> split_in(const char* op, const Variable& x, std::span<const Index> sizes, int at) {
  std::vector<Tensor> pieces;
  for (Index begin = 0; const Index size : sizes) {
    pieces.push_back(x.value().narrow(at, begin, size));
    begin += size;
  }
  return taken_apart(op, x, std::move(pieces), at, [](std::span<const Variable> g, int axis) { return cat(g, axis); });
}

/// n in pieces of `size`; at least one.
std::vector<Index> even_sizes(Index n, Index size) {
  std::vector<Index> sizes;
  for (Index begin = 0; begin < n || sizes.empty(); begin += size) sizes.push_back(std::min(size, n - begin));
  return sizes;
}

}  // namespace

Variable cat(std::span<const Variable> pieces, int axis) {
  Tensor y = concatenated(values_of(pieces), axis);
  if (!recording(pieces)) return y;
  std::vector<Shape> shapes;
  for (const Variable& piece : pieces) shapes.push_back(piece.shape());
  const int at = checked_axis("cat", axis, y.rank());
  return record(
      "cat", std::move(y), pieces,
      [shapes = std::move(shapes), at](const Variable& g, Wants wants) {
        std::vector<Variable> result(shapes.size());
        Index begin = 0;
        for (std::size_t k = 0; k < shapes.size(); ++k) {
          const bool nothing = shapes[k].rank() != g.rank();  // of shape [0]: it was left out
          const Index length = nothing ? 0 : shapes[k][at];
          if (wants[k])
            result[k] = nothing ? Variable(Tensor::zeros(shapes[k], g.dtype())) : narrow(g, at, begin, length);
          begin += length;
        }
        return result;
      },
      settings(at));
}

Variable stack(std::span<const Variable> pieces, int axis) {
  Tensor y = stacked(values_of(pieces), axis);
  if (!recording(pieces)) return y;
  const int at = checked_axis("stack", axis, y.rank());
  return record(
      "stack", std::move(y), pieces,
      [at, n = pieces.size()](const Variable& g, Wants wants) {
        std::vector<Variable> result(n);
        for (std::size_t k = 0; k < n; ++k)
          if (wants[k]) result[k] = select(g, at, static_cast<Index>(k));
        return result;
      },
      settings(at));
}

std::vector<Variable> split(const Variable& x, std::span<const Index> sizes, int axis) {
  const int at = checked_axis("split", axis, x.rank());
  Index sum = 0;
  bool sound = true;
  for (const Index size : sizes) {
    sound = sound && size >= 0 && size <= x.shape()[at];
    sum += sound ? size : 0;
  }
  if (!sound || sum != x.shape()[at]) {
    std::string text;
    for (const Index size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
    fail<ShapeError>("[split] sizes {", text, "} do not add up to axis ", axis, " of shape ", x.shape(),
                     ". Hint: one number instead of a list gives equal pieces");
  }
  return split_in("split", x, sizes, at);
}

std::vector<Variable> split(const Variable& x, Index size, int axis) {
  const int at = checked_axis("split", axis, x.rank());
  if (size < 1)
    fail<ConfigError>("[split] pieces must have at least one element, got ", size, " for shape ", x.shape());
  return split_in("split", x, even_sizes(x.shape()[at], size), at);
}

std::vector<Variable> chunk(const Variable& x, Index chunks, int axis) {
  const int at = checked_axis("chunk", axis, x.rank());
  if (chunks < 1) fail<ConfigError>("[chunk] there must be at least one chunk, got ", chunks, " for shape ", x.shape());
  const Index n = x.shape()[at];
  if (n == 0) return split_in("chunk", x, std::vector<Index>(static_cast<std::size_t>(chunks), 0), at);
  return split_in("chunk", x, even_sizes(n, n / chunks + (n % chunks != 0)), at);
}

std::vector<Variable> unbind(const Variable& x, int axis) {
  const int at = checked_axis("unbind", axis, x.rank());
  std::vector<Tensor> pieces;
  for (Index k = 0; k < x.shape()[at]; ++k) pieces.push_back(x.value().select(at, k));
  return taken_apart("unbind", x, std::move(pieces), at,
                     [](std::span<const Variable> g, int a) { return stack(g, a); });
}

}  // namespace espalier
