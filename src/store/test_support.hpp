#pragma once
// Where tests keep their state: in files, or with MYELIN_TEST_STORE=postgres on a PostgreSQL server that the test program starts for
// itself (tests/postgres) and ends. A program that can't start one says why and exits with 77, which ctest shows as skipped.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "store/migrate.hpp"

namespace myelin::store::test {

namespace fs = std::filesystem;

inline bool on_postgres() {
  const char* wanted = std::getenv("MYELIN_TEST_STORE");
  return wanted != nullptr && std::string(wanted) == "postgres";
}

/// The folder of the program's PostgreSQL server, started at the first call.
inline const std::string& postgres_folder() {
  struct Server {
    std::string folder;
    pid_t owner = ::getpid();
    Server() {
      std::string pattern = fs::temp_directory_path() / "myelin-postgres-XXXXXX";
      folder = ::mkdtemp(pattern.data());
      const std::string start = MYELIN_SOURCE_DIR "/tests/postgres start " + folder + " " + std::to_string(owner);
      if (std::system(start.c_str()) != 0) {
        fs::remove_all(folder);
        std::puts("skipped: there is no PostgreSQL to test with");
        std::exit(77);
      }
    }
    ~Server() {
      if (::getpid() != owner) return;
      (void)!std::system((MYELIN_SOURCE_DIR "/tests/postgres kill " + folder).c_str());
      fs::remove_all(folder);
    }
  };
  static const Server server;
  return server.folder;
}

inline std::string url_of(const std::string& name) { return "postgresql://postgres@/" + name + "?host=" + postgres_folder(); }

/// The state of a test that has this folder for itself: always the same for the same folder and name.
inline Place place_in(const fs::path& folder, const std::string& name = "myelin") {
  if (!on_postgres()) return Place(folder);
  std::string database = folder.filename().string() + "_" + name;
  for (char& c : database)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  auto server = Database::connect(url_of("postgres"));
  if (!server) ADD_FAILURE() << server.error().message;
  else (void)server->script(("CREATE DATABASE \"" + database + "\"").c_str());  // it may be there
  return {folder, url_of(database)};
}

/// Any database of that name: a file, or one on the server.
inline Result<Database> open_in(const fs::path& folder, const std::string& name) {
  auto place = place_in(folder, name);
  return place.url.empty() ? Database::open(folder / (name + ".db")) : Database::connect(place.url);
}

}  // namespace myelin::store::test
