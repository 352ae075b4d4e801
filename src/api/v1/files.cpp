// Files: the user's ~/work, which the server reads itself, and a session's working directory, which only the session sees.

#include "api/answer.hpp"
#include "api/v1/describe.hpp"
#include "base/time.hpp"
#include "http/static_files.hpp"
#include "http/text.hpp"
#include "os/memfd.hpp"
#include "os/tree.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;

constexpr std::size_t most_entries = 100'000;
constexpr std::size_t chunk_bytes = 256 * 1024;

// A file, in pieces read on the pool.
class FileSource : public http::BodySource {
 public:
  FileSource(async::Pool& pool, std::shared_ptr<os::UniqueFd> fd, std::uint64_t bytes, std::uint64_t offset = 0)
      : pool_(pool), fd_(std::move(fd)), at_(offset), end_(offset + bytes), bytes_(bytes) {}

  Task<Result<bool>> next(std::string& chunk) override {
    auto fd = fd_;
    auto at = at_;
    auto want = static_cast<std::size_t>(std::min<std::uint64_t>(chunk_bytes, end_ - at_));
    auto read = [fd, at, want]() -> Result<std::string> {
      std::string bytes(want, '\0');
      auto done = os::read_exactly_at(fd->get(), bytes.data(), want, at);
      if (!done) return done.take_error();  // it was cut meanwhile
      return bytes;
    };
    auto bytes = co_await async::on_pool(pool_, std::move(read));
    if (!bytes) co_return bytes.take_error();
    chunk = std::move(*bytes);
    at_ += want;
    co_return at_ < end_;
  }
  [[nodiscard]] std::optional<std::uint64_t> length() const override { return bytes_; }

 private:
  async::Pool& pool_;
  std::shared_ptr<os::UniqueFd> fd_;
  std::uint64_t at_, end_, bytes_;
};

http::Response file_response(async::Pool& pool, std::string_view path, std::shared_ptr<os::UniqueFd> fd, std::uint64_t bytes, std::uint64_t offset) {
  // A user's file is never shown as a page of this origin.
  auto response = http::reply(200, "application/octet-stream", "");
  std::string name(path.substr(path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1));
  response.headers.set("Content-Disposition", "attachment; filename*=UTF-8''" + http::percent_encode(name));
  response.headers.set("X-Content-Type-Options", "nosniff");
  response.headers.set("Content-Security-Policy", "sandbox");
  if (bytes > 0) response.stream = std::make_unique<FileSource>(pool, std::move(fd), bytes, offset);
  return response;
}

http::Response no_content(int status = 204) {
  http::Response response;
  response.status = status;
  return response;
}

const char* name_of(os::TreeEntry::Type type) {
  switch (type) {
    case os::TreeEntry::Type::file: return "file";
    case os::TreeEntry::Type::directory: return "directory";
    case os::TreeEntry::Type::link: return "link";
    case os::TreeEntry::Type::other: break;
  }
  return "other";
}

// ---- ~/work

Task<http::Response> work_get(Context& context, Asked asked) {
  auto prepared = co_await context.sessions.prepare_work(asked.user);
  if (!prepared) co_return call_problem(prepared.error());
  std::string path = asked.places[0], directory = context.sessions.work_directory(asked.user);
  struct Looked {
    std::optional<std::vector<os::TreeEntry>> entries;
    std::shared_ptr<os::UniqueFd> file;
    std::uint64_t bytes = 0;
  };
  auto look = [path, directory]() -> Result<Looked> {
    auto tree = os::Tree::open(directory, std::nullopt);
    if (!tree) return tree.take_error();
    auto is_directory = tree->is_directory(path);
    if (!is_directory) return is_directory.take_error();
    Looked looked;
    if (*is_directory) {
      auto entries = tree->list(path, most_entries);
      if (!entries) return entries.take_error();
      looked.entries = std::move(*entries);
      return looked;
    }
    auto file = tree->read(path);
    if (!file) return file.take_error();
    auto size = os::file_size(file->get());
    if (!size) return size.take_error();
    looked.bytes = *size;
    looked.file = std::make_shared<os::UniqueFd>(std::move(*file));
    return looked;
  };
  auto looked = co_await async::on_pool(context.pool, std::move(look));
  if (!looked) co_return call_problem(looked.error());
  if (!looked->entries) co_return file_response(context.pool, path, looked->file, looked->bytes, 0);
  json::array entries;
  for (auto& entry : *looked->entries)
    entries.push_back(json::object{{"name", entry.name}, {"type", name_of(entry.type)}, {"bytes", entry.bytes},
                                   {"modified_at", iso_time(std::chrono::system_clock::from_time_t(entry.modified_s))}});
  co_return json_reply(200, json::object{{"path", path}, {"entries", std::move(entries)}});
}

Task<http::Response> work_put(Context& context, Asked asked) {
  auto prepared = co_await context.sessions.prepare_work(asked.user);
  if (!prepared) co_return call_problem(prepared.error());
  auto room = co_await context.sessions.work_room(asked.user);
  if (!room) co_return call_problem(room.error());
  if (asked.request.body.size() > *room)
    co_return call_problem(Error{Code::insufficient_storage, "~/work has room for " + std::to_string(*room >> 20) + " MiB more: delete files there", ""});
  bool directory_wanted = http::query_value(asked.request.query, "directory").has_value();
  std::string path = asked.places[0], directory = context.sessions.work_directory(asked.user);
  auto owner = context.sessions.work_owner();
  auto body = std::make_shared<std::string>(std::move(asked.request.body));
  auto write = [path, directory, owner, body, directory_wanted]() -> Result<void> {
    auto tree = os::Tree::open(directory, owner);
    if (!tree) return tree.take_error();
    return directory_wanted ? tree->make_directory(path) : tree->write(path, *body);
  };
  auto written = co_await async::on_pool(context.pool, std::move(write));
  if (!written) co_return call_problem(written.error());
  co_return no_content(201);
}

Task<http::Response> work_delete(Context& context, Asked asked) {
  std::string path = asked.places[0], directory = context.sessions.work_directory(asked.user);
  auto remove = [path, directory]() -> Result<void> {
    auto tree = os::Tree::open(directory, std::nullopt);
    if (!tree) return tree.take_error();
    return tree->remove(path);
  };
  auto removed = co_await async::on_pool(context.pool, std::move(remove));
  if (!removed) co_return call_problem(removed.error());
  co_return no_content();
}

// ---- a session's working directory

Task<Result<session::Answer>> ask_session(session::Session session, const char* what, std::string path, std::string body) {
  json::object meta{{"method", "files"}, {"op", what}, {"path", path}, {"nonfinite", "null"}};
  session::Call call{json::serialize(meta), std::move(body), std::string_view(what) == "get"};
  co_return co_await session.call(std::move(call));
}

// What a worker's error means here; its class is Python's.
http::Response session_problem(const Error& error) {
  Error told = error;
  if (error.code == Code::call_failed) {
    json::error_code failed;
    auto detail = json::parse(error.detail, failed);
    std::string kind;
    if (!failed && detail.is_object())
      if (auto* name = detail.get_object().if_contains("class"); name && name->is_string()) kind = name->get_string().c_str();
    told.detail.clear();
    if (kind == "FileNotFoundError" || kind == "NotADirectoryError") told.code = Code::not_found;
    else if (kind == "PermissionError") told.code = Code::forbidden;
    else if (kind == "FileExistsError" || kind == "IsADirectoryError") told.code = Code::conflict;
    else if (kind == "ValueError") told.code = Code::bad_request;
    else told.code = Code::insufficient_storage;
  }
  return call_problem(told);
}

Task<http::Response> session_get(Context& context, Asked asked) {
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  std::string path = asked.places[1], body;
  auto session = *found.session;
  auto answer = co_await ask_session(session, "get", std::move(path), std::move(body));
  if (!answer) co_return session_problem(answer.error());
  // A listing is text; a file is {"bytes": array}.
  const auto& pieces = answer->rope.pieces();
  for (const auto& piece : pieces) {
    if (piece.kind != codec::PieceKind::array) continue;
    if (piece.where == codec::Where::memfd && answer->memfd)
      co_return file_response(context.pool, asked.places[1], answer->memfd, piece.bytes, piece.offset);
    auto response = file_response(context.pool, asked.places[1], nullptr, 0, 0);
    response.body = answer->rope.inline_data(piece);
    co_return response;
  }
  Wanted wanted;
  co_return respond(context, std::move(*answer), wanted, true);
}

Task<http::Response> session_change(Context& context, Asked asked) {
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  bool put = asked.request.method == "PUT";
  const char* what = !put ? "delete" : http::query_value(asked.request.query, "directory") ? "mkdir" : "put";
  auto session = *found.session;
  auto answer = co_await ask_session(session, what, std::move(asked.places[1]), std::move(asked.request.body));
  if (!answer) co_return session_problem(answer.error());
  co_return no_content(put ? 201 : 204);
}

constexpr std::string_view listing = R"({"path":"","entries":[{"name":"v.npy","type":"file","bytes":8128,"modified_at":"2026-01-01T12:00:00.000Z"}]})";

}  // namespace

std::vector<Route> file_routes() {
  return {
      {.method = "GET", .pattern = "/v1/files/{path}", .handler = work_get, .needs = "view:file:*", .tag = "files",
       .summary = "A file of your ~/work (its bytes), or a directory's entries", .answer = listing},
      {.method = "PUT", .pattern = "/v1/files/{path}", .handler = work_put, .needs = "edit:file:*", .tag = "files",
       .summary = "Write a file of ~/work whole; with ?directory make a directory", .query = "directory", .body = "application/octet-stream", .status = 201},
      {.method = "DELETE", .pattern = "/v1/files/{path}", .handler = work_delete, .needs = "edit:file:*", .tag = "files",
       .summary = "Remove a file or an empty directory of ~/work", .status = 204},
      {.method = "GET", .pattern = "/v1/sessions/{id}/files/{path}", .handler = session_get, .needs = "use:session:{}", .tag = "files",
       .summary = "A file of the session's working directory, or a directory's entries", .answer = listing},
      {.method = "PUT", .pattern = "/v1/sessions/{id}/files/{path}", .handler = session_change, .needs = "use:session:{}", .tag = "files",
       .summary = "Write a file there; with ?directory make a directory", .query = "directory", .body = "application/octet-stream", .status = 201},
      {.method = "DELETE", .pattern = "/v1/sessions/{id}/files/{path}", .handler = session_change, .needs = "use:session:{}", .tag = "files",
       .summary = "Remove a file or an empty directory there", .status = 204},
  };
}

}  // namespace myelin::api::v1
