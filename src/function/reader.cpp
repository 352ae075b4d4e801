#include "function/reader.hpp"

#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "codec/encode.hpp"
#include "codec/json_value.hpp"
#include "os/memfd.hpp"
#include "run/files.hpp"

namespace myelin::function {
namespace {

namespace fs = std::filesystem;
using async::Task;

constexpr int scan_seconds = 30, read_seconds = 60, compile_seconds = 600;
constexpr std::size_t most_answer = 64 << 20;

codec::Reader reader_of(std::shared_ptr<os::UniqueFd> memfd) {
  return [memfd](std::uint64_t offset, std::span<char> out) -> Result<std::size_t> {
    if (!memfd || !os::read_exactly_at(memfd->get(), out.data(), out.size(), offset)) return Error{Code::worker_lost, "the result's memory file is shorter than it says", ""};
    return out.size();
  };
}

// The bytes of the only array in {"bytes": …}; else nothing.
std::optional<std::string> bytes_of(const session::Answer& answer) {
  for (auto& piece : answer.rope.pieces()) {
    if (piece.kind != codec::PieceKind::array || piece.dtype != codec::Dtype::u8) continue;
    if (piece.bytes > most_answer) return std::nullopt;
    if (piece.where == codec::Where::inline_data) return std::string(answer.rope.inline_data(piece));
    std::string bytes(piece.bytes, '\0');
    auto got = reader_of(answer.memfd)(piece.offset, bytes);
    return got ? std::optional(std::move(bytes)) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<Problem> problem_of(const json::object& answer) {
  auto* error = answer.if_contains("error");
  if (!error || !error->is_object()) return std::nullopt;
  auto& o = error->get_object();
  Problem problem;
  if (auto* text = o.if_contains("text"); text && text->is_string()) problem.text = std::string(text->get_string()).substr(0, 8192);
  if (auto* file = o.if_contains("file"); file && file->is_string()) problem.file = std::string(file->get_string()).substr(0, 256);
  if (auto* line = o.if_contains("line"); line && line->is_int64() && line->get_int64() > 0 && line->get_int64() < 100'000'000) problem.line = static_cast<int>(line->get_int64());
  return problem;
}

// What a worker that fails says of the package: it ran the author's code, so that is the author's problem.
std::optional<Problem> problem_of(const Error& error) {
  if (error.code == Code::deadline) return Problem{"reading the package takes too long: " + error.message, "", 0};
  if (error.code != Code::call_failed && error.code != Code::worker_lost && error.code != Code::gone) return std::nullopt;
  return Problem{error.message, "", 0};
}

std::string text_of(const json::object& o, std::string_view key) {
  auto* value = o.if_contains(key);
  return value && value->is_string() ? std::string(value->get_string()) : "";
}

Result<Package> package_of(const std::string& name, const std::string& hash, const json::object& said) {
  Package package;
  package.name = name;
  package.hash = hash;
  package.description = text_of(said, "description").substr(0, 65536);
  if (auto problem = problem_of(said)) {
    package.problem = std::move(problem);
    return package;
  }
  auto* functions = said.if_contains("functions");
  if (!functions || !functions->is_array()) return Error{Code::bad_request, "the declaration is broken: it has no functions", ""};
  if (functions->get_array().size() > 512) return Error{Code::bad_request, "the package has more than 512 functions", ""};
  for (auto& one : functions->get_array()) {
    auto declaration = parse_declaration(one);
    if (!declaration) return declaration.take_error();
    package.functions.push_back(std::move(*declaration));
  }
  return package;
}

}  // namespace

Result<void> Reader::open() const {
  for (auto& path : {directory_, directory_ / "shown", directory_ / "read"}) {
    std::error_code error;
    fs::create_directories(path, error);
    // Sessions have a user id of their own; the folder above them all is the server's alone.
    if (error || ::chmod(path.c_str(), 0755) != 0) return Error{Code::internal, "can't make " + path.string(), ""};
  }
  std::error_code error;
  for (auto& entry : fs::directory_iterator(directory_ / "shown", error))
    if (entry.path().filename().string().starts_with(".part-")) fs::remove_all(entry.path(), error);
  return {};
}

Reader::Places Reader::places(const std::string& engine, const std::string& hash, const std::string& mechanisms) const {
  Places places;
  if (sessions_.engine_options(engine).namespaces) {
    places.root = "/session/package";
    places.packages.emplace_back(hash, places.root);
    if (!mechanisms.empty()) {
      places.packages.emplace_back(mechanisms, "/session/mechanisms");
      places.mechanisms = "/session/mechanisms/libnrnmech.so";
    }
  } else {
    places.root = (shown() / hash).string();
    if (!mechanisms.empty()) places.mechanisms = (shown() / mechanisms / "libnrnmech.so").string();
  }
  return places;
}

Task<Result<std::string>> Reader::ask(session::User user, std::string engine, Places places, std::string meta, int seconds) {
  Work work;
  work.limits = sessions_.limits_for(engine, user.name);
  work.user = std::move(user);
  work.engine = std::move(engine);
  work.packages = std::move(places.packages);
  work.call.meta = std::move(meta);
  work.call.timeout = std::chrono::seconds(seconds);
  auto handle = std::make_shared<Handle>();
  auto answer = co_await runner_.run(std::move(work), handle);
  if (!answer) co_return answer.take_error();
  if (auto bytes = bytes_of(*answer)) co_return std::move(*bytes);
  if (answer->rope.data_bytes() > most_answer) co_return Error{Code::call_failed, "the declaration is too large", ""};
  auto text = codec::encode_all(answer->rope, codec::Format::json, codec::Nonfinite::null, reader_of(answer->memfd));
  co_return text;
}

Task<Result<std::string>> Reader::compile(session::User user, std::string engine, std::string name, std::string hash, Files mods, std::optional<Problem>* problem) {
  auto info = co_await sessions_.engine_ready(engine);
  if (!info) co_return info.take_error();
  std::string facts = engine + '\0' + sessions_.engine_options(engine).python + '\0' + info->version;
  run::Sha256 sha;
  sha.update(facts);
  sha.update(hash_of(mods));
  std::string key = "m_" + sha.hex();
  std::error_code error;
  if (fs::exists(shown() / key, error)) co_return key;
  auto where = places(engine, hash, "");
  json::object meta{{"method", "function"}, {"op", "compile"}, {"root", where.root}, {"package", name}};
  std::string meta_text = json::serialize(meta);
  auto answer = co_await ask(std::move(user), engine, std::move(where), std::move(meta_text), compile_seconds);
  if (!answer) {
    *problem = problem_of(answer.error());
    if (*problem) co_return std::string();
    co_return answer.take_error();
  }
  if (answer->size() < 4 || answer->compare(0, 4, "\177ELF") != 0) {
    auto said = codec::parse_object(*answer);
    if (said) *problem = problem_of(*said);
    if (!*problem) *problem = Problem{"the MOD files gave no library", "", 0};
    co_return std::string();
  }
  auto library = std::make_shared<Files>();
  (*library)["libnrnmech.so"] = std::move(*answer);
  auto place = shown();
  auto write = [place, key, library] { return keep(place, key, *library); };
  auto kept = co_await async::on_pool(pool_, std::move(write));
  if (!kept) co_return kept.take_error();
  co_return key;
}

void Reader::tidy() const {
  std::error_code error;
  for (auto& note : fs::directory_iterator(directory_ / "read", error)) {
    std::error_code ignored;
    if (note.path().extension() == ".json" && !fs::exists(shown() / note.path().stem(), ignored)) fs::remove(note.path(), ignored);
  }
}

Task<Result<Package>> Reader::read(session::User user, std::string name, Files given) {
  auto files = std::make_shared<Files>(std::move(given));
  auto place = shown();
  auto write = [place, files]() -> Result<std::string> {
    std::string hash = hash_of(*files);
    auto kept = keep(place, hash, *files);
    if (!kept) return kept.take_error();
    return hash;
  };
  auto hash = co_await async::on_pool(pool_, std::move(write));
  if (!hash) co_return hash.take_error();

  // What was read before. A broken package is read again: what it lacked (an engine's module, say) may be there now.
  const fs::path note = directory_ / "read" / (*hash + ".json");
  auto look = [note]() -> std::string {
    std::ifstream file(note);
    return std::string((std::istreambuf_iterator<char>(file)), {});
  };
  auto text = co_await async::on_pool(pool_, std::move(look));
  if (auto known = codec::parse_object(text); known && text_of(*known, "reader") == MYELIN_VERSION) {
    auto package = package_of(name, *hash, *known);
    std::string engine = text_of(*known, "engine");
    if (package && sessions_.has_engine(engine)) {
      package->engine = engine;
      if (auto mods = ending_with(*files, ".mod"); !mods.empty()) {
        std::optional<Problem> problem;
        auto library = co_await compile(user, engine, name, *hash, std::move(mods), &problem);
        if (!library) co_return library.take_error();
        package->mechanisms = std::move(*library);
        if (problem) package->problem = std::move(problem), package->functions.clear();
      }
      co_return package;
    }
  }

  Package broken;
  broken.name = name;
  broken.hash = *hash;
  std::string scanner = "python";
  if (!sessions_.has_engine(scanner)) co_return Error{Code::unavailable, "there is no engine 'python', which reads packages", ""};
  auto where = places(scanner, *hash, "");
  std::string meta = json::serialize(json::object{{"method", "function"}, {"op", "scan"}, {"root", where.root}, {"package", name}});
  auto scanned = co_await ask(user, scanner, std::move(where), std::move(meta), scan_seconds);
  if (!scanned) {
    broken.problem = problem_of(scanned.error());
    if (broken.problem) co_return broken;
    co_return scanned.take_error();
  }
  auto facts = codec::parse_object(*scanned);
  if (!facts) co_return facts.take_error();
  broken.problem = problem_of(*facts);
  if (broken.problem) co_return broken;
  std::string engine = text_of(*facts, "engine");
  broken.engine = engine;
  if (!sessions_.has_engine(engine)) {
    broken.problem = Problem{"the package is for the engine '" + engine.substr(0, 64) + "', which this server does not have", "", 0};
    co_return broken;
  }

  std::string mechanisms;
  if (auto mods = ending_with(*files, ".mod"); !mods.empty()) {
    if (sessions_.engine_options(engine).kind != "neuron") {
      broken.problem = Problem{"MOD files are for the engine neuron, but the package is for " + engine, "", 0};
      co_return broken;
    }
    auto library = co_await compile(user, engine, name, *hash, std::move(mods), &broken.problem);
    if (!library) co_return library.take_error();
    if (broken.problem) co_return broken;
    mechanisms = std::move(*library);
  }

  where = places(engine, *hash, mechanisms);
  json::object ask_for{{"method", "function"}, {"op", "read"}, {"root", where.root}, {"package", name}, {"engine", engine}};
  if (!where.mechanisms.empty()) ask_for["mechanisms"] = where.mechanisms;
  meta = json::serialize(ask_for);
  auto answer = co_await ask(user, engine, std::move(where), std::move(meta), read_seconds);
  if (!answer) {
    broken.problem = problem_of(answer.error());
    if (broken.problem) co_return broken;
    co_return answer.take_error();
  }
  json::error_code failed;
  json::parse_options options;
  options.max_depth = 64;
  auto said = json::parse(*answer, failed, {}, options);
  if (failed || !said.is_object()) {
    broken.problem = Problem{"the declaration is broken: it is no JSON", "", 0};
    co_return broken;
  }
  auto package = package_of(name, *hash, said.get_object());
  if (!package) {
    broken.problem = Problem{package.error().message, "", 0};
    co_return broken;
  }
  package->engine = engine;
  package->mechanisms = mechanisms;
  for (auto& declaration : package->functions)
    if (!sessions_.has_engine(declaration.engine)) {
      package->problem = Problem{declaration.name + " is for the engine '" + declaration.engine + "', which this server does not have", "", declaration.line};
      package->functions.clear();
      co_return package;
    }
  if (!package->problem) {
    json::object keep_it = said.get_object();
    keep_it["reader"] = MYELIN_VERSION;
    keep_it["engine"] = engine;
    auto note_text = std::make_shared<std::string>(json::serialize(keep_it));
    auto remember = [note, note_text] {  // only a note: what is lost is read again
      const fs::path part = note.string() + ".part-" + random_hex(4);
      {
        std::ofstream file(part);
        file << *note_text;
      }
      std::error_code error;
      fs::rename(part, note, error);
      if (error) fs::remove(part, error);
    };
    co_await async::on_pool(pool_, std::move(remember));
  }
  co_return package;
}

}  // namespace myelin::function
