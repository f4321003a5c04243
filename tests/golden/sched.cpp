// Kind "sched": the rate (and the momentum) at every step.
#include "tests/golden/sched.h"

#include <functional>

#include "espalier/optim/plateau.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

using optim::Schedule;
using Make = std::function<Schedule(const Args&, double lr)>;

optim::Anneal anneal(const Args& a) {
  return a.text("anneal_strategy", "cos") == "cos" ? optim::Anneal::cos : optim::Anneal::linear;
}

optim::CyclicMode cyclic_mode(const Args& a) {
  const std::string mode = a.text("mode");
  if (mode == "triangular") return optim::CyclicMode::triangular;
  return mode == "triangular2" ? optim::CyclicMode::triangular2 : optim::CyclicMode::exp_range;
}

/// The parts of a composite; with `same_rate` each has the rate, otherwise all but the first are factors.
std::vector<Schedule> parts(const Args& a, double lr, bool same_rate) {
  std::vector<Schedule> made;
  for (const Args& part : a.objects("schedulers"))
    made.push_back(make_schedule(part.text("op"), part, same_rate || made.empty() ? lr : 1));
  return made;
}

Schedule warmup_cosine(const Args& a, double) {
  const Index warm = a.integer("warmup");
  const double top = a.number("max_lr"), bottom = a.number("min_lr");
  return optim::warmup(optim::cosine({.lr = top, .T_max = a.integer("total") - warm, .eta_min = bottom, .hold = true}),
                       {.steps = warm});
}

const std::map<std::string, Make>& table() {
  static const std::map<std::string, Make> all = {
      {"constant",
       [](const Args& a, double lr) {
         return optim::constant({.lr = lr, .factor = a.number("factor"), .total_iters = a.integer("total_iters")});
       }},
      {"linear",
       [](const Args& a, double lr) {
         return optim::linear({.lr = lr,
                               .start_factor = a.number("start_factor"),
                               .end_factor = a.number("end_factor"),
                               .total_iters = a.integer("total_iters")});
       }},
      {"step",
       [](const Args& a, double lr) {
         return optim::step_decay({.lr = lr, .step_size = a.integer("step_size"), .gamma = a.number("gamma")});
       }},
      {"multistep",
       [](const Args& a, double lr) {
         return optim::multi_step({.lr = lr, .milestones = a.integers("milestones"), .gamma = a.number("gamma")});
       }},
      {"exponential",
       [](const Args& a, double lr) { return optim::exponential({.lr = lr, .gamma = a.number("gamma")}); }},
      {"polynomial",
       [](const Args& a, double lr) {
         return optim::polynomial({.lr = lr, .total_iters = a.integer("total_iters"), .power = a.number("power")});
       }},
      {"cosine",
       [](const Args& a, double lr) {
         return optim::cosine({.lr = lr, .T_max = a.integer("T_max"), .eta_min = a.number("eta_min")});
       }},
      {"cosine_warm_restarts",
       [](const Args& a, double lr) {
         return optim::warm_restarts(
             {.lr = lr, .T_0 = a.integer("T_0"), .T_mult = a.integer("T_mult"), .eta_min = a.number("eta_min")});
       }},
      {"onecycle",
       [](const Args& a, double) {
         return optim::one_cycle({.max_lr = a.number("max_lr"),
                                  .total_steps = a.integer("total_steps"),
                                  .pct_start = a.number("pct_start"),
                                  .anneal_strategy = anneal(a),
                                  .div_factor = a.number("div_factor"),
                                  .final_div_factor = a.number("final_div_factor"),
                                  .three_phase = a.flag("three_phase")});
       }},
      {"onecycle_momentum",
       [](const Args& a, double) {
         return optim::one_cycle_momentum({.base_momentum = a.number("base_momentum"),
                                           .max_momentum = a.number("max_momentum"),
                                           .total_steps = a.integer("total_steps"),
                                           .pct_start = a.number("pct_start"),
                                           .anneal_strategy = anneal(a),
                                           .three_phase = a.flag("three_phase")});
       }},
      {"cyclic",
       [](const Args& a, double) {
         return optim::cyclic({.base_lr = a.number("base_lr"),
                               .max_lr = a.number("max_lr"),
                               .step_size_up = a.integer("step_size_up"),
                               .step_size_down = a.integer("step_size_down"),
                               .mode = cyclic_mode(a)});
       }},
      {"warmup_cosine", warmup_cosine},
      {"sequential",
       [](const Args& a, double lr) { return optim::joined(parts(a, lr, true), a.integers("milestones")); }},
      {"chained", [](const Args& a, double lr) { return optim::chained(parts(a, lr, false)); }},
  };
  return all;
}

Tensor tensor(const std::vector<double>& values, DType type) {
  return Tensor::from(values, {static_cast<Index>(values.size())}).to(type);
}

/// A number for each of the steps and one behind them.
Tensor values(const Schedule& schedule, const Case& golden, DType type) {
  std::vector<double> at;
  for (Index t = 0; t <= golden.count("steps"); ++t) at.push_back(schedule(t));
  return tensor(at, type);
}

Row pure(const std::string& op) {
  return {op, [op](const Case& golden, DType type, Checker& checker) {
            const double lr = golden.args.number("lr", 1);
            checker.compare("out.lr", values(make_schedule(op, golden.args, lr), golden, type));
            if (golden.has("out.momentum"))
              checker.compare("out.momentum", values(make_schedule(op + "_momentum", golden.args), golden, type));
          }};
}

void plateau(const Case& golden, DType type, Checker& checker) {
  const Args& a = golden.args;
  optim::Plateau plateau(
      {.lr = a.number("lr"),
       .mode = a.text("mode") == "min" ? optim::PlateauMode::min : optim::PlateauMode::max,
       .factor = a.number("factor"),
       .patience = a.integer("patience"),
       .threshold = a.number("threshold"),
       .threshold_mode = a.text("threshold_mode") == "rel" ? optim::Threshold::rel : optim::Threshold::abs,
       .cooldown = a.integer("cooldown"),
       .min_lr = a.number("min_lr"),
       .eps = a.number("eps")});
  std::vector<double> rates = {plateau.lr()};
  for (const double metric : golden.stored("in.metrics").to_vector<double>()) {
    plateau.observe(metric);
    rates.push_back(plateau.lr());
  }
  checker.compare("out.lr", tensor(rates, type));
}

}  // namespace

Schedule make_schedule(const std::string& op, const Args& args, double lr) {
  const auto found = table().find(op);
  if (found == table().end()) throw Unsupported{"schedule " + op};
  return found->second(args, lr);
}

std::vector<Row> sched_rows() {
  std::vector<Row> rows = {{"reduce_on_plateau", plateau}};
  for (const auto& [op, make] : table())
    if (op != "onecycle_momentum") rows.push_back(pure(op));
  return rows;
}

}  // namespace espalier::golden
