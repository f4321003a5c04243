// FullName: what a module or a parameter is called within the largest model that has listed it.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

namespace espalier {

/// The longest name offered since it was last moved, for texts that people read. Names are offered when a model is
/// listed, also by several threads at once, and a pointer that get() gave stays valid as long as this object.
class FullName {
 public:
  FullName() noexcept = default;
  FullName(const FullName&) noexcept {}  // a copy belongs to no model yet
  FullName(FullName&& other) noexcept : longest_(other.longest_.exchange(nullptr)) { outdate(); }
  FullName& operator=(const FullName&) noexcept { return *this; }  // what is assigned to stays in its place
  FullName& operator=(FullName&&) noexcept { return *this; }
  ~FullName() { drop(longest_.load()); }

  /// What it names has moved, perhaps to another model: the next offer replaces the name, however long it is.
  void outdate() const noexcept {
    outdated_.store(longest_.load(std::memory_order_acquire), std::memory_order_release);
  }
  bool outdated() const noexcept {
    const Offer* longest = longest_.load(std::memory_order_acquire);
    return longest && longest == outdated_.load(std::memory_order_acquire);
  }

  /// Null if none was offered.
  const std::string* get() const noexcept {
    const Offer* longest = longest_.load(std::memory_order_acquire);
    return longest ? &longest->name : nullptr;
  }
  void offer(const std::string& name) const {
    const Offer* longest = longest_.load(std::memory_order_acquire);
    const Offer* const outdated = outdated_.load(std::memory_order_acquire);
    auto stays = [&] { return longest && longest != outdated && longest->name.size() >= name.size(); };
    if (stays()) return;
    auto mine = std::make_unique<Offer>(Offer{name, longest});
    while (!stays()) {
      mine->earlier = longest;
      if (longest_.compare_exchange_weak(longest, mine.get(), std::memory_order_acq_rel)) {
        mine.release();
        return;
      }
    }
  }

 private:
  struct Offer {
    std::string name;
    const Offer* earlier;  // kept, for another thread may be reading it
  };
  static void drop(const Offer* offer) noexcept {
    while (offer) delete std::exchange(offer, offer->earlier);
  }
  mutable std::atomic<const Offer*> longest_ = nullptr;
  mutable std::atomic<const Offer*> outdated_ = nullptr;  // the offer that a move has left behind
};

}  // namespace espalier
