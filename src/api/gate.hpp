#pragma once
// How many calls of people without a token run at once: a few, so that they can't crowd out those who have one. The others wait in
// turn. Belongs to the loop's thread.

#include <chrono>
#include <cstddef>
#include <utility>

#include "async/task.hpp"

namespace myelin::api {

class Gate {
 public:
  /// A place in the gate, given back at the end.
  class Place {
   public:
    Place() = default;
    explicit Place(Gate& gate) : gate_(&gate) {}
    Place(Place&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(gate_, other.gate_);
      return *this;
    }
    ~Place() {
      if (gate_) gate_->leave();
    }
    explicit operator bool() const { return gate_ != nullptr; }

   private:
    Gate* gate_ = nullptr;
  };

  /// An empty place when too many wait already, or none came free in time. The gate outlives the call.
  static async::Task<Place> enter(Gate* gate) {
    if (gate->running_ >= at_once) {
      if (gate->waiting_ >= most_waiting) co_return Place();
      Waiting one(*gate);
      const auto until = std::chrono::steady_clock::now() + patience;
      while (gate->running_ >= at_once) {
        if (std::chrono::steady_clock::now() >= until) co_return Place();
        (void)co_await gate->free_.wait(std::chrono::milliseconds(500));
      }
    }
    ++gate->running_;
    co_return Place(*gate);
  }

 private:
  static constexpr std::size_t at_once = 2, most_waiting = 64;
  static constexpr std::chrono::seconds patience{15};
  struct Waiting {
    explicit Waiting(Gate& g) : gate(g) { ++gate.waiting_; }
    ~Waiting() { --gate.waiting_; }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    Gate& gate;
  };
  void leave() {
    --running_;
    free_.pulse();
  }

  std::size_t running_ = 0, waiting_ = 0;
  async::Event free_;
};

}  // namespace myelin::api
