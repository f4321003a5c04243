// Which elements of which axes of which values belong to one unit.
//
// A *place* is one index of one axis of one recorded value: column 3 of a weight, channel 3 of an image. An op unites
// the places that can only be cut together (the channels of two summands; a channel and its H W columns behind a
// flatten; the rows of the gates of one LSTM unit): what is united is a *unit*. An axis without places cannot be cut.
// Of each place two things are found, along the tape and against it: it is *fixed*, if what stands there does not
// depend on the input, and it is *needed*, if someone's output depends on it. A unit may go if each of its places is
// fixed or not needed, and whoever reads a fixed one can do without (see Reader).
//
// What an op does to units is one small function in a table, prune/detail/op_units.cpp; an op that is not in it pins all
// units it reads.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/prune/detail/trace.h"

namespace espalier::prune::detail {

/// Whether forward code is taken to derive sizes from the values it has (chunks of a cut axis from its new length,
/// heads from the width) wherever the tape cannot tell. If that proves wrong, once more with `none`.
enum class Trust : std::uint8_t { derived_sizes, none };

using Place = std::int32_t;
constexpr Place no_place = -1;

class Units;

/// What is added to elements `begin` ... of a leaf: a bias, or the running mean behind a layer without one.
struct Addend {
  std::uint32_t slot;
  Index begin;
  std::vector<double> values;
};

/// What an op does with units besides passing them on. Abstract.
class Reader {
 public:
  virtual ~Reader() = default;
  /// Sets fixed() of its outputs, from that of its inputs.
  virtual void constants(Units&) const {}
  /// Sets needed() of its inputs, from that of its outputs.
  virtual void needs(Units&) const {}
  /// Blocks the units whose constants it can not take up.
  virtual void block(Units&) const {}
  /// Where the constants of cut units go. cut: for each place.
  virtual void fold(Units&, const std::vector<std::uint8_t>& /*cut*/, std::vector<Addend>&) const {}
};

/// When is an element of an output fixed, whose inputs are?
enum class Fixed : std::uint8_t {
  keep,   ///< always
  same,   ///< if the output is one number there: what else stands there is written in forward code (pads)
  zero,   ///< if they are 0: the output depends on lengths (sums)
  never,  ///< it depends on data that the tape does not show
};

class Units {
 public:
  Units(const Graph& graph, Trust trust);
  ~Units();
  Units(const Units&) = delete;
  Units& operator=(const Units&) = delete;

  const Graph& graph() const noexcept { return graph_; }
  bool trusting() const noexcept { return trust_ == Trust::derived_sizes; }

  // --- for the op table ---------------------------------------------------------------------------------------------
  /// Axes count from the front. The first place of an axis, no_place if it has none.
  Place first(std::uint32_t slot, int axis) const;
  /// Gives the axis places, unless it has some.
  Place make(std::uint32_t slot, int axis);
  const Shape& shape(std::uint32_t slot) const { return graph_.values[slot].tensor.shape(); }
  void unite(Place a, Place b);
  void pin(Place place, const std::string& why);
  void pin_axis(std::uint32_t slot, int axis, const std::string& why);
  void pin_all(std::uint32_t slot, const std::string& why);
  /// `out` is made of `in` (and of what else is linked to it): they are one unit, and flags pass along.
  void link(Place in, Place out);
  /// The whole axis. Places of one axis alone are pinned.
  void link_axes(std::uint32_t in, int in_axis, std::uint32_t out, int out_axis);
  /// The same without passing flags; pins what is alone.
  void unite_axes(std::uint32_t a, int axis_a, std::uint32_t b, int axis_b, const std::string& why);
  void set_rule(Fixed rule) { rules_.back() = rule; }
  void add(std::unique_ptr<Reader> reader) { readers_.back().push_back(std::move(reader)); }
  /// The node that made this value, and whether it is a leaf that no node made.
  const Graph::Node* maker(std::uint32_t slot) const;
  /// It depends on parameters and buffers alone.
  bool is_weight(std::uint32_t slot) const { return slot != Tape::constant && weight_[slot]; }

  // --- flags --------------------------------------------------------------------------------------------------------
  bool fixed(Place p) const { return p != no_place && fixed_[index(p)] != 0; }
  bool needed(Place p) const { return p == no_place || needed_[index(p)] != 0; }
  void set_fixed(Place p, bool fixed) {
    if (p != no_place) fixed_[index(p)] = fixed;
  }
  void set_needed(Place p) {
    if (p != no_place) needed_[index(p)] = 1;
  }
  /// What stands there, if it is the same number everywhere on the sample and finite.
  std::optional<double> number(Place p);
  bool is_zero(Place p) { return fixed(p) && number(p) == 0.0; }
  void block(Place p, const std::string& why);

  // --- results ------------------------------------------------------------------------------------------------------
  struct Axis {
    std::uint32_t slot;
    int axis;
    Place first;
    Index length;
  };
  struct Unit {
    std::vector<Place> places;
    bool pinned = false;  ///< it stays, whatever it does
    bool dead = false;    ///< may go
    bool read = false;    ///< someone needs one of its places: it is a constant
    std::string stays;    ///< why it stays although it is fixed or not needed everywhere; else empty
  };
  const std::vector<Axis>& axes() const noexcept { return axes_; }
  const Axis& axis_of(Place p) const { return axes_[axis_of_[index(p)]]; }
  /// All units, in the order of their first places.
  std::vector<Unit> units();
  const std::vector<std::vector<std::unique_ptr<Reader>>>& readers() const noexcept { return readers_; }

 private:
  struct Numbers {  // of each index of an axis: its smallest and largest element
    std::vector<double> low, high;
    double slack = 0;
  };
  struct Link {
    Place in, out;
  };
  static std::size_t index(Place p) { return static_cast<std::size_t>(p); }
  Place root(Place p);
  int reason(const std::string& why);
  void find_weights();
  std::vector<std::uint8_t> leaf_operands() const;
  void find_constants();
  void find_needs();
  void pin_what_is_hidden();
  const Numbers& numbers(std::size_t axis);

  const Graph& graph_;
  Trust trust_;
  std::vector<std::array<Place, Dims::max_rank>> first_;  // [slot][axis]
  std::vector<Axis> axes_;
  std::vector<std::uint32_t> axis_of_;  // [place]
  std::vector<Place> parent_;           // [place]
  std::vector<Place> read_;             // pinned by themselves: what stands there is read by who knows whom
  std::vector<int> pinned_, blocked_;   // [place]: a reason, -1: none
  std::vector<std::uint8_t> fixed_, needed_;
  std::vector<std::string> reasons_;
  std::vector<std::uint8_t> weight_;  // [slot]
  std::vector<std::size_t> touched_;  // [axis]: the last node that did something about it
  std::vector<std::size_t> maker_;    // [slot]: a node, or their number
  std::vector<Link> links_;
  std::vector<std::size_t> first_link_;                        // [node], and the end
  std::vector<Fixed> rules_;                                   // [node]
  std::vector<std::vector<std::unique_ptr<Reader>>> readers_;  // [node]
  std::vector<std::unique_ptr<Numbers>> numbers_;              // [axis]
};

/// The op table: what this node does to units. Called once for each node, in order.
void describe(Units& units, const Graph::Node& node);

std::vector<double> as_doubles(const Tensor& t);

}  // namespace espalier::prune::detail
