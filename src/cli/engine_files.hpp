#pragma once
// Engines of the operator's own: DIR/engines/NAME.toml, one file an engine, with the keys that [engine.NAME] has in myelin.toml.
// A file is written whole or not at all.

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "cli/config.hpp"

namespace myelin::cli {

inline constexpr std::string_view engine_name_rule = "1 to 64 letters, digits, - _ . and begins with a letter or digit";
[[nodiscard]] bool is_engine_name(std::string_view name);
/// numpy, or a.b
[[nodiscard]] bool is_module_name(std::string_view name);

[[nodiscard]] std::filesystem::path engine_file(const std::filesystem::path& data, const std::string& name);
/// Puts every engine of DIR/engines into `config.engines`. Errors: bad_request with one line per mistake.
Result<void> read_engine_files(const std::filesystem::path& home, Config& config);
/// Its python, kind, preload and env. Makes DIR/engines. unavailable where it can't be written.
Result<void> write_engine_file(const std::filesystem::path& data, const std::string& name, const EngineConfig& engine);
/// not_found if there is none.
Result<void> remove_engine_file(const std::filesystem::path& data, const std::string& name);

}  // namespace myelin::cli
