// The texts of errors of indexing, products, dropout and losses, word for word.
#include <gtest/gtest.h>

#include "espalier/autograd/ops/dropout.h"
#include "espalier/autograd/ops/einsum.h"
#include "espalier/autograd/ops/embedding.h"
#include "espalier/autograd/ops/index.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/nn/loss.h"
#include "tests/messages/message.h"

namespace espalier {
namespace {

using testing::Message;

Tensor zeros(const Shape& shape) { return Tensor::zeros(shape); }
Tensor list(std::initializer_list<Index> values) { return Tensor::from(values); }
Rng rng;

const Message messages[] = {
    {"an index out of range",
     [] {
       gather(zeros({2, 3}), 1, list({0, 5}).reshape({1, 2}));
     },
     "[gather] index 5 at [0, 1] is outside [0, 3) along axis 1 of x [2, 3]"},
    {"an index of the wrong type", [] { index_select(zeros({3}), 0, Tensor::zeros({2}, DType::i32)); },
     "[index_select] index must be i64, got i32. Hint: .to(DType::i64)"},
    {"an index that is too long",
     [] {
       gather(zeros({2, 3}), 1, Tensor::zeros({4, 1}, DType::i64));
     },
     "[gather] index [4, 1] must fit into x [2, 3]: the same number of axes, none longer but axis 1"},
    {"a source that does not fit",
     [] {
       index_add(zeros({4, 3}), 0, list({1, 2}), zeros({2, 2}));
     },
     "[index_add] source [2, 2] must be [2, 3] for x [4, 3], axis 0 and index [2]"},
    {"a matrix of indices",
     [] {
       index_fill(zeros({4}), 0, Tensor::zeros({2, 2}, DType::i64), 0);
     },
     "[index_fill] index must be a list [n], got [2, 2]. Hint: flatten() it"},
    {"a mask of numbers", [] { masked_select(zeros({4}), zeros({4})); },
     "[masked_select] mask must be bool, got f32. Hint: .to(DType::boolean)"},
    {"a word that is not in the table",
     [] {
       embedding(list({1, 7}), zeros({5, 2}));
     },
     "[embedding] index 7 at [1] is outside [0, 5) among the rows of the weight [5, 2]"},
    {"a padding index out of range",
     [] {
       embedding(list({1}), zeros({5, 2}), {.padding_idx = 5});
     },
     "[embedding] padding_idx 5 is outside [-5, 5) of the weight [5, 2]"},
    {"batches of different lengths",
     [] {
       bmm(zeros({2, 3, 4}), zeros({3, 4, 5}));
     },
     "[bmm] needs [n, i, k] x [n, k, j], got a [2, 3, 4] x b [3, 4, 5]. Hint: matmul() broadcasts"},
    {"a matrix in an outer product",
     [] {
       outer(zeros({2, 3}), zeros({4}));
     },
     "[outer] needs two vectors, got a [2, 3] and b [4]. Hint: flatten() them"},
    {"too few operands",
     [] {
       einsum("ij,jk->ik", {zeros({2, 3})});
     },
     "[einsum] 'ij,jk->ik': names 2 operands, 1 are given"},
    {"a rank that does not fit",
     [] {
       einsum("ijk->i", {zeros({2, 3})});
     },
     "[einsum] 'ijk->i': operand 0 has shape [2, 3], the equation names 3 axes"},
    {"lengths that differ",
     [] {
       einsum("ij,jk->ik", {zeros({2, 3}), zeros({4, 5})});
     },
     "[einsum] 'ij,jk->ik': axis 'j' of operand 1 has 4 elements, an earlier operand 3; the operand has shape [4, 5]"},
    {"no diagonal",
     [] {
       einsum("ii", {zeros({2, 3})});
     },
     "[einsum] 'ii': operand 0 has shape [2, 3], but names 'i' for axes of 2 and 3 elements"},
    {"an unknown output",
     [] {
       einsum("ij->ik", {zeros({2, 3})});
     },
     "[einsum] 'ij->ik': the output names 'k', which no operand has"},
    {"an output twice",
     [] {
       einsum("ij->ii", {zeros({2, 3})});
     },
     "[einsum] 'ij->ii': the output names 'i' twice"},
    {"a stray sign", [] { einsum("i+j", {zeros({2})}); },
     "[einsum] 'i+j': '+' is no letter. Hint: letters, ',', '...', and one '->'"},
    {"two dots", [] { einsum("..i", {zeros({2})}); },
     "[einsum] '..i': '.' may stand only as one '...' in each operand"},
    {"a probability above 1", [] { dropout(zeros({2}), 1.5, rng); }, "[dropout] p must be in [0, 1], got 1.5"},
    {"a scalar without samples", [] { drop_path(zeros({}), 0.5, rng); },
     "[drop_path] x must have 1 axis or more, got []"},
    {"a label out of range",
     [] {
       nn::cross_entropy(zeros({2, 3}), list({0, 3}));
     },
     "[softmax_cross_entropy] label 3 of row 1 is outside [0, 3)"},
    {"labels of another shape",
     [] {
       nn::cross_entropy(zeros({2, 3, 4}), list({0, 1}));
     },
     "[cross_entropy] labels [2] for logits [2, 3, 4]; they must be [2, 4], or class probabilities [2, 3, 4]"},
    {"class weights of another length",
     [] {
       nn::cross_entropy(zeros({1, 3}), list({0}), {.weight = zeros({2})});
     },
     "[softmax_cross_entropy] weight [2] for logits [1, 3]; it must be [3]"},
    {"too much smoothing",
     [] {
       nn::cross_entropy(zeros({1, 3}), list({0}), {.label_smoothing = 2});
     },
     "[softmax_cross_entropy] label_smoothing must be in [0, 1], got 2"},
    {"shapes that would broadcast",
     [] {
       nn::huber_loss(zeros({3}), zeros({3, 1}));
     },
     "[huber_loss] shapes differ: x [3], target [3, 1]. Hint: reshape() one"},
    {"a delta of zero", [] { nn::huber_loss(zeros({3}), zeros({3}), {.delta = 0}); },
     "[huber] delta must be above 0, got 0"},
    {"a negative variance", [] { nn::gaussian_nll_loss(zeros({2}), zeros({2}), Tensor::full({2}, -1)); },
     "[gaussian_nll_loss] a variance is negative: -1"},
};

TEST(Messages, OfIndexingProductsDropoutAndLosses) { testing::expect_texts(messages); }

}  // namespace
}  // namespace espalier
