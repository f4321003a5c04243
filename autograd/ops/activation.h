// Differentiable activation functions, element by element. f32, f64. NaN stays NaN. Slopes at kinks are PyTorch's.
// Errors of all: DTypeError. Forward and backward are one loop each.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

// --- smooth -----------------------------------------------------------------------------------------------------------
Variable tanh(const Variable& x);
Variable sigmoid(const Variable& x);     ///< 1 / (1 + exp(-x))
Variable logsigmoid(const Variable& x);  ///< log(sigmoid(x)), without overflow
/// log(1 + exp(beta x)) / beta, and x itself where beta x > threshold. Errors: ConfigError unless beta > 0.
Variable softplus(const Variable& x, double beta = 1, double threshold = 20);
Variable softsign(const Variable& x);    ///< x / (1 + |x|)
Variable tanhshrink(const Variable& x);  ///< x - tanh(x)
enum class GeluForm { exact, tanh };
/// x Phi(x), Phi the normal distribution; or x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). Hendrycks and Gimpel 2016.
/// An object, so that its bare name stands for the function of x alone: in a Sequential, as an activation.
inline constexpr struct GeluFunction {
  Variable operator()(const Variable& x, GeluForm form = GeluForm::exact) const;
} gelu{};
Variable silu(const Variable& x);  ///< x sigmoid(x), also called swish. Elfwing, Uchibe and Doya 2017
Variable mish(const Variable& x);  ///< x tanh(log(1 + exp(x))). Misra 2019

// --- linear above zero ------------------------------------------------------------------------------------------------
Variable relu(const Variable& x);                                      ///< max(x, 0); slope 0 at 0
Variable leaky_relu(const Variable& x, double negative_slope = 0.01);  ///< x where x > 0, else negative_slope x
/// x where x > 0, else w x. w holds one slope, or one for each channel: axis 1 of x, or its only one. He et al. 2015,
/// equation 1. Errors: ShapeError unless w [1] or [C].
Variable prelu(const Variable& x, const Variable& weight);
/// x where x > 0, else alpha (exp(x) - 1). Clevert, Unterthiner and Hochreiter 2016, equation 15.
Variable elu(const Variable& x, double alpha = 1);
/// x where x > 0, else alpha (exp(x / alpha) - 1). Barron 2017. Errors: ConfigError if alpha is 0.
Variable celu(const Variable& x, double alpha = 1);
/// lambda elu(x, alpha) with lambda = 1.0507, alpha = 1.6733. Klambauer et al. 2017, equation 2.
Variable selu(const Variable& x);

// --- of straight pieces -----------------------------------------------------------------------------------------------
/// x within [low, high]; slope 0 at the bounds. Errors: ConfigError unless low <= high.
Variable hardtanh(const Variable& x, double low = -1, double high = 1);
Variable relu6(const Variable& x);        ///< x within [0, 6]; slope 0 at the bounds
Variable hardsigmoid(const Variable& x);  ///< relu6(x + 3) / 6
Variable hardswish(const Variable& x);    ///< x relu6(x + 3) / 6. Howard et al. 2019
/// 0 where |x| <= lambda, else x. Errors: ConfigError unless lambda >= 0.
Variable hardshrink(const Variable& x, double lambda = 0.5);
/// 0 where |x| <= lambda, else x brought nearer to 0 by lambda. Errors: ConfigError unless lambda >= 0.
Variable softshrink(const Variable& x, double lambda = 0.5);
/// x where x > bound, else value.
Variable threshold(const Variable& x, double bound, double value);

// --- gates ------------------------------------------------------------------------------------------------------------
/// a sigmoid(b), a and b the halves of x along `axis`. Dauphin et al. 2017. Errors: IndexError; ShapeError if the axis is
/// of odd length.
Variable glu(const Variable& x, int axis = -1);

}  // namespace espalier
