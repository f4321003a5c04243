// Hook: the handle of a function that was hung on a gradient.
#pragma once

#include <functional>
#include <memory>
#include <utility>

namespace espalier {

namespace detail {
struct HookState {
  bool removed = false;
};
template <class Signature>
struct HookFunction final : HookState {
  explicit HookFunction(std::function<Signature> f) : function(std::move(f)) {}
  std::function<Signature> function;
};
}  // namespace detail

/// Takes a hook off again. A handle may be dropped, copied, and outlive what it was hung on: the hook stays until
/// remove(), or until its tape or parameter ends.
class Hook final {
 public:
  /// Of no hook.
  Hook() = default;
  explicit Hook(const std::shared_ptr<detail::HookState>& state) : state_(state) {}

  /// From now on it is not called; also from within itself. A second call has no effect.
  void remove() noexcept {
    if (const auto state = state_.lock()) state->removed = true;
  }
  /// It is still there.
  bool attached() const noexcept {
    const auto state = state_.lock();
    return state && !state->removed;
  }

 private:
  std::weak_ptr<detail::HookState> state_;
};

}  // namespace espalier
