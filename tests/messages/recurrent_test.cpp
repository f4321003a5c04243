// The texts of errors of recurrent ops and layers, word for word.
#include <gtest/gtest.h>

#include "espalier/nn/recurrent.h"
#include "tests/messages/message.h"

namespace espalier {
namespace {

Tensor zeros(const Shape& shape, DType type = DType::f32) { return Tensor::zeros(shape, type); }

TEST(RecurrentMessages, AreTheseTexts) {
  Rng rng(1);
  const nn::Lstm layer(rng, 4, 3, {.num_layers = 2, .bidirectional = true});
  const Tensor x = zeros({5, 2, 4}), w_ih = zeros({12, 4}), w_hh = zeros({12, 3});
  const auto with_lengths = [&](Tensor lengths) {
    gru(x, {}, zeros({9, 4}), zeros({9, 3}), {}, {}, {.lengths = std::move(lengths)});
  };
  const testing::Message messages[] = {
      {"x without a batch",
       [&] {
         lstm(zeros({5, 4}), {}, {}, w_ih, w_hh);
       },
       "[lstm] x [5, 4] must be [T, N, in]. Hint: unsqueeze() what is a single one"},
      {"x without a batch, batch first",
       [&] {
         lstm(zeros({5, 4}), {}, {}, w_ih, w_hh, {}, {}, {.batch_first = true});
       },
       "[lstm] x [5, 4] must be [N, T, in]. Hint: unsqueeze() what is a single one"},
      {"a step with a time axis",
       [&] {
         gru_cell(x, {}, zeros({9, 4}), zeros({9, 3}));
       },
       "[gru_cell] x [5, 2, 4] must be [N, in]. Hint: unsqueeze() what is a single one"},
      {"weights of another cell",
       [&] {
         lstm(x, {}, {}, w_ih, zeros({9, 3}));
       },
       "[lstm] weight_hh [9, 3] must be [4 * hidden, hidden]"},
      {"another number of inputs",
       [&] {
         rnn(x, {}, zeros({3, 5}), zeros({3, 3}));
       },
       "[rnn] weight_ih [3, 5] does not fit x [5, 2, 4] and weight_hh [3, 3]; it must be [3, 4]"},
      {"a bias too short",
       [&] {
         lstm_cell(zeros({2, 4}), {}, {}, w_ih, w_hh, zeros({3}));
       },
       "[lstm_cell] bias_ih [3] must be [12], one value for each row of the weights"},
      {"a state of another batch",
       [&] {
         lstm(x, zeros({3, 3}), {}, w_ih, w_hh);
       },
       "[lstm] state h [3, 3] does not fit x [5, 2, 4]; it must be [2, 3], one row for each sequence. Hint: leave it "
       "out "
       "to start at 0"},
      {"lengths that are no integers", [&] { with_lengths(zeros({2})); },
       "[gru] lengths must be i64, got f32. Hint: .to(DType::i64)"},
      {"too few lengths", [&] { with_lengths(Tensor::from<std::int64_t>({1})); },
       "[gru] lengths [1] for x [5, 2, 4]; they must be [2], one for each sequence"},
      {"a length beyond the steps",
       [&] {
         with_lengths(Tensor::from<std::int64_t>({1, 6}));
       },
       "[gru] length 6 of sequence 1 is outside [0, 5], the steps of x [5, 2, 4]"},
      {"no layers", [&] { nn::Gru(rng, 4, 3, {.num_layers = 0}); }, "[gru] num_layers is 0, must be at least 1"},
      {"a state of too few layers",
       [&] {
         layer(x, {{Variable(zeros({2, 3}))}, {}});
       },
       "[lstm] a state of 1 tensors for 2 layers in 2 directions; it must have one for each, or be empty"},
      {"an integer x",
       [&] {
         rnn(zeros({5, 2, 4}, DType::i64), {}, zeros({3, 4}), zeros({3, 3}));
       },
       "[rnn] needs f32 or f64, got i64. Hint: .to(DType::f32)"},
  };
  testing::expect_texts(messages);
}

}  // namespace
}  // namespace espalier
