#include "espalier/autograd/ops/linalg.h"

#include "espalier/autograd/ops/detail/slopes.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/math.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/autograd/sparse_training.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"
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

Variable bmm(const Variable& a, const Variable& b) {
  if (a.rank() != 3 || b.rank() != 3 || a.shape()[0] != b.shape()[0])
    fail<ShapeError>("[bmm] needs [n, i, k] x [n, k, j], got a ", a.shape(), " x b ", b.shape(),
                     ". Hint: matmul() broadcasts");
  return matmul(a, b);
}

Variable addmm(const Variable& x, const Variable& a, const Variable& b, double beta, double alpha) {
  if (a.rank() != 2 || b.rank() != 2)
    fail<ShapeError>("[addmm] multiplies matrices, got a ", a.shape(), " x b ", b.shape());
  check_same_dtype("addmm", x.value(), a.value());
  Variable product = matmul(a, b);
  if (!(broadcast_shapes("addmm", x.shape(), product.shape()) == product.shape()))
    fail<ShapeError>("[addmm] x ", x.shape(), " does not broadcast to the product ", product.shape());
  if (alpha != 1) product = affine(product, alpha, 0);
  if (beta == 0) return product;
  return add(beta == 1 ? x : affine(x, beta, 0), product);
}

namespace {
void check_vectors(const char* op, const Variable& a, const Variable& b) {
  if (a.rank() != 1 || b.rank() != 1)
    fail<ShapeError>("[", op, "] needs two vectors, got a ", a.shape(), " and b ", b.shape(), ". Hint: flatten() them");
}
}  // namespace

Variable outer(const Variable& a, const Variable& b) {
  check_vectors("outer", a, b);
  return mul(reshape(a, {a.size(), 1}), b);
}

Variable dot(const Variable& a, const Variable& b) {
  check_vectors("dot", a, b);
  if (a.size() != b.size()) fail<ShapeError>("[dot] lengths differ: a ", a.shape(), " and b ", b.shape());
  return matmul(a, b);
}

// --- linear, with what follows it -----------------------------------------------------------------------------------

struct Activation::Rule {
  const char* name;
  Index number;                                               // among the settings of linear
  kernels::UnaryKernel kernels::UnaryKernels::*forward;       // null: done by the product itself
  kernels::BinaryKernel kernels::BackwardKernels::*backward;  // of (g, output or input)
  bool from_output;
  Variable (*slope)(const Variable& v);  // in ops, of the same v, for a backward pass that is itself recorded
};

namespace {

using detail::gelu_slope;
using detail::relu_slope;
using detail::sigmoid_slope;
using detail::silu_slope;
using detail::tanh_slope;
using kernels::BackwardKernels;
using kernels::UnaryKernels;

constexpr Activation::Rule relu_rule{"relu", 1, nullptr, &BackwardKernels::relu, true, relu_slope};
constexpr Activation::Rule tanh_rule{"tanh", 2, &UnaryKernels::tanh, &BackwardKernels::tanh, true, tanh_slope};
constexpr Activation::Rule sigmoid_rule{"sigmoid",    3, &UnaryKernels::sigmoid, &BackwardKernels::sigmoid, true,
                                        sigmoid_slope};
constexpr Activation::Rule gelu_rule{"gelu", 4, &UnaryKernels::gelu, &BackwardKernels::gelu, false, gelu_slope};
constexpr Activation::Rule silu_rule{"silu", 5, &UnaryKernels::silu, &BackwardKernels::silu, false, silu_slope};

/// Gradients of x, weight and bias, g being that of x W^T + bias.
std::array<Variable, 3> linear_gradients(const Variable& g, const Variable& x, const Variable& w, Wants wants) {
  if (w.value().packed())
    fail<GradError>("[linear] the weight of shape ", w.shape(),
                    " is packed and has no backward. Hint: train the model before compact(), or densify() it");
  const Index in = w.shape()[1], out = w.shape()[0];
  const bool flat = x.rank() == 2;
  Index batch = 1;  // not size / in, for in may be 0
  for (int axis = 0; axis + 1 < x.rank(); ++axis) batch *= x.shape()[axis];
  const Variable rows = flat ? x : reshape(x, {batch, in});
  const Variable g_rows = flat ? g : reshape(g, {batch, out});
  const MaskedLinear* sparse = recording(g, x, w) ? nullptr : SparseTraining::products_of(w.value());
  const auto input_gradient = [&] {
    return sparse ? Variable(sparse->input_gradient(g_rows.value())) : matmul(g_rows, w);
  };
  const auto weight_gradient = [&] {
    return sparse && !SparseTraining::wants_dense_gradient()
               ? Variable(sparse->weight_gradient(g_rows.value(), rows.value()))
               : matmul(transpose(g_rows, 0, 1), rows);
  };
  return gradients(wants[0] ? (flat ? input_gradient() : reshape(input_gradient(), x.shape())) : no_gradient(),
                   wants[1] ? weight_gradient() : no_gradient(), wants[2] ? sum_to(g_rows, {out}) : no_gradient());
}

Tensor linear_value(const Variable& x, const Variable& weight, const Variable& bias, bool with_relu) {
  const bool shapes_fit = x.rank() == 2 && weight.rank() == 2 && x.shape()[1] == weight.shape()[1] &&
                          x.dtype() == weight.dtype() &&
                          (!bias.defined() || (bias.shape() == Shape{weight.shape()[0]} && bias.dtype() == x.dtype()));
  if (const MaskedLinear* sparse = shapes_fit ? SparseTraining::products_of(weight.value()) : nullptr) {
    Tensor y = sparse->linear(x.value(), bias.defined() ? &bias.value() : nullptr);
    return with_relu ? map("relu", kernels::unary().relu, y) : y;
  }
  return linear(x.value(), weight.value(), bias.defined() ? &bias.value() : nullptr, with_relu);
}

}  // namespace

constinit const Activation Activation::none{nullptr}, Activation::relu{&relu_rule}, Activation::tanh{&tanh_rule},
    Activation::sigmoid{&sigmoid_rule}, Activation::gelu{&gelu_rule}, Activation::silu{&silu_rule};

Variable linear(const Variable& x, const Variable& weight, const Variable& bias, Activation activation) {
  const Activation::Rule* rule = activation.rule();
  Tensor y = linear_value(x, weight, bias, rule && !rule->forward);
  if (!rule) {
    if (!recording(x, weight, bias)) return y;
    return record("linear", std::move(y), {&x, &weight, &bias},
                  [x = Saved(x), w = Saved(weight)](const Variable& g, Wants wants) {
                    return linear_gradients(g, x.get(), w.get(), wants);
                  });
  }
  Tensor product = y;
  if (rule->forward) y = map(rule->name, kernels::unary().*rule->forward, product);
  if (!recording(x, weight, bias)) return y;
  if (rule->from_output) {
    return record(
        "linear", y, {&x, &weight, &bias},
        [x = Saved(x), w = Saved(weight), y = Saved::output(y), rule](const Variable& g, Wants wants) {
          const Variable& v = y.get();
          const Variable h = recording(g, v)
                                 ? mul(g, rule->slope(v))
                                 : Variable(zip(rule->name, kernels::backward().*rule->backward, g.value(), v.value()));
          return linear_gradients(h, x.get(), w.get(), wants);
        },
        settings(rule->number));
  }
  return record(
      "linear", std::move(y), {&x, &weight, &bias},
      [x = Saved(x), w = Saved(weight), b = Saved(bias), z = std::move(product), rule](const Variable& g, Wants wants) {
        // A recorded pass needs the product as a function of x, weight and bias: it is computed again.
        const Variable h = recording(g, x.get(), w.get(), b.get())
                               ? mul(g, rule->slope(linear(x.get(), w.get(), b.get())))
                               : Variable(zip(rule->name, kernels::backward().*rule->backward, g.value(), z));
        return linear_gradients(h, x.get(), w.get(), wants);
      },
      settings(rule->number));
}

}  // namespace espalier
