#pragma once
// Packages are read by workers in sandboxes: which engine they are for (by their text alone, nothing runs), the library of their MOD files,
// their declarations. What was read is kept by the hash of the files. Belongs to the loop's thread.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/pool.hpp"
#include "function/declaration.hpp"
#include "function/package_files.hpp"
#include "function/runner.hpp"

namespace myelin::function {

/// What is wrong with a package, for its author.
struct Problem {
  std::string text, file;  // the file may be empty
  int line = 0;            // 0: not known
};

struct Package {
  std::string name, hash, engine, description;
  std::string mechanisms;  // directory of the compiled MOD files below `shown`; may be empty
  std::vector<Declaration> functions;
  std::optional<Problem> problem;  // then there are no functions
};

class Reader {
 public:
  /// `directory`: DIR/packages.
  Reader(async::Pool& pool, session::Manager& sessions, Runner& runner, std::filesystem::path directory)
      : pool_(pool), sessions_(sessions), runner_(runner), directory_(std::move(directory)) {}

  [[nodiscard]] Result<void> open() const;
  [[nodiscard]] std::filesystem::path shown() const { return directory_ / "shown"; }

  /// The package, good or with its problem. An Error is about this server (no such engine, no disk, no worker), not the package.
  async::Task<Result<Package>> read(session::User user, std::string name, Files files);

  /// Forgets what was read of code whose copy is gone. Blocks.
  void tidy() const;

  /// The places where a worker finds a package and its library.
  struct Places {
    std::string root, mechanisms;
    std::vector<std::pair<std::string, std::string>> packages;  // as Work::packages
  };
  [[nodiscard]] Places places(const std::string& engine, const std::string& hash, const std::string& mechanisms) const;

 private:
  async::Task<Result<std::string>> ask(session::User user, std::string engine, Places places, std::string meta, int seconds);
  async::Task<Result<std::string>> compile(session::User user, std::string engine, std::string name, std::string hash, Files mods, std::optional<Problem>* problem);

  async::Pool& pool_;
  session::Manager& sessions_;
  Runner& runner_;
  std::filesystem::path directory_;
};

}  // namespace myelin::function
