#include "espalier/autograd/ops/recurrent.h"

#include "espalier/autograd/ops/detail/slopes.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/sparse_training.h"
#include "espalier/core/recurrent.h"

namespace espalier {
namespace {

const RecurrentCell& rnn_kind(Nonlinearity nonlinearity) {
  return nonlinearity == Nonlinearity::tanh ? cell_kinds::rnn_tanh() : cell_kinds::rnn_relu();
}

/// What a recurrent op is called with; c is undefined but for the LSTM.
struct Inputs {
  const Variable &x, &h, &c, &weight_ih, &weight_hh, &bias_ih, &bias_hh;

  RecurrentArguments values() const {
    return {.x = x.value(),
            .h = h.value(),
            .c = c.value(),
            .weight_ih = weight_ih.value(),
            .weight_hh = weight_hh.value(),
            .bias_ih = bias_ih.value(),
            .bias_hh = bias_hh.value(),
            .lengths = {}};
  }
  bool recorded() const { return recording(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh); }
};

void refuse_packed(const char* op, std::initializer_list<const Tensor*> weights) {
  for (const Tensor* weight : weights)
    if (weight->packed())
      fail<GradError>("[", op, "] a weight of shape ", weight->shape(),
                      " is packed and has no backward. Hint: train the model before compact(), or densify() it");
}

// --- one step -------------------------------------------------------------------------------------------------------

using detail::sigmoid_slope;
using detail::tanh_slope;

Variable or_zeros(const Variable& g, const Shape& shape, DType type) {
  return g.defined() ? g : Variable(Tensor::zeros(shape, type));
}

/// Gradients of a and p together, and of c: made of ops.
std::array<Variable, 3> lstm_gates_backward(std::span<const Variable> gs, const Variable& a, const Variable& p,
                                            const Variable& c) {
  const std::vector<Variable> sums = chunk(add(a, p), 4, 1);
  const Variable i = sigmoid(sums[0]), f = sigmoid(sums[1]), g = tanh(sums[2]), o = sigmoid(sums[3]);
  const Variable inner = tanh(add(mul(f, c), mul(i, g)));
  const Variable dh = or_zeros(gs[0], c.shape(), c.dtype());
  const Variable through = mul(mul(dh, o), tanh_slope(inner));
  const Variable dc = gs[1].defined() ? add(through, gs[1]) : through;
  const Variable d = cat({mul(mul(dc, g), sigmoid_slope(i)), mul(mul(dc, c), sigmoid_slope(f)),
                          mul(mul(dc, i), tanh_slope(g)), mul(mul(dh, inner), sigmoid_slope(o))},
                         1);
  return gradients(d, d, mul(dc, f));
}

LstmCellResult lstm_gates(const Variable& a, const Variable& p, const Variable& c) {
  const RecurrentCell& cell = cell_kinds::lstm();
  const Tensor state = c.value();
  if (!recording(a, p, c)) {
    RecurrentOutput next = cell_forward(cell, a.value(), p.value(), state, state, nullptr);
    return {std::move(next.h), std::move(next.c)};
  }
  RecurrentTrace trace;
  RecurrentOutput next = cell_forward(cell, a.value(), p.value(), state, state, &trace);
  std::vector<Variable> outputs =
      record("lstm_cell", {std::move(next.h), std::move(next.c)}, {&a, &p, &c},
             [&cell, trace, a = Saved(a), p = Saved(p), c = Saved(c)](std::span<const Variable> gs, Wants) {
               if (recording(gs) || recording(a.get(), p.get(), c.get()))
                 return lstm_gates_backward(gs, a.get(), p.get(), c.get());
               CellGradients d = cell_backward(cell, trace, gs[0].value(), gs[1].value());
               return gradients(d.a, d.a, std::move(d.c));
             });
  return {std::move(outputs[0]), std::move(outputs[1])};
}

std::array<Variable, 3> gru_gates_backward(const Variable& dh, const Variable& a, const Variable& p,
                                           const Variable& h) {
  const std::vector<Variable> as = chunk(a, 3, 1), ps = chunk(p, 3, 1);
  const Variable r = sigmoid(add(as[0], ps[0])), z = sigmoid(add(as[1], ps[1])), &inner = ps[2];
  const Variable n = tanh(add(as[2], mul(r, inner)));
  const Variable through = mul(dh, z);
  const Variable dn = mul(sub(dh, through), tanh_slope(n));
  const Variable dr = mul(mul(dn, inner), sigmoid_slope(r)), dz = mul(mul(dh, sub(h, n)), sigmoid_slope(z));
  return gradients(cat({dr, dz, dn}, 1), cat({dr, dz, mul(dn, r)}, 1), through);
}

Variable gru_gates(const Variable& a, const Variable& p, const Variable& h) {
  const RecurrentCell& cell = cell_kinds::gru();
  if (!recording(a, p, h)) return cell_forward(cell, a.value(), p.value(), h.value(), {}, nullptr).h;
  RecurrentTrace trace;
  Tensor next = cell_forward(cell, a.value(), p.value(), h.value(), {}, &trace).h;
  return record("gru_cell", std::move(next), {&a, &p, &h},
                [&cell, trace, a = Saved(a), p = Saved(p), h = Saved(h)](const Variable& g, Wants) {
                  if (recording(g, a.get(), p.get(), h.get())) return gru_gates_backward(g, a.get(), p.get(), h.get());
                  CellGradients d = cell_backward(cell, trace, g.value(), {});
                  return gradients(std::move(d.a), std::move(d.product), std::move(d.h));
                });
}

/// Checks, and gives a state that was left out.
Variable checked_state(const char* op, const RecurrentCell& cell, const Inputs& in, const Variable& state) {
  check_recurrent(op, cell, in.values(), true);
  if (state.defined()) return state;
  return Tensor::zeros({in.x.shape()[0], in.weight_hh.shape()[1]}, in.x.dtype());
}

}  // namespace

Variable rnn_cell(const Variable& x, const Variable& h, const Variable& weight_ih, const Variable& weight_hh,
                  const Variable& bias_ih, const Variable& bias_hh, Nonlinearity nonlinearity) {
  const Inputs in{x, h, {}, weight_ih, weight_hh, bias_ih, bias_hh};
  const Variable state = checked_state("rnn_cell", rnn_kind(nonlinearity), in, h);
  const Variable sums = add(linear(x, weight_ih, bias_ih), linear(state, weight_hh, bias_hh));
  return nonlinearity == Nonlinearity::tanh ? tanh(sums) : relu(sums);
}

LstmCellResult lstm_cell(const Variable& x, const Variable& h, const Variable& c, const Variable& weight_ih,
                         const Variable& weight_hh, const Variable& bias_ih, const Variable& bias_hh) {
  const Inputs in{x, h, c, weight_ih, weight_hh, bias_ih, bias_hh};
  const Variable state = checked_state("lstm_cell", cell_kinds::lstm(), in, h);
  const Variable memory = c.defined() ? c : Variable(Tensor::zeros(state.shape(), state.dtype()));
  return lstm_gates(linear(x, weight_ih, bias_ih), linear(state, weight_hh, bias_hh), memory);
}

Variable gru_cell(const Variable& x, const Variable& h, const Variable& weight_ih, const Variable& weight_hh,
                  const Variable& bias_ih, const Variable& bias_hh) {
  const Inputs in{x, h, {}, weight_ih, weight_hh, bias_ih, bias_hh};
  const Variable state = checked_state("gru_cell", cell_kinds::gru(), in, h);
  return gru_gates(linear(x, weight_ih, bias_ih), linear(state, weight_hh, bias_hh), state);
}

// --- whole sequences ------------------------------------------------------------------------------------------------

namespace {

/// The sparse products of the moment. Backward asks anew: the scope may be over, and values may have been refreshed.
void look_up_products(RecurrentArguments& a) {
  a.products_ih = SparseTraining::products_of(a.weight_ih);
  a.products_hh = SparseTraining::products_of(a.weight_hh);
}

/// output, h and, if the cell has it, c.
std::vector<Variable> sequence(const RecurrentCell& cell, const Inputs& in, const SequenceOptions& options) {
  RecurrentArguments arguments = in.values();
  arguments.lengths = options.lengths;
  arguments.reverse = options.reverse;
  arguments.batch_first = options.batch_first;
  look_up_products(arguments);
  auto tensors = [&](RecurrentOutput out) {
    std::vector<Tensor> list{std::move(out.y), std::move(out.h)};
    if (cell.carries_cell) list.push_back(std::move(out.c));
    return list;
  };
  if (!in.recorded()) {
    std::vector<Tensor> list = tensors(recurrent_forward(cell, arguments, nullptr));
    return {std::make_move_iterator(list.begin()), std::make_move_iterator(list.end())};
  }
  RecurrentTrace trace;
  RecurrentOutput out = recurrent_forward(cell, arguments, &trace);
  return record(
      cell.name, tensors(std::move(out)), {&in.x, &in.h, &in.c, &in.weight_ih, &in.weight_hh, &in.bias_ih, &in.bias_hh},
      [&cell, trace = std::move(trace), x = Saved(in.x), weight_ih = Saved(in.weight_ih),
       weight_hh = Saved(in.weight_hh), reverse = options.reverse,
       batch_first = options.batch_first](std::span<const Variable> gs, Wants wants) {
        RecurrentArguments a{.x = x.value(),
                             .h = {},
                             .c = {},
                             .weight_ih = weight_ih.value(),
                             .weight_hh = weight_hh.value(),
                             .bias_ih = {},
                             .bias_hh = {},
                             .lengths = {},
                             .reverse = reverse,
                             .batch_first = batch_first};
        refuse_packed(cell.name, {&a.weight_ih, &a.weight_hh});
        look_up_products(a);
        const bool dense = (a.products_ih || a.products_hh) && SparseTraining::wants_dense_gradient();
        const Variable dc = gs.size() > 2 ? gs[2] : Variable();
        RecurrentGradients d = recurrent_backward(cell, a, trace, {gs[0].value(), gs[1].value(), dc.value()},
                                                  {.x = wants[0],
                                                   .h = wants[1],
                                                   .c = wants[2],
                                                   .weight_ih = wants[3],
                                                   .weight_hh = wants[4],
                                                   .bias_ih = wants[5],
                                                   .bias_hh = wants[6],
                                                   .pruned_weights = dense});
        auto once = [&](Tensor& gradient) {
          return gradient.defined() ? once_differentiable(cell.name, std::move(gradient), gs[0], gs[1], dc, x.get(),
                                                          weight_ih.get(), weight_hh.get())
                                    : no_gradient();
        };
        return gradients(once(d.x), once(d.h), once(d.c), once(d.weight_ih), once(d.weight_hh), once(d.bias_ih),
                         once(d.bias_hh));
      },
      settings(options.reverse ? 1 : 0, options.batch_first ? 1 : 0));
}

}  // namespace

RnnResult rnn(const Variable& x, const Variable& h, const Variable& weight_ih, const Variable& weight_hh,
              const Variable& bias_ih, const Variable& bias_hh, const SequenceOptions& options,
              Nonlinearity nonlinearity) {
  std::vector<Variable> out =
      sequence(rnn_kind(nonlinearity), {x, h, {}, weight_ih, weight_hh, bias_ih, bias_hh}, options);
  return {std::move(out[0]), std::move(out[1])};
}

LstmResult lstm(const Variable& x, const Variable& h, const Variable& c, const Variable& weight_ih,
                const Variable& weight_hh, const Variable& bias_ih, const Variable& bias_hh,
                const SequenceOptions& options) {
  std::vector<Variable> out = sequence(cell_kinds::lstm(), {x, h, c, weight_ih, weight_hh, bias_ih, bias_hh}, options);
  return {std::move(out[0]), std::move(out[1]), std::move(out[2])};
}

RnnResult gru(const Variable& x, const Variable& h, const Variable& weight_ih, const Variable& weight_hh,
              const Variable& bias_ih, const Variable& bias_hh, const SequenceOptions& options) {
  std::vector<Variable> out = sequence(cell_kinds::gru(), {x, h, {}, weight_ih, weight_hh, bias_ih, bias_hh}, options);
  return {std::move(out[0]), std::move(out[1])};
}

}  // namespace espalier
