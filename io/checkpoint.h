// Everything a training run needs to go on as if it had never stopped, in one file.
//
//   io::save_checkpoint("run.safetensors", model, optimizer, pruner, rng, loader);
//   io::load_checkpoint("run.safetensors", model, optimizer, pruner, rng, loader);
//
// Behind the model come the optimizer, and in any order what else there is: a pruner, random number generators, a
// loader. Anything may take part that has state() and load_state(map of tensors), or state() and set_state(array of
// 64-bit numbers). They are found again by kind and order: "model/...", "optim/...", "prune/...", "rng", "loader".
// A model may be read out of a checkpoint by load().
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "espalier/core/rng.h"
#include "espalier/io/model_file.h"

namespace espalier::io {

/// state() is a map of tensors, and load_state() takes one: optimizers, pruners.
template <class P>
concept HasTensors = requires(P& part, const std::map<std::string, Tensor>& tensors) {
  { std::as_const(part).state() } -> std::convertible_to<std::map<std::string, Tensor>>;
  part.load_state(tensors);
};
/// state() is an array of numbers, and set_state() takes one: Rng, Loader.
template <class P>
concept HasNumbers = requires(P& part) {
  part.set_state(std::as_const(part).state());
  requires std::tuple_size_v<decltype(std::as_const(part).state())> >
  0;
  requires std::is_same_v<std::remove_cvref_t<decltype(std::as_const(part).state()[0])>, std::uint64_t>;
};
template <class P>
concept CheckpointPart = HasTensors<P> || HasNumbers<P>;

namespace detail {

/// Names the parts of a checkpoint by kind and order.
class PartNames final {
 public:
  template <class P>
  std::string next() {
    if constexpr (HasTensors<P>) {
      const int before = tensors_++;
      return numbered(before == 0 ? "optim" : "prune", before) + "/";
    } else if constexpr (std::is_same_v<P, Rng>) {
      return numbered("rng", ++rngs_);
    } else {
      return numbered("loader", ++loaders_);
    }
  }

 private:
  static std::string numbered(const char* name, int number) {
    return number < 2 ? name : name + std::to_string(number);
  }
  int tensors_ = 0, rngs_ = 0, loaders_ = 0;
};

class CheckpointWriter final {
 public:
  explicit CheckpointWriter(const ModelParts& parts);
  void add(const std::string& prefix, const std::map<std::string, Tensor>& tensors);
  void add(const std::string& name, std::span<const std::uint64_t> numbers);
  void write(const std::string& path) const;

 private:
  TensorFile file_;
};

class CheckpointReader final {
 public:
  /// Reads the file and checks it against the model.
  CheckpointReader(const std::string& path, const ModelParts& parts);
  ~CheckpointReader();
  std::map<std::string, Tensor> tensors(const std::string& prefix);
  void numbers(const std::string& name, std::span<std::uint64_t> out);
  /// Errors: FormatError if the file holds a part that nobody asked for.
  void check_all_taken() const;
  void apply_model() noexcept;

 private:
  struct Content;
  std::unique_ptr<Content> content_;
};

template <CheckpointPart P>
void add_part(CheckpointWriter& writer, PartNames& names, const P& part) {
  writer.add(names.next<P>(), part.state());
}

inline void take_parts(CheckpointReader& reader, PartNames&) {
  reader.check_all_taken();
  reader.apply_model();
}
/// Each part is changed last among those that may refuse, and put back if a later one does.
template <CheckpointPart P, CheckpointPart... Rest>
void take_parts(CheckpointReader& reader, PartNames& names, P& part, Rest&... rest) {
  const auto before = std::as_const(part).state();
  const std::string name = names.next<P>();
  try {
    if constexpr (HasTensors<P>) {
      part.load_state(reader.tensors(name));
    } else {
      auto numbers = before;
      reader.numbers(name, numbers);
      part.set_state(numbers);
    }
    take_parts(reader, names, rest...);
  } catch (...) {
    if constexpr (HasTensors<P>)
      part.load_state(before);
    else
      part.set_state(before);
    throw;
  }
}

}  // namespace detail

/// Errors: as save().
template <class Model, CheckpointPart... Parts>
void save_checkpoint(const std::string& path, const Model& model, const Parts&... parts) {
  detail::CheckpointWriter writer(parts_of(model));
  detail::PartNames names;
  (detail::add_part(writer, names, parts), ...);
  writer.write(path);
}

/// All or nothing: after an error, model and parts are as they were. The parts must be those that were saved.
/// Errors: IoError; FormatError for a damaged file or another set of parts; ShapeError if the model's shapes are not
/// the file's (Hint: load(path, model) first, then build the optimizer); what load_state() and set_state() throw. Cost:
/// the file, and a copy of the parts' states to go back to.
template <class Model, CheckpointPart... Parts>
void load_checkpoint(const std::string& path, Model& model, Parts&... parts) {
  detail::CheckpointReader reader(path, parts_of(model));
  detail::PartNames names;
  detail::take_parts(reader, names, parts...);
}

}  // namespace espalier::io
