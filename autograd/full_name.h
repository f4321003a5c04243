// FullName: what a module or a parameter is called within the largest model that has listed it.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

namespace espalier {

/// The longest name offered so far, for texts that people read. Names are offered when a model is listed, also by
/// several threads at once, and a pointer that get() gave stays valid as long as this object.
class FullName {
 public:
  FullName() noexcept = default;
  FullName(const FullName&) noexcept {}  // a copy belongs to no model yet
  FullName(FullName&& other) noexcept : longest_(other.longest_.exchange(nullptr)) {}
  FullName& operator=(const FullName&) noexcept { return *this; }
  FullName& operator=(FullName&& other) noexcept {
    if (this != &other) drop(longest_.exchange(other.longest_.exchange(nullptr)));
    return *this;
  }
  ~FullName() { drop(longest_.load()); }

  /// Null if none was offered.
  const std::string* get() const noexcept {
    const Offer* longest = longest_.load(std::memory_order_acquire);
    return longest ? &longest->name : nullptr;
  }
  void offer(const std::string& name) const {
    const Offer* longest = longest_.load(std::memory_order_acquire);
    if (longest && longest->name.size() >= name.size()) return;
    auto mine = std::make_unique<Offer>(Offer{name, longest});
    while (!longest || longest->name.size() < name.size()) {
      mine->shorter = longest;
      if (longest_.compare_exchange_weak(longest, mine.get(), std::memory_order_acq_rel)) {
        mine.release();
        return;
      }
    }
  }

 private:
  struct Offer {
    std::string name;
    const Offer* shorter;  // kept, for another thread may be reading it
  };
  static void drop(const Offer* offer) noexcept {
    while (offer) delete std::exchange(offer, offer->shorter);
  }
  mutable std::atomic<const Offer*> longest_ = nullptr;
};

}  // namespace espalier
