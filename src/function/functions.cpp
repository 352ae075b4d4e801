#include "function/functions.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "codec/encode.hpp"
#include "codec/json_value.hpp"
#include "os/memfd.hpp"
#include "os/tree.hpp"
#include "run/describe.hpp"
#include "run/files.hpp"

namespace myelin::function {
namespace {

using async::milliseconds;
using async::Task;

constexpr milliseconds session_grace{2'000};  // that a session has to give its names when the call's time is over
constexpr int batch_nice = 10;
constexpr std::uint64_t most_remembered_in_public = 1 << 20;  // bytes of a result: strangers must not push others' out
constexpr std::uint64_t most_references = 56 << 20;  // bytes of files, runs and sessions that one call is given

// Whether a number in the text has more digits than the server's JSON keeps.
bool has_long_number(std::string_view text) {
  std::size_t digits = 0;
  for (char c : text) {
    digits = c >= '0' && c <= '9' ? digits + 1 : 0;
    if (digits >= 18) return true;
  }
  return false;
}

// A file of ~/work may be named from there on, or as scripts name it.
std::string within_work(std::string_view path) {
  constexpr std::string_view work = "~/work";
  return std::string(path.starts_with(work) && path.substr(work.size()).starts_with('/') ? path.substr(work.size() + 1) : path);
}

bool has_references(const Declaration& d) {
  return std::any_of(d.parameters.begin(), d.parameters.end(), [](auto& p) { return p.type.kind == Kind::file || p.type.kind == Kind::session || p.type.kind == Kind::run; });
}

// Units and dims of declared results, as a run's record has them.
json::object quantities(const json::object& results) {
  json::object out;
  for (auto& [name, result] : results) out[name] = json::object{{"unit", result.at("unit")}, {"dims", result.at("dims")}};
  return out;
}

Result<std::string> read_work(const std::string& directory, const std::string& path) {
  auto tree = os::Tree::open(directory, std::nullopt);
  if (!tree) return Error{Code::not_found, "no file " + path.substr(0, 200), ""};
  auto file = tree->read(path);
  if (!file) return file.take_error();
  auto size = os::file_size(file->get());
  if (!size) return size.take_error();
  if (*size > most_references) return Error{Code::too_large, "has more than " + std::to_string(most_references >> 20) + " MiB", ""};
  std::string bytes(*size, '\0');
  auto got = os::read_exactly_at(file->get(), bytes.data(), bytes.size(), 0);
  if (!got) return got.take_error();
  return bytes;
}

// Of those that can be read.
std::vector<std::string> file_inputs(const std::string& directory, const std::vector<std::string>& names) {
  std::vector<std::string> inputs;
  for (auto& name : names) {
    const std::string path = within_work(name);
    auto bytes = read_work(directory, path);
    if (!bytes) continue;
    run::Sha256 sha;
    sha.update(*bytes);
    inputs.push_back(run::file_input(path, sha.hex()));
  }
  return inputs;
}

// A call kept as a run.
class KeptCall : public session::Doing {
 public:
  KeptCall(Functions& functions, Asked asked) : functions_(functions), asked_(std::move(asked)) {}
  Task<Result<session::Answer>> run(std::string) override {
    auto handle = handle_;
    auto answered = co_await functions_.call(asked_, handle);
    if (!answered) co_return answered.take_error();
    co_return std::move(answered->answer);
  }
  void cancel(milliseconds grace) override { handle_->cancel(grace); }
  [[nodiscard]] std::optional<session::Progress> progress() const override { return handle_->progress(); }
  [[nodiscard]] std::string output() const override { return handle_->output(); }

 private:
  Functions& functions_;
  Asked asked_;
  std::shared_ptr<Handle> handle_ = std::make_shared<Handle>();
};

}  // namespace

Result<Terms> read_terms(const std::string& body) {
  Terms terms;
  if (body.empty()) return terms;
  json::error_code failed;
  json::parse_options options;
  options.max_depth = 64;
  auto value = json::parse(body, failed, {}, options);
  const bool quoted = failed.failed();
  if (failed) value = json::parse(with_quoted_nonfinite(body), failed, {}, options);
  if (failed || !value.is_object()) return Error{Code::bad_request, "send a JSON object: {\"parameters\": {…}}", ""};
  auto& o = value.get_object();
  for (auto& [key, member] : o)
    if (key != "parameters" && key != "keep" && key != "title" && key != "timeout_s" && key != "seed")
      return Error{Code::bad_request, "unknown member '" + std::string(key).substr(0, 100) + "'; known: parameters, keep, title, timeout_s, seed. A function's own go into parameters", ""};
  if (auto* keep = o.if_contains("keep")) {
    if (!keep->is_bool()) return Error{Code::bad_request, "keep is true or false", ""};
    terms.keep = keep->get_bool();
  }
  if (auto* title = o.if_contains("title")) {
    if (!title->is_string() || title->get_string().size() > 200) return Error{Code::bad_request, "title is a text of at most 200 bytes", ""};
    terms.title = std::string(title->get_string());
  }
  if (auto* seconds = o.if_contains("timeout_s")) {
    double s = seconds->is_number() ? seconds->to_number<double>() : 0;
    if (!(s > 0) || s > 31536000) return Error{Code::bad_request, "timeout_s is a number of seconds, above 0", ""};
    terms.timeout = milliseconds(std::max<std::int64_t>(1, static_cast<std::int64_t>(s * 1000)));
  }
  if (auto* seed = o.if_contains("seed")) {
    if (!seed->is_int64() || seed->get_int64() < 0 || seed->get_int64() > 4294967295) return Error{Code::bad_request, "seed is a whole number from 0 to 4294967295", ""};
    terms.seed = static_cast<std::uint64_t>(seed->get_int64());
  }
  if (auto* parameters = o.if_contains("parameters")) {
    if (!parameters->is_object()) return Error{Code::bad_request, "parameters is an object: names and values", ""};
    terms.given = std::move(parameters->get_object());
  }
  terms.exact = !quoted && !has_long_number(body);  // a NaN is not the text "NaN"
  return terms;
}

Functions::Functions(async::Loop& loop, async::Pool& pool, session::Manager& sessions, run::Runs& runs, session::Jobs& jobs, Options options)
    : pool_(pool), native_pool_(loop, std::max(1u, std::thread::hardware_concurrency())), batch_pool_(loop, std::max(1u, std::thread::hardware_concurrency()), 1024, batch_nice), sessions_(sessions), runs_(runs), jobs_(jobs), options_(std::move(options)), runner_(sessions, options_.runner),
      reader_(pool, sessions, runner_, options_.packages), catalog_(std::make_shared<Catalog>(loop, pool, reader_, options_.scripts ? options_.folder : std::filesystem::path())), cache_(options_.cache_bytes) {
  jobs_.add_again([this](session::User user, run::Record old) { return again(this, std::move(user), std::move(old)); });
}

Task<void> Functions::watch() {
  auto catalog = catalog_;
  for (;;) {
    if (options_.scripts) co_await Catalog::refresh(catalog);
    runner_.tidy();
    co_await async::sleep_for(milliseconds(1000));
  }
}

namespace {

Result<void> told(const Declaration& declaration, const std::vector<FieldError>& errors) {
  if (errors.empty()) return {};
  json::array fields;
  std::string text;
  for (auto& error : errors) {
    fields.push_back(json::object{{"field", error.field}, {"message", error.message}});
    if (fields.size() <= 3) text += (text.empty() ? "" : "; ") + error.field + " " + error.message;
  }
  if (fields.size() > 3) text += "; and " + std::to_string(fields.size() - 3) + " more";
  return Error{Code::invalid, declaration.name + ": " + text, json::serialize(json::object{{"errors", std::move(fields)}})};
}

}  // namespace

Result<void> Functions::check(const Asked& asked) {
  if (asked.more.empty()) return told(asked.function->declaration, function::check(asked.function->declaration, asked.given));
  json::object given = asked.given;
  for (auto& [key, value] : asked.more) given[key] = value;
  return told(asked.function->declaration, function::check(asked.function->declaration, given));
}

Result<void> Functions::check_some(const Function& function, const json::object& some) { return told(function.declaration, function::check_some(function.declaration, some)); }

// All that the result depends on; nothing for a call whose result is not to be remembered.
std::optional<std::string> Functions::key_of(const Asked& asked) const {
  auto& f = *asked.function;
  if (!f.declaration.deterministic || asked.seed || has_references(f.declaration)) return std::nullopt;
  std::string parameters;
  json::object given = asked.given;
  for (auto& [key, value] : asked.more) given[key] = value;
  auto text = asked.exact ? canonical(f.declaration, given) : std::nullopt;
  if (text) parameters = "c" + *text;
  else parameters = "r" + asked.body + json::serialize(asked.more);
  std::string versions = f.declaration.engine;
  if (auto* info = sessions_.engine_info(f.declaration.engine))
    for (auto& [part, version] : info->versions) versions += "\n" + part + " " + version;
  else if (!f.native) return std::nullopt;  // which version it will be is not known yet
  run::Sha256 sha;
  for (const std::string* part : std::initializer_list<const std::string*>{&f.hash, &f.declaration.name, &f.mechanisms, &versions, &asked.nonfinite, &asked.picture, &parameters}) {
    sha.update(std::to_string(part->size()) + ":");
    sha.update(*part);
  }
  sha.update(asked.bare ? "bare" : "whole");
  return sha.hex();
}

Task<Result<std::vector<Functions::Blob>>> Functions::references(const Asked& asked, std::shared_ptr<Handle> handle, milliseconds deadline) {
  std::vector<Blob> blobs;
  std::uint64_t sum = 0;
  for (auto& parameter : asked.function->declaration.parameters) {
    auto kind = parameter.type.kind;
    if (kind != Kind::file && kind != Kind::run && kind != Kind::session) continue;
    auto* value = asked.more.if_contains(parameter.name);
    if (!value) value = asked.given.if_contains(parameter.name);
    if (!value || value->is_null()) continue;
    Blob blob;
    blob.name = parameter.name;
    blob.kind = name_of(kind);
    Error wrong{Code::invalid, "", ""};
    // What is named is theirs; whether their token may reach it is asked as where it is read directly.
    auto may = [&asked](std::string_view action, std::string_view of, std::string_view object) {
      return !asked.user.identity || accounts::allows(*asked.user.identity, action, of, object, asked.user.id);
    };
    blob.id = kind == Kind::session ? std::string(value->get_object().at("session").get_string()) : std::string(value->get_string());
    if (kind == Kind::file ? !may("view", "file", "*") : kind == Kind::run ? !may("view", "run", blob.id) : !may("use", "session", blob.id)) {
      wrong.message = kind == Kind::file ? "you may not read files (view:file:*)" : kind == Kind::run ? "you may not read this run (view:run:" + blob.id.substr(0, 64) + ")"
                                                                             : "you may not use this session (use:session:" + blob.id.substr(0, 64) + ")";
    } else if (kind == Kind::file) {
      std::string path = within_work(blob.id), directory = sessions_.work_directory(asked.user);
      auto read = [path, directory] { return read_work(directory, path); };
      auto bytes = co_await async::on_pool(pool_, std::move(read));
      if (bytes) blob.bytes = std::move(*bytes);
      else wrong.message = bytes.error().message;
    } else {
      codec::Rope rope;
      codec::Reader reader;
      bool there = false;
      if (kind == Kind::run) {
        run::Asker asker{asked.user.id, asked.user.is_operator};
        auto stored = co_await runs_.result(std::move(asker), blob.id, codec::Nonfinite::bare);
        if (stored) {
          rope = std::move(stored->rope);
          reader = std::move(stored->reader);
          there = true;
        } else {
          wrong.message = stored.error().message;
        }
      } else {
        auto session = sessions_.find(asked.user, blob.id);
        if (!session) {
          wrong.message = "no session " + blob.id.substr(0, 64);
        } else {
          session::Call call;
          call.meta = R"({"method":"exec","envelope":"v1","content_type":"application/json","nonfinite":"bare"})";
          call.body = json::serialize(json::object{{"source", ""}, {"return", value->get_object().at("names")}});
          call.timeout = deadline;
          Result<session::Answer> answer = Error{Code::internal, "", ""};
          if (auto ticket = session->enqueue(std::move(call)); !ticket) {
            answer = ticket.take_error();
          } else {
            handle->session = *session;
            handle->ticket = *ticket;
            bool finished = co_await session::Session::finished(*ticket, deadline);
            if (!finished) session->cancel(*ticket, session_grace);
            answer = co_await session->wait(*ticket);
            handle->session.reset();
            if (!finished) co_return Error{Code::deadline, parameter.name + ": the session was busy for as long as the call may take", ""};
            if (handle->cancelled) co_return Error{Code::interrupted, "the call was cancelled before it began", ""};
          }
          if (answer) {
            auto memfd = answer->memfd;
            rope = std::move(answer->rope);
            reader = [memfd](std::uint64_t offset, std::span<char> out) -> Result<std::size_t> {
              if (!memfd || !os::read_exactly_at(memfd->get(), out.data(), out.size(), offset)) return Error{Code::worker_lost, "the result's memory file is shorter than it says", ""};
              return out.size();
            };
            there = true;
          } else {
            wrong.message = answer.error().message;
          }
        }
      }
      if (there) {
        if (rope.data_bytes() > most_references) {
          wrong.message = "has more than " + std::to_string(most_references >> 20) + " MiB";
        } else {
          auto shared = std::make_shared<codec::Rope>(std::move(rope));
          auto encode = [shared, reader] { return codec::encode_all(*shared, codec::Format::cbor, codec::Nonfinite::bare, reader); };
          auto bytes = co_await async::on_pool(pool_, std::move(encode));
          if (bytes) blob.bytes = std::move(*bytes);
          else wrong.message = bytes.error().message;
        }
      }
    }
    sum += blob.bytes.size();
    if (wrong.message.empty() && sum > most_references) wrong.message = "is too much: a call is given at most " + std::to_string(most_references >> 20) + " MiB of files, runs and sessions";
    if (!wrong.message.empty()) {
      wrong.detail = json::serialize(json::object{{"errors", json::array{json::object{{"field", parameter.name}, {"message", wrong.message}}}}});
      wrong.message = parameter.name + ": " + wrong.message;
      co_return wrong;
    }
    blobs.push_back(std::move(blob));
  }
  co_return blobs;
}

namespace {

// The parameters of a call, those of a point and the defaults with them.
json::object complete(const Asked& asked, const json::object& point) {
  json::object parameters = asked.given;
  for (auto& [key, value] : point) parameters[key] = value;
  for (auto& parameter : asked.function->declaration.parameters)
    if (parameter.default_value && !parameters.contains(parameter.name)) parameters[parameter.name] = *parameter.default_value;
  return parameters;
}

}  // namespace

Task<Result<std::vector<Result<session::Answer>>>> Functions::call_many(Asked asked, std::vector<json::object> points, std::shared_ptr<Handle> handle) {
  const bool batch = asked.batch;
  auto entered = co_await runner_.enter(asked.user.id, batch, handle);
  if (!entered) co_return entered.take_error();
  for (auto& point : points) point = complete(asked, point);
  auto of = asked.function;
  auto calls = std::make_shared<std::vector<json::object>>(std::move(points));
  const auto until = std::chrono::steady_clock::now() + (asked.timeout.count() > 0 ? asked.timeout : milliseconds(options_.deadline)) * static_cast<std::int64_t>(calls->size());
  auto work = [of, calls, handle, until]() {
    auto cancelled = [handle, until] { return handle->stop.load(std::memory_order_relaxed) || std::chrono::steady_clock::now() > until; };
    auto results = of->native->many(*calls, cancelled);
    std::vector<Result<session::Answer>> answers;
    for (auto& one : results) {
      if (one) answers.push_back(std::move(*one).finish("", ""));
      else answers.emplace_back(one.take_error());
    }
    return answers;
  };
  auto answers = co_await async::on_pool(batch ? batch_pool_ : native_pool_, std::move(work));
  runner_.leave(handle);
  co_return answers;
}

Task<Result<session::Answer>> Functions::native(Asked asked, std::shared_ptr<Handle> handle, milliseconds deadline) {
  const bool batch = asked.batch;
  auto entered = co_await runner_.enter(asked.user.id, batch, handle);
  if (!entered) co_return entered.take_error();
  auto parameters = std::make_shared<json::object>(complete(asked, asked.more));
  auto of = asked.function;
  auto until = std::chrono::steady_clock::now() + deadline;
  const bool bare = asked.bare;
  const std::string media = asked.picture;
  auto work = [of, parameters, handle, until, bare, media]() -> Result<session::Answer> {
    auto cancelled = [handle, until] { return handle->stop.load(std::memory_order_relaxed) || std::chrono::steady_clock::now() > until; };
    if (!media.empty()) {
      auto drawn = of->native->picture(*parameters, media == "image/svg+xml", cancelled);
      if (!drawn) return drawn.take_error();
      return std::move(Answering().octets(std::move(*drawn))).finish("{\"bytes\":", "}");
    }
    auto answer = of->native->call(*parameters, cancelled);
    if (!answer) return answer.take_error();
    return std::move(*answer).finish(bare ? "" : "{\"data\":", bare ? "" : ",\"stdout\":\"\"}");
  };
  auto answer = co_await async::on_pool(batch ? batch_pool_ : native_pool_, std::move(work));
  runner_.leave(handle);
  if (!answer && std::chrono::steady_clock::now() > until) co_return Error{Code::deadline, "the call ran past its deadline", ""};
  co_return answer;
}

Task<Result<std::string>> Functions::compute(std::string user, std::function<Result<std::string>()> work) {
  auto handle = std::make_shared<Handle>();
  auto entered = co_await runner_.enter(user, false, handle);
  if (!entered) co_return entered.take_error();
  auto answer = co_await async::on_pool(native_pool_, std::move(work));
  runner_.leave(handle);
  co_return answer;
}

Task<Result<Answered>> Functions::call(Asked asked, std::shared_ptr<Handle> handle) {
  auto of = asked.function;
  const bool in_public = asked.in_public;
  auto checked = check(asked);
  if (!checked) co_return checked.take_error();
  if (in_public && of->native && of->native->in_public) {
    if (auto errors = of->native->in_public(complete(asked, asked.more)); !errors.empty()) co_return told(of->declaration, errors).take_error();
  }
  auto key = key_of(asked);
  Answered answered;
  answered.cacheable = of->declaration.deterministic && !asked.seed && !has_references(of->declaration);
  if (key) {
    if (auto known = cache_.find(*key)) {
      answered.answer = std::move(*known);
      answered.hit = true;
      co_return answered;
    }
  }

  auto limits = sessions_.limits_for(of->declaration.engine, asked.user.name);
  milliseconds deadline = options_.deadline;
  if (limits.call_deadline.count() > 0) deadline = std::min(deadline, limits.call_deadline);
  if (asked.timeout.count() > 0) deadline = std::min(deadline, asked.timeout);
  if (of->declaration.limits.seconds > 0) deadline = std::min(deadline, milliseconds(std::max<std::int64_t>(1, static_cast<std::int64_t>(of->declaration.limits.seconds * 1000))));
  for (auto most : {of->declaration.limits.memory_bytes, asked.memory_bytes})
    if (most > 0) limits.memory_bytes = limits.memory_bytes ? std::min(limits.memory_bytes, most) : most;

  Result<session::Answer> answer = Error{Code::internal, "", ""};
  if (of->native) {
    if (!asked.picture.empty() && !of->native->picture) co_return Error{Code::bad_request, "this function gives no picture", ""};
    answer = co_await native(std::move(asked), handle, deadline);
  } else {
    auto where = reader_.places(of->declaration.engine, of->shown, of->mechanisms);
    json::object meta{{"method", "function"}, {"op", "call"}, {"root", where.root}, {"package", of->package}, {"callable", of->declaration.name}, {"nonfinite", asked.nonfinite}};
    if (!where.mechanisms.empty()) meta["mechanisms"] = where.mechanisms;
    if (asked.seed) meta["seed"] = *asked.seed;
    if (!asked.more.empty()) meta["more"] = asked.more;
    if (asked.bare) meta["envelope"] = "bare";
    if (!asked.picture.empty()) {
      meta["picture"] = asked.picture;
      json::array names;
      for (auto& name : of->declaration.pictures) names.push_back(json::string(name));
      meta["plots"] = std::move(names);
    }
    std::string body = std::move(asked.body);
    if (has_references(of->declaration)) {
      auto blobs = co_await references(asked, handle, deadline);
      if (!blobs) co_return blobs.take_error();
      if (!blobs->empty()) {
        json::array entries;
        std::string packed;
        auto put = [&packed](auto number) { packed.append(reinterpret_cast<const char*>(&number), sizeof number); };
        put(static_cast<std::uint32_t>(blobs->size() + 1));
        put(static_cast<std::uint64_t>(body.size()));
        for (auto& blob : *blobs) put(static_cast<std::uint64_t>(blob.bytes.size()));
        packed += body;
        for (auto& blob : *blobs) {
          packed += blob.bytes;
          entries.push_back(json::object{{"name", blob.name}, {"kind", blob.kind}, {"id", blob.id}});
        }
        meta["blobs"] = std::move(entries);
        body = std::move(packed);
      }
    }
    Work work;
    work.user = asked.user;
    work.engine = of->declaration.engine;
    work.packages = std::move(where.packages);
    work.limits = limits;
    work.batch = asked.batch;
    work.call.meta = json::serialize(meta);
    work.call.body = std::move(body);
    json::object ahead{{"method", "function"}, {"op", "prepare"}, {"root", where.root}, {"package", of->package}};
    if (!where.mechanisms.empty()) ahead["mechanisms"] = where.mechanisms;
    work.prepare = json::serialize(ahead);
    work.call.timeout = deadline;
    answer = co_await runner_.run(std::move(work), handle);
  }
  if (!answer) co_return answer.take_error();
  if (key && (!in_public || answer->rope.data_bytes() <= most_remembered_in_public)) cache_.put(std::move(*key), *answer);
  answered.answer = std::move(*answer);
  co_return answered;
}

Task<Result<run::Record>> Functions::start(Asked asked, run::NewRun what) {
  auto checked = check(asked);
  if (!checked) co_return checked.take_error();
  auto of = asked.function;
  if (asked.body.size() > run::max_history_bytes) co_return Error{Code::too_large, "a call that is kept has at most 1 MiB of parameters", ""};
  asked.nonfinite = "bare";  // a kept result must be able to answer in any form
  // With the seed the run can be repeated to the bit, also where a function draws random numbers.
  if (!asked.seed && !of->declaration.deterministic && !of->native) asked.seed = std::stoull(random_hex(4), nullptr, 16);
  // Runs and files that it is given, each once; what is not there the call itself refuses.
  std::vector<std::string> runs, files;
  for (auto& parameter : of->declaration.parameters) {
    const auto kind = parameter.type.kind;
    auto* value = asked.more.if_contains(parameter.name);
    if (!value) value = asked.given.if_contains(parameter.name);
    if (!value || !value->is_string() || (kind != Kind::run && kind != Kind::file)) continue;
    auto& named = kind == Kind::run ? runs : files;
    std::string name(value->get_string());
    if (std::find(named.begin(), named.end(), name) == named.end()) named.push_back(std::move(name));
  }
  for (auto& id : runs) {
    run::Asker asker{asked.user.id, asked.user.is_operator};
    auto known = co_await runs_.get(std::move(asker), id);
    if (known) what.inputs.push_back(std::move(id));
  }
  const bool may_read = !asked.user.identity || accounts::allows(*asked.user.identity, "view", "file", "*", asked.user.id);
  if (!files.empty() && may_read) {
    std::string directory = sessions_.work_directory(asked.user);
    auto hash = [files, directory] { return file_inputs(directory, files); };
    auto hashed = co_await async::on_pool(pool_, std::move(hash));
    what.inputs.insert(what.inputs.end(), hashed.begin(), hashed.end());
  }
  what.kind = run::Kind::function;
  what.engine = of->declaration.engine;
  what.function = of->id;
  json::object arguments = asked.given;
  for (auto& [key, value] : asked.more) arguments[key] = value;
  what.arguments = json::serialize(arguments);
  if (what.title.empty()) what.title = of->declaration.title.empty() ? of->id : of->declaration.title;
  if (asked.seed) what.seeds = json::serialize(json::object{{"python", *asked.seed}});
  json::object call{{"function", of->id}, {"version", of->version}, {"hash", of->hash}, {"shown", of->shown}, {"mechanisms", of->mechanisms},
                    {"body", asked.body}, {"timeout_ms", asked.timeout.count()}, {"more", asked.more}};
  if (asked.seed) call["seed"] = *asked.seed;
  what.options = json::serialize(json::object{{"function", std::move(call)}, {"results", quantities(of->declaration.results)}});
  auto user = asked.user;
  auto doing = std::make_shared<KeptCall>(*this, std::move(asked));
  co_return co_await jobs_.start(std::move(user), std::move(what), std::move(doing));
}

// A run is repeated with the code that it ran with, which is still there by its hash; whether its user may call the function today is asked anew.
Task<Result<std::shared_ptr<session::Doing>>> Functions::again(Functions* self, session::User user, run::Record old) {
  std::shared_ptr<session::Doing> none;
  auto options = codec::parse_object(old.options);
  if (!options) co_return none;
  auto* call = options->if_contains("function");
  if (!call || !call->is_object()) co_return none;
  auto& o = call->get_object();
  auto text = [&o](std::string_view key) {
    auto* value = o.if_contains(key);
    return value && value->is_string() ? std::string(value->get_string()) : std::string();
  };
  auto who = session::identity_of(user);
  auto catalog = self->catalog_;
  auto found = co_await Catalog::find(catalog, who, text("function"));
  if (!found) co_return found.take_error();
  auto of = *found;
  if (of->hash != text("hash")) {
    if (of->native) co_return Error{Code::conflict, "the server's function " + of->id + " has changed since: it can't be repeated", ""};
    std::error_code error;
    auto former = std::make_shared<Function>(*of);
    former->hash = former->shown = text("shown");
    former->mechanisms = text("mechanisms");
    former->version = text("version");
    // What it was declared as is not asked again: its parameters were good then.
    former->declaration.typed = false;
    former->declaration.deterministic = false;
    if (former->shown.empty() || !std::filesystem::exists(self->reader_.shown() / former->shown, error) ||
        (!former->mechanisms.empty() && !std::filesystem::exists(self->reader_.shown() / former->mechanisms, error)))
      co_return Error{Code::conflict, "the code of " + of->id + " as it was then is gone", ""};
    of = former;
  }
  Asked asked;
  asked.user = user;
  asked.function = of;
  asked.body = text("body");
  auto terms = read_terms(asked.body);
  if (!terms) co_return terms.take_error();
  asked.given = std::move(terms->given);
  asked.exact = terms->exact;
  asked.nonfinite = "bare";
  if (auto* seed = o.if_contains("seed"); seed && seed->is_number()) asked.seed = seed->to_number<std::uint64_t>();
  if (auto* more = o.if_contains("more"); more && more->is_object()) asked.more = more->get_object();
  if (auto* timeout = o.if_contains("timeout_ms"); timeout && timeout->is_int64()) asked.timeout = milliseconds(timeout->get_int64());
  std::shared_ptr<session::Doing> doing = std::make_shared<KeptCall>(*self, std::move(asked));
  co_return doing;
}

}  // namespace myelin::function
