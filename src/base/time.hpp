#pragma once
// Instants as text.

#include <chrono>
#include <string>

namespace myelin {

/// ISO 8601 in UTC with milliseconds: "2026-01-01T12:00:00.000Z".
[[nodiscard]] std::string iso_time(std::chrono::sys_time<std::chrono::milliseconds> at);
[[nodiscard]] inline std::string iso_time(std::chrono::system_clock::time_point at) {
  return iso_time(std::chrono::floor<std::chrono::milliseconds>(at));
}

}  // namespace myelin
