#include "base/time.hpp"

#include <cstdio>
#include <ctime>

namespace myelin {

std::string iso_time(std::chrono::sys_time<std::chrono::milliseconds> at) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(at);
  const std::time_t time = seconds.time_since_epoch().count();
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[48];
  const auto length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>((at - seconds).count()));
  return text;
}

}  // namespace myelin
