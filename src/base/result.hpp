#pragma once
// Result<T>: a value or an Error. Reading the wrong side is a bug and throws std::logic_error.

#include <optional>
#include <stdexcept>
#include <utility>
#include <variant>

#include "base/error.hpp"

namespace myelin {

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}          // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}      // NOLINT
  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { need(ok()); return std::get<0>(state_); }
  const T& value() const& { need(ok()); return std::get<0>(state_); }
  T&& value() && { need(ok()); return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  [[nodiscard]] const Error& error() const { need(!ok()); return std::get<1>(state_); }
  [[nodiscard]] Error take_error() { need(!ok()); return std::get<1>(std::move(state_)); }

 private:
  static void need(bool condition) {
    if (!condition) throw std::logic_error("Result: wrong side read");
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT
  [[nodiscard]] bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] const Error& error() const {
    if (!error_) throw std::logic_error("Result: wrong side read");
    return *error_;
  }
  [[nodiscard]] Error take_error() { auto e = error(); return e; }

 private:
  std::optional<Error> error_;
};

}  // namespace myelin
