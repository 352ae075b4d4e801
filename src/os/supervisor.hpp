#pragma once
// What systemd is told of the service, by the protocol of sd_notify(3): one datagram each.

#include <chrono>
#include <optional>
#include <string_view>

namespace myelin::os {

/// "READY=1", "WATCHDOG=1" or "STOPPING=1", without waiting. Does nothing where no supervisor asks for it (NOTIFY_SOCKET).
void tell_supervisor(std::string_view state);

/// After how long without WATCHDOG=1 the supervisor ends this process and starts it anew; nothing where it does not.
[[nodiscard]] std::optional<std::chrono::milliseconds> watchdog_patience();

}  // namespace myelin::os
