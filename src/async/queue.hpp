#pragma once
// A bounded queue between tasks of one loop. Full means `false` from try_push: the producer decides what that
// means.

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "async/task.hpp"

namespace myelin::async {

template <class T>
class Queue {
 public:
  explicit Queue(std::size_t bound) : state_(std::make_shared<State>(bound)) {}
  ~Queue() {
    if (state_) close();
  }
  Queue(Queue&&) noexcept = default;
  Queue& operator=(Queue&&) = delete;

  /// False when full or closed; the value is then untouched.
  [[nodiscard]] bool try_push(T&& value) {
    if (state_->closed || state_->items.size() >= state_->bound) return false;
    state_->items.push_back(std::move(value));
    state_->ready.set();
    return true;
  }
  [[nodiscard]] bool try_push(const T& value) { return try_push(T(value)); }
  [[nodiscard]] std::optional<T> try_pop() { return take(*state_); }
  /// The oldest item; nothing at the timeout, on cancel, or once closed and drained.
  [[nodiscard]] Task<std::optional<T>> pop(milliseconds timeout = forever) {
    return pop_from(state_, timeout);
  }
  /// No more pushes; what is queued can still be popped.
  void close() {
    state_->closed = true;
    state_->ready.set();
  }
  [[nodiscard]] bool closed() const { return state_->closed; }
  [[nodiscard]] std::size_t size() const { return state_->items.size(); }
  [[nodiscard]] std::size_t bound() const { return state_->bound; }

 private:
  struct State {
    explicit State(std::size_t most) : bound(most) {}
    std::size_t bound;
    bool closed = false;
    std::deque<T> items;
    Event ready;  // set while there is something to see: an item, or the end
  };
  static std::optional<T> take(State& state) {
    std::optional<T> out;
    if (!state.items.empty()) {
      out.emplace(std::move(state.items.front()));
      state.items.pop_front();
    }
    if (state.items.empty() && !state.closed) state.ready.reset();
    return out;
  }
  static Task<std::optional<T>> pop_from(std::shared_ptr<State> state, milliseconds timeout) {
    const auto end = std::chrono::steady_clock::now();
    for (;;) {
      auto item = take(*state);
      if (item || state->closed) co_return item;
      milliseconds left = timeout;
      if (timeout != forever) {
        left = timeout - std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - end);
        if (left <= milliseconds(0)) co_return std::nullopt;
      }
      const bool woken = co_await state->ready.wait(left);
      if (!woken) co_return take(*state);
    }
  }
  std::shared_ptr<State> state_;
};

}  // namespace myelin::async
