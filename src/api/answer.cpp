#include "api/answer.hpp"

#include "codec/json_check.hpp"
#include "http/text.hpp"
#include "os/memfd.hpp"

namespace myelin::api {
namespace {

using async::Task;

constexpr std::size_t at_once = 64 * 1024;       // data that is encoded on the loop
constexpr std::size_t first_chunk = 8 * 1024;    // small, so that the first byte leaves soon
constexpr std::size_t chunk_bytes = 256 * 1024;

// Everything that one encoding touches; shared with the pool thread, of which there is one at a time.
struct Encoding {
  Encoding(codec::Rope r, codec::Reader read, Wanted w)
      : rope(std::move(r)), encoder(rope, w.format, w.bare ? codec::Nonfinite::bare : codec::Nonfinite::null), reader(std::move(read)) {}
  codec::Rope rope;
  codec::Encoder encoder;
  codec::Reader reader;
};

class RopeSource : public http::BodySource {
 public:
  RopeSource(async::Pool& pool, codec::Rope rope, codec::Reader reader, Wanted wanted, bool newline)
      : pool_(pool), encoding_(std::make_shared<Encoding>(std::move(rope), std::move(reader), wanted)), newline_(newline) {}

  Task<Result<bool>> next(std::string& chunk) override {
    chunk.clear();
    auto encoding = encoding_;
    std::size_t target = first_ ? first_chunk : chunk_bytes;
    first_ = false;
    std::string buffer = std::move(chunk);
    auto make = [encoding, target, buffer = std::move(buffer)]() mutable -> Result<std::string> {
      auto result = encoding->encoder.next(buffer, target, encoding->reader);
      if (!result) return result.take_error();
      return std::move(buffer);
    };
    auto made = co_await async::on_pool(pool_, std::move(make));
    if (!made) co_return made.take_error();
    chunk = std::move(*made);
    if (!encoding->encoder.done()) co_return true;
    if (newline_) chunk += '\n';
    co_return false;
  }

 private:
  async::Pool& pool_;
  std::shared_ptr<Encoding> encoding_;
  bool newline_;
  bool first_ = true;
};

}  // namespace

codec::Reader reader_of(std::shared_ptr<os::UniqueFd> memfd) {
  return [memfd](std::uint64_t offset, std::span<char> out) -> Result<std::size_t> {
    if (!memfd || !os::read_exactly_at(memfd->get(), out.data(), out.size(), offset))
      return Error{Code::worker_lost, "the result's memory file is shorter than it says", ""};
    return out.size();
  };
}

Wanted negotiate(const Context& context, const http::Request& request) {
  Wanted wanted;
  wanted.bare = context.settings.nonfinite_bare;
  std::string_view accept = request.headers.get("Accept");
  for (auto item = http::next_item(accept); !item.empty(); item = http::next_item(accept)) {
    auto semicolon = item.find(';');
    std::string_view type = http::trim(item.substr(0, semicolon));
    std::string_view parameters = semicolon == std::string_view::npos ? std::string_view{} : item.substr(semicolon + 1);
    bool json = http::iequals(type, "application/json");
    if (json && parameters.find("nonfinite=bare") != std::string_view::npos) wanted.bare = true;
    if (json && parameters.find("nonfinite=null") != std::string_view::npos) wanted.bare = false;
    if (http::iequals(type, "application/cbor")) wanted.format = codec::Format::cbor;
    if (json || http::iequals(type, "application/cbor")) break;  // the first of the two that is named counts
  }
  return wanted;
}

http::Response respond(Context& context, session::Answer answer, Wanted wanted, bool newline) {
  bool cbor = wanted.format == codec::Format::cbor;
  newline = newline && !cbor;
  const char* type = cbor ? "application/cbor" : "application/json";
  if (!cbor) {
    if (auto text = answer.rope.single_text()) {
      std::string body(*text);
      if (newline) body += '\n';
      return http::reply(200, type, std::move(body));
    }
  }
  if (!answer.memfd && answer.rope.data_bytes() <= at_once) {
    auto encoding = std::make_unique<Encoding>(std::move(answer.rope), reader_of(nullptr), wanted);
    std::string body;
    while (!encoding->encoder.done()) {
      auto made = encoding->encoder.next(body, chunk_bytes, encoding->reader);
      if (!made) return http::problem(Error{Code::internal, "the result can't be encoded: " + made.error().message, ""});
    }
    if (newline) body += '\n';
    return http::reply(200, type, std::move(body));
  }
  auto reader = reader_of(answer.memfd);
  return respond(context, std::move(answer.rope), std::move(reader), wanted, newline);
}

http::Response respond(Context& context, codec::Rope rope, codec::Reader reader, Wanted wanted, bool newline) {
  bool cbor = wanted.format == codec::Format::cbor;
  http::Response response = http::reply(200, cbor ? "application/cbor" : "application/json", "");
  response.stream = std::make_unique<RopeSource>(context.pool, std::move(rope), std::move(reader), wanted, newline && !cbor);
  return response;
}

bool is_json(const http::Request& request) {
  std::string_view type = request.headers.get("Content-Type");
  type = http::trim(type.substr(0, type.find(';')));
  if (http::iequals(type, "application/json")) return true;
  constexpr std::string_view prefix = "application/", suffix = "+json";
  return type.size() > prefix.size() + suffix.size() && http::iequals(type.substr(0, prefix.size()), prefix) &&
         http::iequals(type.substr(type.size() - suffix.size()), suffix);
}

accounts::Identity identity_of(const http::Request& request) {
  auto* identity = std::any_cast<accounts::Identity>(&request.context);
  return identity ? *identity : accounts::anonymous_identity();
}

session::User user_of(const http::Request& request) {
  auto* identity = std::any_cast<accounts::Identity>(&request.context);
  return identity ? session::user_of(*identity) : session::User();
}

Task<Result<void>> check_body(Context& context, const std::string& body) {
  codec::JsonLimits limits;
  limits.max_depth = context.settings.json_depth;
  if (body.size() < at_once) co_return codec::check_json(body, limits);
  const std::string* text = &body;  // the caller waits, and a wait for the pool can't be cancelled
  auto work = [text, limits] { return codec::check_json(*text, limits); };
  co_return co_await async::on_pool(context.pool, std::move(work));
}

}  // namespace myelin::api
