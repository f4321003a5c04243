#include <memory>

#include "bench/workloads.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/linear.h"

namespace espalier::bench {
namespace {

using UnaryFunction = Variable (*)(const Variable&);
using BinaryFunction = Variable (*)(const Variable&, const Variable&);

constexpr double block = 0.03;

/// Bytes a second; where a call is short, its time too.
std::vector<Figure> figures(const std::string& metric, double bytes, Index n) {
  std::vector<Figure> all = {gigabytes(metric, bytes)};
  if (n < 10'000'000) all.push_back(microseconds(metric + "_us"));
  return all;
}

/// f(inputs), which allocates its result.
Task forward(std::function<Variable(const std::vector<Variable>&)> f, std::vector<Variable> inputs,
             const std::string& metric, double bytes) {
  const Index n = inputs[0].size();
  Task task;
  task.run = [f = std::move(f), inputs = std::move(inputs)] { keep(f(inputs).value().data<float>()); };
  task.figures = figures(metric, bytes, n);
  task.min_seconds = block;
  return task;
}

/// f of leaves on a new tape, and the gradient of each.
Task forward_backward(std::function<Variable(const std::vector<Variable>&)> f, std::vector<Variable> inputs,
                      double bytes) {
  const Index n = inputs[0].size();
  Rng rng(1);
  const std::vector<Variable> weights = {randn(rng, inputs[0].shape())};
  Task task;
  task.run = [f = std::move(f), inputs = std::move(inputs), weights] {
    Tape tape;
    std::vector<Variable> leaves;
    for (const Variable& input : inputs) leaves.push_back(tape.watch(input.value()));
    const std::vector<Variable> outputs = {f(leaves)};
    keep(tape.gradient(outputs, weights, leaves)[0].value().data<float>());
  };
  task.figures = figures("fwdbwd_alloc", bytes, n);
  task.min_seconds = block;
  return task;
}

std::vector<Variable> random(std::size_t count, const Shape& shape) {
  Rng rng(0);
  std::vector<Variable> inputs;
  for (std::size_t k = 0; k < count; ++k) inputs.emplace_back(randn(rng, shape));
  return inputs;
}

void add_unary(std::vector<Workload>& rows, const std::string& name, UnaryFunction f, Index n) {
  const auto call = [f](const std::vector<Variable>& x) { return f(x[0]); };
  const double d = static_cast<double>(n);
  rows.push_back({"kernels", name, [=] { return forward(call, random(1, {n}), "fwd_alloc", 8 * d); }});
  rows.push_back({"kernels", name, [=] { return forward_backward(call, random(1, {n}), 20 * d); }});
}

void add_softmax(std::vector<Workload>& rows, const std::string& name, Index n) {
  const auto call = [](const std::vector<Variable>& x) { return softmax(x[0], 1); };
  const double d = static_cast<double>(n);
  const Shape shape = {n / 1000, 1000};
  rows.push_back({"kernels", name, [=] { return forward(call, random(1, shape), "fwd_alloc", 8 * d); }});
  rows.push_back({"kernels", name, [=] { return forward_backward(call, random(1, shape), 20 * d); }});
}

std::vector<Workload> rows_of_length(Index n) {
  const std::string length = "_" + std::to_string(n);
  const double d = static_cast<double>(n);
  std::vector<Workload> rows;
  const std::pair<const char*, BinaryFunction> binary[] = {{"add", add}, {"mul", mul}};
  for (const auto& [name, f] : binary) {
    const auto call = [f = f](const std::vector<Variable>& x) { return f(x[0], x[1]); };
    rows.push_back({"kernels", "ew_" + std::string(name) + length,
                    [=] { return forward(call, random(2, {n}), "fwd_alloc", 12 * d); }});
    if (f == static_cast<BinaryFunction>(mul))
      rows.push_back({"kernels", "ew_mul" + length, [=] { return forward_backward(call, random(2, {n}), 32 * d); }});
  }
  const std::pair<const char*, UnaryFunction> unary[] = {
      {"sigmoid", sigmoid}, {"tanh", tanh}, {"exp", exp}, {"relu", relu}};
  for (const auto& [name, f] : unary) add_unary(rows, "ew_" + std::string(name) + length, f, n);
  const auto total = [](const std::vector<Variable>& x) { return sum(x[0]); };
  rows.push_back({"kernels", "red_sum" + length, [=] { return forward(total, random(1, {n}), "fwd_out", 4 * d); }});
  add_softmax(rows, "row_softmax1000" + length, n);
  return rows;
}

// --- what one tiny op costs ----------------------------------------------------------------------------------------

constexpr int chain_length = 100;

Variable chain_of_products(Variable y, const Variable& c) {
  for (int k = 0; k < chain_length; ++k) y = y * c;
  return y;
}

Task overhead(std::function<void()> run, Figure figure) {
  Task task;
  task.run = std::move(run);
  task.figures = {std::move(figure)};
  task.min_seconds = 0.05;
  return task;
}

/// y = y * c on 8 floats, 100 times. `levels`: 0 without a tape, 1 recording, 2 with the backward pass.
Task product_chain(int levels) {
  Rng rng(0);
  const auto x = std::make_shared<Parameter>(randn(rng, {8}), "x");
  const Variable c = randn(rng, {8}), plain = randn(rng, {8});
  const auto run = [=] {
    if (levels == 0) return keep(chain_of_products(plain, c).value().data<float>());
    Tape tape;
    const Variable y = chain_of_products(*x, c);
    if (levels == 1) return keep(y.value().data<float>());
    tape.backward(sum(y));
    x->ref()->clear_grad();
  };
  return overhead(run, nanoseconds_each("per_op", chain_length));
}

/// One linear layer of 8 inputs and 8 outputs on one row.
Task tiny_linear(bool backward) {
  Rng rng(0);
  const auto layer = std::make_shared<nn::Linear>(rng, 8, 8);
  const Variable x = randn(rng, {1, 8});
  const auto run = [=] {
    if (!backward) return keep((*layer)(x).value().data<float>());
    Tape tape;
    tape.backward(sum((*layer)(x)));
    layer->weight.ref()->clear_grad();
    layer->bias.ref()->clear_grad();
  };
  return overhead(run, nanoseconds_each("per_call", 1));
}

}  // namespace

std::vector<Workload> kernel_workloads() {
  std::vector<Workload> rows;
  for (Index n : {1000, 100'000, 10'000'000}) {
    std::vector<Workload> more = rows_of_length(n);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  rows.push_back({"kernels", "overhead_mul8_nograd", [] { return product_chain(0); }});
  rows.push_back({"kernels", "overhead_mul8_fwd", [] { return product_chain(1); }});
  rows.push_back({"kernels", "overhead_mul8_fwdbwd", [] { return product_chain(2); }});
  rows.push_back({"kernels", "overhead_linear8_nograd", [] { return tiny_linear(false); }});
  rows.push_back({"kernels", "overhead_linear8_fwdbwd", [] { return tiny_linear(true); }});
  return rows;
}

}  // namespace espalier::bench
