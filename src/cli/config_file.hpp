#pragma once
// Reads myelin.toml and the files of engines. All mistakes of a file are collected, each with its line.

#include <toml++/toml.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/config_settings.hpp"

namespace myelin::cli::conf {

class FileReader {
 public:
  FileReader(fs::path file, fs::path home, Config& config)
      : file_(std::move(file)), home_(std::move(home)), config_(config) {}

  /// First. Syntax errors are kept for the other two.
  void parse(const std::string& text);
  /// The data folder, if the file says one: engines are looked for there before the rest is read.
  void take_data();
  /// All of myelin.toml. `data` is taken if `data_allowed`: a file that was found in DIR cannot move DIR.
  Result<void> read(bool data_allowed);
  /// A file of DIR/engines: the keys of [engine.NAME].
  Result<void> read_engine(const std::string& name);

 private:
  void faces(const toml::table& table);
  void functions(const toml::table& table);
  void oidc(const toml::table& table);
  static const Setting* find(std::string_view name);
  void top_level(const Setting& setting, const toml::node& node, toml::source_index line, bool data_allowed);
  void limits(const toml::table& table, const std::string& prefix, LimitOverrides& to, bool LimitSpec::*allowed);
  void engines(const toml::table& table);
  void engine(const toml::table& table, const std::string& name, const std::string& prefix);
  void users(const toml::table& table);
  void mounts(const toml::node& node, toml::source_index line);
  static std::string target(fs::path& to, const Given& given);
  void set(const toml::node& node, toml::source_index line, const std::string& key,
           const std::function<std::string(const Given&)>& setter);
  [[nodiscard]] std::optional<Given> given(const toml::node& node) const;
  const toml::table* table_of(const toml::node& node, const std::string& name, toml::source_index line);
  void unknown(toml::source_index line, const std::string& prefix, std::string_view name,
               const std::vector<std::string>& known, const std::string& more = "");
  void mistake(toml::source_index line, std::string text) { mistakes_.emplace_back(line, std::move(text)); }
  Result<void> result();

  fs::path file_;
  fs::path home_;
  Config& config_;
  toml::table root_;
  bool parsed_ = false;
  LimitOverrides file_limits_;
  std::vector<std::pair<toml::source_index, std::string>> mistakes_;
};

}  // namespace myelin::cli::conf
