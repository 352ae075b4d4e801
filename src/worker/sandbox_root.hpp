#pragma once
// The keeper's configuration (spec/worker-protocol.md, section 1): what a session can see of the machine.

#include <string>
#include <vector>

#include "base/result.hpp"
#include "worker/options.hpp"

namespace myelin::worker {

/// Directories that an interpreter needs: its prefix, the prefix its symbolic links lead to, and the base of a virtual
/// environment (pyvenv.cfg). Those below /usr are left out: /usr is always visible.
[[nodiscard]] Result<std::vector<std::string>> interpreter_directories(const std::string& python);

/// The whole configuration text. Errors name the path that is missing.
[[nodiscard]] Result<std::string> keeper_configuration(const EngineOptions& options);

}  // namespace myelin::worker
