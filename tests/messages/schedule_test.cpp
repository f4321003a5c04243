// The texts of errors in schedules.
#include "espalier/optim/schedule.h"

#include "espalier/optim/plateau.h"
#include "tests/messages/message.h"

namespace espalier::optim {
namespace {

using espalier::testing::Message;

TEST(Messages, OfSchedules) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const Message all[] = {
      {"no rate", [] { constant({}); }, "[constant] lr must be given"},
      {"an infinite rate", [=] { constant({.lr = infinity}); }, "[constant] lr must be finite, got inf"},
      {"a factor of NaN", [=] { constant({.lr = 1, .factor = nan}); }, "[constant] factor must be finite, got nan"},
      {"a negative length", [] { constant({.lr = 1, .total_iters = -1}); },
       "[constant] total_iters must be at least 0, got -1"},
      {"no length", [] { linear({.lr = 1}); }, "[linear] total_iters must be given"},
      {"a negative length", [] { linear({.lr = 1, .total_iters = -2}); },
       "[linear] total_iters must be at least 0, got -2"},
      {"start factor", [=] { linear({.lr = 1, .start_factor = nan, .total_iters = 1}); },
       "[linear] start_factor must be finite, got nan"},
      {"end factor", [=] { linear({.lr = 1, .end_factor = -infinity, .total_iters = 1}); },
       "[linear] end_factor must be finite, got -inf"},
      {"steps of none", [] { step_decay({.lr = 1, .step_size = 0}); },
       "[step_decay] step_size must be at least 1, got 0"},
      {"gamma below 0", [] { step_decay({.lr = 1, .step_size = 3, .gamma = -0.5}); },
       "[step_decay] gamma must be at least 0 and finite, got -0.5"},
      {"milestones out of order",
       [] {
         multi_step({.lr = 1, .milestones = {5, 3}});
       },
       "[multi_step] milestones must be in order, got 3 behind 5"},
      {"a milestone before the first step",
       [] {
         multi_step({.lr = 1, .milestones = {-1, 3}});
       },
       "[multi_step] a milestone must be at least 0, got -1"},
      {"gamma of NaN", [=] { multi_step({.lr = 1, .gamma = nan}); },
       "[multi_step] gamma must be at least 0 and finite, got nan"},
      {"no gamma", [] { exponential({.lr = 1}); }, "[exponential] gamma must be given"},
      {"gamma below 0", [] { exponential({.lr = 1, .gamma = -1}); },
       "[exponential] gamma must be at least 0 and finite, got -1"},
      {"no length", [] { polynomial({.lr = 1}); }, "[polynomial] total_iters must be given"},
      {"a negative power", [] { polynomial({.lr = 1, .total_iters = 9, .power = -2}); },
       "[polynomial] power must be at least 0 and finite, got -2"},
      {"an end of NaN", [=] { polynomial({.lr = 1, .total_iters = 9, .eta_min = nan}); },
       "[polynomial] eta_min must be finite, got nan"},
      {"no length", [] { cosine({.lr = 1}); }, "[cosine] T_max must be given"},
      {"an end of NaN", [=] { cosine({.lr = 1, .T_max = 9, .eta_min = nan}); },
       "[cosine] eta_min must be finite, got nan"},
      {"cycles of none", [] { warm_restarts({.lr = 1, .T_0 = 0}); }, "[warm_restarts] T_0 must be at least 1, got 0"},
      {"shrinking cycles", [] { warm_restarts({.lr = 1, .T_0 = 5, .T_mult = 0}); },
       "[warm_restarts] T_mult must be at least 1, got 0"},
      {"a negative warm-up", [] { inverse_sqrt({.lr = 1, .warmup = -1}); },
       "[inverse_sqrt] warmup must be at least 0, got -1"},
      {"no plateau", [] { trapezoid({.lr = 1, .decay = 2}); }, "[trapezoid] stable must be given"},
      {"no decay", [] { trapezoid({.lr = 1, .stable = 2}); }, "[trapezoid] decay must be given"},
      {"no peak", [] { one_cycle({.total_steps = 9}); }, "[one_cycle] max_lr must be given"},
      {"no length", [] { one_cycle({.max_lr = 1}); }, "[one_cycle] total_steps must be given"},
      {"a length of 0", [] { one_cycle({.max_lr = 1, .total_steps = 0}); },
       "[one_cycle] total_steps must be at least 1, got 0"},
      {"a share above 1", [] { one_cycle({.max_lr = 1, .total_steps = 9, .pct_start = 1.5}); },
       "[one_cycle] pct_start must be in [0, 1], got 1.5"},
      {"no room for three phases",
       [] { one_cycle({.max_lr = 1, .total_steps = 9, .pct_start = 0.6, .three_phase = true}); },
       "[one_cycle] pct_start must be at most 0.5 with three_phase, got 0.6. Hint: the way down takes as long as the "
       "way up"},
      {"a divisor of 0", [] { one_cycle({.max_lr = 1, .total_steps = 9, .div_factor = 0}); },
       "[one_cycle] div_factor must be above 0 and finite, got 0"},
      {"a divisor of NaN", [=] { one_cycle({.max_lr = 1, .total_steps = 9, .final_div_factor = nan}); },
       "[one_cycle] final_div_factor must be above 0 and finite, got nan"},
      {"an overflow", [] { one_cycle({.max_lr = 1e300, .total_steps = 9, .div_factor = 1e-300}); },
       "[one_cycle] max_lr / div_factor must be finite, got inf"},
      {"bounds the wrong way round",
       [] { one_cycle_momentum({.base_momentum = 0.95, .max_momentum = 0.85, .total_steps = 9}); },
       "[one_cycle_momentum] base_momentum must not be above max_momentum, got 0.95 and 0.85"},
      {"no bound", [] { cyclic({.max_lr = 1}); }, "[cyclic] base_lr must be given"},
      {"bounds the wrong way round", [] { cyclic({.base_lr = 2, .max_lr = 1}); },
       "[cyclic] base_lr must not be above max_lr, got 2 and 1"},
      {"no way up", [] { cyclic({.base_lr = 0, .max_lr = 1, .step_size_up = 0}); },
       "[cyclic] step_size_up must be at least 1, got 0"},
      {"no way down", [] { cyclic_momentum({.step_size_down = 0}); },
       "[cyclic_momentum] step_size_down must be at least 1, got 0"},
      {"growing cycles", [] { cyclic({.base_lr = 0, .max_lr = 1, .gamma = 1.5}); },
       "[cyclic] gamma must be in [0, 1], got 1.5"},
      {"no length", [] { warmup(1.0, {}); }, "[warmup] steps must be given"},
      {"a negative factor", [] { warmup(1.0, {.steps = 3, .start_factor = -1}); },
       "[warmup] start_factor must be at least 0 and finite, got -1"},
      {"too few milestones",
       [] {
         joined({1.0, 2.0}, {});
       },
       "[joined] 2 parts need 1 milestones between them, got 0"},
      {"nothing to join", [] { joined({}, {}); }, "[joined] there must be at least one schedule"},
      {"milestones out of order",
       [] {
         joined({1.0, 2.0, 3.0}, {5, 4});
       },
       "[joined] milestones must be in order, got 4 behind 5"},
      {"nothing to multiply", [] { chained({}); }, "[chained] there must be at least one schedule"},
      {"a factor of NaN", [=] { scaled(1.0, nan); }, "[scaled] factor must be finite, got nan"},
      {"rewinding at no step", [] { rewind(1.0, {}); }, "[rewind] at must be given"},
      {"rewinding forwards", [] { rewind(1.0, {.at = 4, .to = 5}); },
       "[rewind] to must not be behind at, got to 5 and at 4. Hint: the schedule goes back"},
      {"rewinding to before the first step", [] { rewind(1.0, {.at = 4, .to = -1}); },
       "[rewind] to must be at least 0, got -1"},
      {"rewinding no times", [] { rewind(1.0, {.at = 4, .times = 0}); }, "[rewind] times must be at least 1, got 0"},
      {"an empty function", [] { Schedule(Schedule::Function()); }, "[schedule] the function is empty"},
      {"a negative step", [] { cosine({.lr = 1, .T_max = 5})(-3); }, "[cosine] the step must not be negative, got -3"},
  };
  espalier::testing::expect_texts(all);
}

TEST(Messages, OfPlateau) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto load = [](const char* key, const Tensor& value) {
    Plateau plateau({.lr = 1});
    auto state = plateau.state();
    if (value.defined())
      state[key] = value;
    else
      state.erase(key);
    plateau.load_state(state);
  };
  const Message all[] = {
      {"no rate", [] { Plateau({}); }, "[plateau] lr must be given"},
      {"a negative rate", [] { Plateau({.lr = -1}); }, "[plateau] lr must be at least 0 and finite, got -1"},
      {"a factor of 1", [] { Plateau({.lr = 1, .factor = 1}); }, "[plateau] factor must be in [0, 1), got 1"},
      {"no patience at all", [] { Plateau({.lr = 1, .patience = -1}); },
       "[plateau] patience must be at least 0, got -1"},
      {"a threshold of NaN", [=] { Plateau({.lr = 1, .threshold = nan}); },
       "[plateau] threshold must be at least 0 and finite, got nan"},
      {"a negative cooldown", [] { Plateau({.lr = 1, .cooldown = -4}); },
       "[plateau] cooldown must be at least 0, got -4"},
      {"a floor above the rate", [] { Plateau({.lr = 1, .min_lr = 2}); }, "[plateau] min_lr must be in [0, 1], got 2"},
      {"a negative eps", [] { Plateau({.lr = 1, .eps = -1e-8}); },
       "[plateau] eps must be at least 0 and finite, got -1e-08"},
      {"a state that lacks a key", [=] { load("best", Tensor()); }, "[plateau] the state lacks 'best'"},
      {"a state with a key too many", [=] { load("b", Tensor::scalar(1)); },
       "[plateau] the state has an unknown key 'b'"},
      {"a state of another type", [=] { load("bad", Tensor::scalar(1)); },
       "[plateau] 'bad' in the state must be one i64 number of shape []"},
      {"a negative rate in the state", [=] { load("lr", Tensor::scalar(-1, DType::f64)); },
       "[plateau] 'lr' in the state is impossible: -1"},
      {"an infinite best in the state",
       [=] { load("best", Tensor::scalar(std::numeric_limits<double>::infinity(), DType::f64)); },
       "[plateau] 'best' in the state is impossible: inf"},
      {"a negative count in the state", [=] { load("cooldown", Tensor::from<std::int64_t>({-2}, {})); },
       "[plateau] 'cooldown' in the state is impossible: -2"},
  };
  espalier::testing::expect_texts(all);
}

}  // namespace
}  // namespace espalier::optim
