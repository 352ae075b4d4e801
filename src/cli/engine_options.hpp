#pragma once
// From the configuration to what an engine and a session are started with.

#include <cstdint>
#include <filesystem>
#include <string>

#include "cli/config.hpp"
#include "session/limits.hpp"
#include "worker/options.hpp"

namespace myelin::cli {

/// Absolute; a name is looked for in PATH, and stays a name if it is not there.
[[nodiscard]] std::string resolve_python(const std::string& given);
/// `name` is one of config.engines. `executable` is this program. False for `namespaces`: reduced isolation.
[[nodiscard]] worker::EngineOptions engine_options(const Config& config, const std::string& name, const std::filesystem::path& executable,
                                                   bool namespaces);
/// `memory`: of this machine, in bytes.
[[nodiscard]] session::Limits session_limits(const Limits& limits, std::uint64_t memory);

}  // namespace myelin::cli
