#include "function/runner.hpp"

#include <algorithm>

namespace myelin::function {

using async::milliseconds;
using async::Task;

constexpr milliseconds prepare_deadline{60'000};
constexpr std::chrono::seconds spare_kept{60};

void Handle::cancel(milliseconds grace) {
  cancelled = true;
  stop = true;
  changed.pulse();
  if (session && ticket.call) session->cancel(ticket, grace);
}

std::optional<session::Progress> Handle::progress() const {
  if (!session || !ticket.call || !session->is_running(ticket)) return std::nullopt;
  return session->status().progress;
}

std::string Handle::output() const { return session ? session->output_tail(16 * 1024) : ""; }

// The one who waits longest among those whose user has the fewest running; points of sweeps only when nobody else waits.
void Runner::admit() {
  while (running_.size() < options_.calls && !waiting_.empty()) {
    const auto batches = std::count_if(running_.begin(), running_.end(), [](auto& one) { return one.batch; });
    auto best = waiting_.end();
    std::ptrdiff_t fewest = 0;
    for (auto one = waiting_.begin(); one != waiting_.end(); ++one) {
      if (one->batch && static_cast<std::size_t>(batches) >= options_.batch) continue;
      const auto mine = std::count_if(running_.begin(), running_.end(), [&](auto& other) { return other.user == one->user; });
      bool better = best == waiting_.end() || (best->batch && !one->batch) || (best->batch == one->batch && mine < fewest);
      if (!better) continue;
      best = one;
      fewest = mine;
    }
    if (best == waiting_.end()) return;
    auto handle = best->handle;
    running_.push_back(std::move(*best));
    waiting_.erase(best);
    handle->admitted = true;
    handle->changed.pulse();
  }
}

Task<Result<void>> Runner::enter(std::string user, bool batch, std::shared_ptr<Handle> handle) {
  const Error cancelled{Code::interrupted, "the call was cancelled before it began", ""};
  if (handle->cancelled) co_return cancelled;
  auto interactive = std::count_if(waiting_.begin(), waiting_.end(), [](auto& one) { return !one.batch; });
  if (!batch && static_cast<std::size_t>(interactive) >= options_.waiting)
    co_return Error{Code::too_many, std::to_string(interactive) + " calls of functions wait already: try again later", ""};
  handle->admitted = false;
  waiting_.push_back({user, batch, handle});
  admit();
  while (!handle->admitted && !handle->cancelled) co_await handle->changed.wait(milliseconds(60'000));
  if (!handle->cancelled) co_return Result<void>{};
  if (handle->admitted) leave(handle);
  else waiting_.erase(std::find_if(waiting_.begin(), waiting_.end(), [&](auto& one) { return one.handle == handle; }));
  co_return cancelled;
}

void Runner::leave(const std::shared_ptr<Handle>& handle) {
  running_.erase(std::find_if(running_.begin(), running_.end(), [&](auto& one) { return one.handle == handle; }));
  admit();
}

void Runner::end_all_of(const std::string& user) {
  std::vector<std::shared_ptr<Handle>> handles;  // a cancelled one leaves its list
  for (auto& one : running_)
    if (one.user == user) handles.push_back(one.handle);
  for (auto& one : waiting_)
    if (one.user == user) handles.push_back(one.handle);
  for (auto& handle : handles) handle->cancel(milliseconds(0));
}

std::string Runner::key_of(const Work& work) {
  std::string key = work.user.id + '\0' + work.engine + '\0' + work.prepare + '\0' + std::to_string(work.limits.memory_bytes) + ' ' + std::to_string(work.batch);
  for (auto& [name, target] : work.packages) key += '\0' + name;
  return key;
}

Result<session::Session> Runner::begin(const Work& work) {
  session::Bare bare;
  bare.packages = work.packages;
  bare.limits = work.limits;
  bare.limits.idle = milliseconds(0);
  if (work.batch) {
    bare.nice = 10;
    bare.limits.cpu_weight = std::max<std::uint64_t>(1, bare.limits.cpu_weight / 10);
  }
  auto made = sessions_.create_bare(work.user, work.engine, std::move(bare));
  if (made && !work.prepare.empty()) {
    session::Call call;
    call.meta = work.prepare;
    call.timeout = prepare_deadline;
    (void)made->enqueue(std::move(call));  // what is wrong with it, the call itself will say
  }
  return made;
}

void Runner::keep_spare(const Work& work) {
  if (options_.spares == 0 || work.prepare.empty()) return;
  std::string key = key_of(work);
  if (std::any_of(spares_.begin(), spares_.end(), [&](auto& spare) { return spare.key == key && spare.session.state() != session::State::ended; })) return;
  auto made = begin(work);
  if (!made) return;
  spares_.push_back({std::move(key), *made, std::chrono::steady_clock::now()});
  while (spares_.size() > options_.spares) {
    spares_.front().session.end("deleted", "it was a spare");
    spares_.pop_front();
  }
}

void Runner::tidy() {
  auto now = std::chrono::steady_clock::now();
  while (!spares_.empty() && now - spares_.front().made > spare_kept) {
    spares_.front().session.end("deleted", "it was a spare");
    spares_.pop_front();
  }
}

Task<Result<session::Answer>> Runner::run(Work work, std::shared_ptr<Handle> handle) {
  const bool batch = work.batch;
  auto entered = co_await enter(work.user.id, batch, handle);
  if (!entered) co_return entered.take_error();
  std::optional<session::Session> taken;
  std::string key = key_of(work);
  auto spare = std::find_if(spares_.begin(), spares_.end(), [&](auto& one) { return one.key == key; });
  if (spare != spares_.end()) {
    if (spare->session.state() != session::State::ended) taken = spare->session;
    spares_.erase(spare);
  }
  if (!taken) {
    auto made = begin(work);
    if (!made) {
      leave(handle);
      co_return made.take_error();
    }
    taken = *made;
  }
  auto session = *taken;
  auto call = std::move(work.call);
  auto ticket = session.enqueue(std::move(call));
  if (batch) keep_spare(work);  // for the next point, while this one computes
  Result<session::Answer> answer = Error{Code::internal, "", ""};
  if (!ticket) {
    answer = ticket.take_error();
  } else {
    handle->session = session;
    handle->ticket = *ticket;
    answer = co_await session.wait(*ticket);
  }
  if (!answer && session.cause() && (answer.error().code == Code::gone || answer.error().code == Code::worker_lost)) {
    const auto& cause = *session.cause();
    Error error = answer.take_error();
    error.code = cause.code == "deadline" ? Code::deadline : handle->cancelled ? Code::interrupted : Code::call_failed;
    error.detail.clear();
    answer = std::move(error);
  }
  session.end("deleted", "its call is over");
  if (answer) keep_spare(work);
  leave(handle);
  co_return answer;
}

}  // namespace myelin::function
