#include "espalier/autograd/ops/linalg.h"

#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/matmul.h"

namespace espalier {

Variable matmul(const Variable& a, const Variable& b) {
  Tensor y = matmul(a.value(), b.value());
  if (!recording(a, b)) return y;
  return record("matmul", std::move(y), {&a, &b}, [a = Saved(a), b = Saved(b)](Variable g, Wants wants) {
    // Vectors become the matrices they stood for; sum_to then takes back broadcast leading axes.
    const Variable &x = a.get(), &w = b.get();
    auto with_axis = [](const Variable& v, int axis) { return reshape(v, v.value().unsqueeze(axis).shape()); };
    const Variable left = x.rank() == 1 ? with_axis(x, 0) : x, right = w.rank() == 1 ? with_axis(w, 1) : w;
    if (w.rank() == 1) g = with_axis(g, -1);
    if (x.rank() == 1) g = with_axis(g, -2);
    return gradients(
        wants[0] ? reshape(sum_to(matmul(g, transpose(right, -2, -1)), left.shape()), x.shape()) : no_gradient(),
        wants[1] ? reshape(sum_to(matmul(transpose(left, -2, -1), g), right.shape()), w.shape()) : no_gradient());
  });
}

Variable linear(const Variable& x, const Variable& weight, const Variable& bias) {
  Tensor y = linear(x.value(), weight.value(), bias.defined() ? &bias.value() : nullptr);
  if (!recording(x, weight, bias)) return y;
  return record(
      "linear", std::move(y), {&x, &weight, &bias}, [x = Saved(x), w = Saved(weight)](const Variable& g, Wants wants) {
        if (w.get().value().packed())
          fail<GradError>("[linear] the weight of shape ", w.shape(),
                          " is packed and has no backward. Hint: train the model "
                          "before compact(), or densify() it");
        const Variable& input = x.get();
        const Index in = w.shape()[1], out = w.shape()[0];
        const bool flat = input.rank() == 2;
        Index batch = 1;  // not size / in, for in may be 0
        for (int axis = 0; axis + 1 < input.rank(); ++axis) batch *= input.shape()[axis];
        const Variable rows = flat ? input : reshape(input, {batch, in});
        const Variable g_rows = flat ? g : reshape(g, {batch, out});
        return gradients(wants[0] ? (flat ? matmul(g_rows, w.get()) : reshape(matmul(g_rows, w.get()), input.shape()))
                                  : no_gradient(),
                         wants[1] ? matmul(transpose(g_rows, 0, 1), rows) : no_gradient(),
                         wants[2] ? sum_to(g_rows, {out}) : no_gradient());
      });
}

}  // namespace espalier
