#pragma once
// `myelin engine add` and `remove`: engines of the operator's own. `list` is a client's command.

#include <string>
#include <vector>

#include "cli/config.hpp"

namespace CLI {
class App;
}

namespace myelin::cli {

/// Below the command `engine`, which the client's commands have made.
void add_engine_commands(CLI::App& engine, const Surroundings& surroundings, int& status);

struct EngineRequest {
  std::string name, python, kind = "python";
  std::vector<std::string> preload;      // separated by commas too
  std::vector<std::string> environment;  // NAME=VALUE
};
/// What is to be kept; bad_request names what is wrong. Looks at no file but those that `config` was read from.
Result<EngineConfig> engine_from(const EngineRequest& request, const Config& config);

}  // namespace myelin::cli
