#include "cli/engine_files.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>

#include "cli/config_file.hpp"
#include "os/failure.hpp"
#include "os/whole_file.hpp"

namespace myelin::cli {
namespace {

namespace fs = std::filesystem;

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

}  // namespace

bool is_engine_name(std::string_view name) {
  if (name.empty() || name.size() > 64 || !is_letter_or_digit(name.front())) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return is_letter_or_digit(c) || c == '-' || c == '_' || c == '.'; });
}

bool is_module_name(std::string_view name) {
  // Letters of other alphabets are allowed in Python too: what is no module is said by the import.
  if (name.empty() || name.front() == '.' || name.back() == '.' || name.front() == '-') return false;
  return std::none_of(name.begin(), name.end(), [](unsigned char c) { return c <= ' ' || c == '/' || c == '=' || c == 0x7f; });
}

fs::path engine_file(const fs::path& data, const std::string& name) { return data / "engines" / (name + ".toml"); }

Result<void> read_engine_files(const fs::path& home, Config& config) {
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::directory_iterator entry(config.data / "engines", error), end; !error && entry != end; entry.increment(error))
    if (entry->path().extension() == ".toml" && entry->path().filename().string().front() != '.') files.push_back(entry->path());
  if (error && error != std::errc::no_such_file_or_directory)
    return Error{Code::bad_request, (config.data / "engines").string() + " cannot be read: " + error.message(), ""};
  std::sort(files.begin(), files.end());
  std::string mistakes;
  for (const auto& file : files) {
    std::string name = file.stem().string();
    Result<void> read;
    const auto& own = engine_names();
    if (!is_engine_name(name)) {
      read = Error{Code::bad_request, file.string() + ": the name of an engine is " + std::string(engine_name_rule), ""};
    } else if (std::find(own.begin(), own.end(), name) != own.end()) {
      read = Error{Code::bad_request, file.string() + ": the engine " + name + " came with the server; set [engine." + name + "] in myelin.toml", ""};
    } else if (auto text = conf::read_file(file, 1 << 20); !text) {
      read = text.take_error();
    } else if (*text) {  // else it was removed meanwhile
      conf::FileReader reader(file, home, config);
      reader.parse(**text);
      read = reader.read_engine(name);
    }
    if (!read) mistakes.append(mistakes.empty() ? "" : "\n").append(read.error().message);
  }
  if (!mistakes.empty()) return Error{Code::bad_request, mistakes, ""};
  return {};
}

Result<void> write_engine_file(const fs::path& data, const std::string& name, const EngineConfig& engine) {
  toml::table table{{"python", engine.python}, {"kind", engine.kind}};
  toml::array preload;
  for (const auto& module : engine.preload) preload.push_back(module);
  table.insert("preload", std::move(preload));
  if (!engine.env.empty()) {
    toml::table env;
    for (const auto& [variable, value] : engine.env) env.insert(variable, value);
    table.insert("env", std::move(env));
  }
  std::ostringstream out;
  out << table << "\n";

  fs::path file = engine_file(data, name);
  if (::mkdir(file.parent_path().c_str(), 0700) != 0 && errno != EEXIST) return os::failure("cannot write " + file.string());
  return os::replace_file(file.string(), out.str());
}

Result<void> remove_engine_file(const fs::path& data, const std::string& name) {
  fs::path file = engine_file(data, name);
  if (::unlink(file.c_str()) == 0) {
    (void)os::sync_directory(file.parent_path().string());
    return {};
  }
  if (errno == ENOENT) return Error{Code::not_found, "there is no engine " + name + " that was added (" + file.string() + ")", ""};
  return Error{Code::unavailable, "cannot remove " + file.string() + ": " + std::strerror(errno), ""};
}

}  // namespace myelin::cli
