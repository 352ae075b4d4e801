#pragma once
// Whether an interpreter works as an engine here, and what stands in the way: first what can be told of the files, then a session in
// the sandbox, made as the server would make it. Nothing is run outside the sandbox, and nothing is kept.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "cli/config.hpp"

namespace myelin::cli {

struct Finding {
  enum class State { ok, limited, blocks };
  State state = State::ok;
  std::string name;
  std::string text;
  std::string repair;  // what to do, where there is something
};

/// Of an absolute path. `uid`: that of a root server's sessions. Empty: nothing is wrong.
[[nodiscard]] std::vector<Finding> check_interpreter(const std::string& python, std::optional<uid_t> uid);

/// Starts config.engines[name] and one session, runs a line, branches once. Takes as long as the imports do. Errors: what has nothing
/// to do with the engine, such as a data folder that can't be written.
Result<std::vector<Finding>> try_engine(const Config& config, const std::string& name, const Surroundings& surroundings);

[[nodiscard]] bool blocked(const std::vector<Finding>& findings);

}  // namespace myelin::cli
