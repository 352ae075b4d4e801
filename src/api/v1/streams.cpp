// What happens in a session, as it happens: events by WebSocket or Server-Sent Events; its recorders; and the closed loop.

#include <algorithm>
#include <charconv>

#include "api/answer.hpp"
#include "api/v1/describe.hpp"
#include "codec/json_check.hpp"
#include "http/text.hpp"
#include "http/web_socket.hpp"
#include "live/stream.hpp"

namespace myelin::api::v1 {
namespace {

namespace json = boost::json;
using async::milliseconds;

constexpr milliseconds heartbeat{15'000};         // of silent Server-Sent Events
constexpr milliseconds silence{3'600'000};        // of a WebSocket: the server's own pings find out who is gone
constexpr std::size_t large_event = 64 * 1024;    // encoded on the pool
constexpr std::size_t loop_answer = 64ull << 20;  // bytes of one answer in a closed loop
constexpr std::uint64_t at_once = 64 * 1024;  // more is encoded on the pool

struct Wish {
  live::Filter filter;
  std::uint64_t after = 0;
  bool cbor = false;
};

template <class T>
bool read_number(std::string_view text, T& out) {
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), out);
  return failed == std::errc() && end == text.data() + text.size();
}

Result<Wish> read_wish(const http::Request& request) {
  Wish wish;
  if (auto topics = http::query_value(request.query, "topics")) {
    std::string_view list = *topics;
    for (auto name = http::next_item(list); !name.empty(); name = http::next_item(list)) {
      bool known = false;
      for (auto topic : {live::Topic::spikes, live::Topic::samples, live::Topic::output, live::Topic::progress, live::Topic::state})
        if (name == live::name_of(topic)) {
          wish.filter.topics.push_back(topic);
          known = true;
        }
      if (!known) return Error{Code::bad_request, "no topic '" + std::string(name) + "'; there are: spikes, samples, stdout, progress, state", ""};
    }
  }
  if (auto recorders = http::query_value(request.query, "recorders"); recorders && *recorders != "all") {
    std::string_view list = *recorders;
    for (auto text = http::next_item(list); !text.empty(); text = http::next_item(list)) {
      std::int64_t id = 0;
      if (!read_number(text, id)) return Error{Code::bad_request, "recorders is all, or ids with commas", ""};
      wish.filter.recorders.push_back(id);
    }
  }
  auto after = http::query_value(request.query, "after");
  if (auto* last = request.headers.find("Last-Event-ID"); last && !after) after = *last;
  if (after && !after->empty() && !read_number(*after, wish.after)) return Error{Code::bad_request, "after is the number of the last event that you have", ""};
  auto format = http::query_value(request.query, "format").value_or("json");
  if (format != "json" && format != "cbor") return Error{Code::bad_request, "format is json or cbor", ""};
  wish.cbor = format == "cbor";
  return wish;
}

// One reader of a stream; it may be anywhere between the first event and the newest.
class Reader {
 public:
  Reader(Context& context, std::shared_ptr<live::Stream> stream, session::State state, Wish wish)
      : context_(context), stream_(std::move(stream)), wish_(std::move(wish)) {
    ++stream_->readers;
    json::object now{{"topic", "state"}, {"state", session::name_of(state)}};
    present_ = live::Stream::make(live::Topic::state, json::serialize(now));
    // What this server never numbered is from before its start, or from before a first reader.
    present_->seq = wish_.after = std::min(wish_.after, stream_->newest());
  }
  ~Reader() {
    --stream_->readers;
    stream_->left = std::chrono::steady_clock::now();
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  struct Encoded {
    std::uint64_t seq = 0;
    live::Topic topic = live::Topic::note;
    std::string bytes;
  };
  /// Nothing within the patience: `over()` says whether anything can still come.
  Task<Result<std::optional<Encoded>>> next(milliseconds patience) {
    std::optional<live::Event> event;
    if (present_) {
      event = std::move(present_);
      present_.reset();
    } else {
      live::Filter filter = wish_.filter;
      auto stream = stream_;
      auto found = co_await live::Stream::next(stream, wish_.after, std::move(filter), patience);
      if (!found) co_return found.take_error();
      if (!*found) co_return std::optional<Encoded>();
      event = std::move(**found);
      wish_.after = event->seq;
    }
    const bool cbor = wish_.cbor;
    auto kept = std::make_shared<live::Event>(std::move(*event));
    auto encode = [kept, cbor]() -> Result<std::string> {
      auto rope = live::numbered(*kept);
      if (!rope) return rope.take_error();
      return codec::encode_all(*rope, cbor ? codec::Format::cbor : codec::Format::json, codec::Nonfinite::null,
                               reader_of(nullptr));
    };
    Result<std::string> bytes = std::string();
    if (kept->rope->size() < large_event) bytes = encode();
    else bytes = co_await async::on_pool(context_.pool, std::move(encode));
    if (!bytes) {  // the worker wrote it; a reader must get past it
      json::object note{{"seq", kept->seq}, {"topic", "note"}, {"text", "an event that can't be read: " + bytes.error().message}};
      std::string text = json::serialize(note);
      kept->topic = live::Topic::note;
      if (cbor) {
        auto rope = codec::parse_rope(codec::text_rope(text), false, 0);
        bytes = rope ? codec::encode_all(*rope, codec::Format::cbor, codec::Nonfinite::null, reader_of(nullptr)) : Result<std::string>(rope.take_error());
        if (!bytes) co_return bytes.take_error();
      } else {
        bytes = std::move(text);
      }
    }
    co_return Encoded{kept->seq, kept->topic, std::move(*bytes)};
  }
  [[nodiscard]] bool over() const { return stream_->over(wish_.after, wish_.filter); }

 private:
  Context& context_;
  std::shared_ptr<live::Stream> stream_;
  Wish wish_;
  std::optional<live::Event> present_;
};

class EventSource : public http::BodySource {
 public:
  explicit EventSource(std::unique_ptr<Reader> reader) : reader_(std::move(reader)) {}
  Task<Result<bool>> next(std::string& chunk) override {
    chunk.clear();
    auto event = co_await reader_->next(heartbeat);
    if (!event) co_return event.take_error();
    if (!*event) {
      chunk = ":\n\n";
      co_return !reader_->over();
    }
    chunk = "id: " + std::to_string((*event)->seq) + "\nevent: " + live::name_of((*event)->topic) + "\ndata: ";
    // A worker's JSON may be spread over lines; here each would be a field of its own.
    std::replace_if((*event)->bytes.begin(), (*event)->bytes.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
    chunk += (*event)->bytes;
    chunk += "\n\n";
    co_return true;
  }

 private:
  std::unique_ptr<Reader> reader_;
};

Task<void> pump(std::shared_ptr<Reader> reader, std::shared_ptr<http::WebSocket> socket, bool cbor) {
  while (socket->open()) {
    auto event = co_await reader->next(silence);
    if (!event) {
      socket->close(1011, event.error().message);
      co_return;
    }
    if (!*event) {
      if (reader->over()) co_return;
      continue;
    }
    http::Message message{cbor, std::move((*event)->bytes)};
    auto sent = co_await socket->send(std::move(message));
    if (!sent) co_return;
  }
}

// A page can't set headers: its token came as a subprotocol, and one of them must be answered.
void answer_subprotocol(const http::Request& request, http::Response& response) {
  if (request.headers.lists("Sec-WebSocket-Protocol", "myelin")) response.subprotocol = "myelin";
}

Task<http::Response> stream(Context& context, Asked asked) {
  auto wish = read_wish(asked.request);
  if (!wish) co_return call_problem(wish.error());
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  auto state = session::State::ended;
  std::shared_ptr<live::Stream> stream;
  if (!found.session) {
    // Who follows reads to the end, also after it.
    auto status = co_await context.sessions.status(asked.user, asked.places[0]);
    if (status) stream = context.streams.left_by(asked.places[0]);
    if (!stream) co_return std::move(found.otherwise);
  }
  const bool events = asked.request.headers.get("Accept").find("text/event-stream") != std::string_view::npos;
  if (!events && !asked.request.wants_web_socket())
    co_return http::problem(400, "bad_request", "this is a stream: ask with Accept: text/event-stream, or open a WebSocket");
  if (found.session) {
    state = found.session->state();
    stream = context.streams.of(*found.session);
  }
  if (events) {
    wish->cbor = false;
    auto response = http::reply(200, "text/event-stream", "");
    response.headers.set("Cache-Control", "no-store");
    response.stream = std::make_unique<EventSource>(std::make_unique<Reader>(context, stream, state, std::move(*wish)));
    co_return response;
  }
  http::Response response;
  answer_subprotocol(asked.request, response);
  bool cbor = wish->cbor;
  auto reader = std::make_shared<Reader>(context, stream, state, std::move(*wish));
  response.web_socket = [reader, cbor](std::shared_ptr<http::WebSocket> socket) { return pump(reader, std::move(socket), cbor); };
  co_return response;
}

Task<http::Response> recorders(Context& context, Asked asked) {
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  std::string meta = "{\"method\":\"recorders\",\"nonfinite\":\"null\",\"content_type\":\"application/json\"}";
  session::Call call{std::move(meta), "{}", true};
  auto session = *found.session;
  auto answer = co_await session.call(std::move(call));
  if (!answer) co_return call_problem(answer.error());
  auto text = answer->rope.single_text();
  std::string body = "{\"recorders\":" + std::string(text.value_or("[]")) + "}\n";
  co_return http::reply(200, "application/json", std::move(body));
}

// ---- closed loop

std::string loop_error(const Error& error) {
  auto problem = problem_of(error);
  json::object told{{"code", problem["code"]}, {"detail", problem["detail"]}};
  for (const char* key : {"class", "line"})
    if (auto* value = problem.if_contains(key)) told[key] = *value;
  return json::serialize(json::object{{"error", std::move(told)}});
}

Task<void> run_loop(Context* context, session::Session session, std::shared_ptr<http::WebSocket> socket, Wanted wanted) {
  const bool cbor = wanted.format == codec::Format::cbor;
  codec::JsonLimits limits;
  limits.max_depth = context->settings.json_depth;
  for (;;) {
    auto message = co_await socket->receive();
    if (!message || !*message) co_return;
    std::string text = std::move((*message)->data);
    http::Message answer{cbor, ""};
    auto checked = codec::check_json(text, limits);
    Result<session::Answer> result = checked ? Result<session::Answer>(session::Answer{}) : Result<session::Answer>(checked.error());
    if (result) {
      std::string meta = "{\"method\":\"step\",\"content_type\":\"application/json\"" + scripts_off(*context) + ",\"nonfinite\":\"";
      meta += wanted.nonfinite();
      meta += "\"}";
      session::Call call{std::move(meta), std::move(text), false};
      result = co_await session.call(std::move(call));
    }
    if (result && result->rope.data_bytes() > loop_answer)
      result = Error{Code::too_large, "the answer has more than 64 MiB: ask for less in one step", ""};
    if (result) {
      const auto nonfinite = wanted.bare ? codec::Nonfinite::bare : codec::Nonfinite::null;
      Result<std::string> bytes = std::string();
      if (result->rope.data_bytes() <= at_once) {
        bytes = codec::encode_all(result->rope, wanted.format, nonfinite, reader_of(result->memfd));
      } else {
        auto rope = std::make_shared<codec::Rope>(std::move(result->rope));
        auto encode = [rope, format = wanted.format, nonfinite, reader = reader_of(result->memfd)] { return codec::encode_all(*rope, format, nonfinite, reader); };
        bytes = co_await async::on_pool(context->pool, std::move(encode));
      }
      if (bytes) answer.data = std::move(*bytes);
      else result = bytes.take_error();
    }
    if (!result) {
      answer.binary = false;
      answer.data = loop_error(result.error());
    }
    const bool over = !result && result.error().code == Code::gone;
    auto sent = co_await socket->send(std::move(answer));
    if (!sent) co_return;
    if (over) {
      socket->close(4410, "the session has ended");
      co_return;
    }
  }
}

Task<http::Response> loop(Context& context, Asked asked) {
  auto wish = read_wish(asked.request);
  if (!wish) co_return call_problem(wish.error());
  auto found = co_await find_session(context, asked.user, asked.places[0]);
  if (!found.session) co_return std::move(found.otherwise);
  if (!asked.request.wants_web_socket()) co_return http::problem(400, "bad_request", "open a WebSocket here");
  http::Response response;
  answer_subprotocol(asked.request, response);
  Wanted wanted = negotiate(context, asked.request);
  wanted.format = wish->cbor ? codec::Format::cbor : codec::Format::json;
  auto* where = &context;
  auto session = *found.session;
  response.web_socket = [where, session, wanted](std::shared_ptr<http::WebSocket> socket) { return run_loop(where, session, std::move(socket), wanted); };
  co_return response;
}

}  // namespace

std::vector<Route> stream_routes() {
  return {
      {.method = "GET", .pattern = "/v1/sessions/{id}/stream", .handler = stream, .needs = "view:session:{}", .tag = "streams",
       .summary = "Spikes, samples, output, progress and state as they come: a WebSocket, or Server-Sent Events with Accept: text/event-stream",
       .query = "topics,recorders,after,format", .answer = "text/event-stream"},
      {.method = "GET", .pattern = "/v1/sessions/{id}/recorders", .handler = recorders, .needs = "view:session:{}", .tag = "streams", .summary = "What records in the session",
       .answer = R"({"recorders":[{"id":3,"kind":"spikes","model":"spike_recorder","label":"","n_events":0,"columns":[],"record_to":"memory"}]})"},
      {.method = "GET", .pattern = "/v1/sessions/{id}/loop", .handler = loop, .needs = "use:session:{}", .tag = "streams",
       .summary = "A WebSocket for closed loops: set, advance, read in one message each way", .query = "format", .status = 101},
  };
}

}  // namespace myelin::api::v1
