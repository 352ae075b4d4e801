#include "http/server.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/log.hpp"
#include "http/connection.hpp"
#include "http/server_impl.hpp"
#include "http/text.hpp"

namespace myelin::http {

using Impl = Server::Impl;
using boost::system::error_code;

namespace {
constexpr std::size_t refused_connections = 128;  // may linger beyond Limits::connections to read their 503
constexpr unsigned web_socket_sweep = 4;          // thousands of them, with deadlines of many seconds
constexpr milliseconds cancelled_tasks{1000};     // to end
constexpr std::size_t scratch_bytes = 64 * 1024;
}  // namespace

bool Handler::handle_now(Request&, Response&) { return false; }

void Impl::renew_fields() {
  const auto now = std::time(nullptr);
  if (now == own_fields_of) return;
  own_fields_of = now;
  // No Server field: nobody needs it, and the usual Python clients take 4 us for each field of an answer.
  own_fields = "Date: " + http_date(now) + "\r\n";
}

void Impl::sweep_later() {
  timer.expires_after(limits.sweep);
  timer.async_wait([weak = weak_from_this()](const error_code& ec) {
    const auto self = weak.lock();
    if (ec || !self || self->closed) return;
    self->sweep();
    self->sweep_later();
  });
}

void Impl::sweep() {
  renew_fields();
  const auto now = Clock::now();
  const auto check = [now](Connections& all) {
    for (auto at = all.begin(); at != all.end();) {
      const auto connection = *at++;  // which may leave the list
      connection->check_deadline(now);
    }
  };
  check(connections);
  if (++sweeps % web_socket_sweep == 0) check(web_sockets);
  std::erase_if(orphans, [](const Orphans& one) { return one.tasks->size() == 0; });
  for (auto& one : orphans) {
    if (now < one.cancel_at) continue;
    one.cancel_at = Clock::time_point::max();
    one.tasks->cancel();
  }
}

namespace {

struct Counted {
  explicit Counted(std::shared_ptr<Impl> server) : impl(std::move(server)) { ++impl->by_tls; }
  ~Counted() { --impl->by_tls; }
  Counted(const Counted&) = delete;
  std::shared_ptr<Impl> impl;
};

Task<void> counted(std::shared_ptr<Counted> one, Task<void> task) {
  co_await std::move(task);
  (void)one;
}

}  // namespace

void Impl::admit_by_tls(const std::shared_ptr<Tls>& tls, os::UniqueFd fd, std::string address, unsigned tag) {
  if (by_tls >= limits.connections + limits.web_sockets) {  // nothing can be said before the handshake
    ++metrics.refused;
    return;
  }
  Tls::Ready ready = [weak = weak_from_this(), address = std::move(address), tag](os::UniqueFd plain) {
    const auto self = weak.lock();
    if (self && !self->closed && !self->stopping) self->admit(std::move(plain), address, AF_UNIX, tag, true);
  };
  auto task = Tls::serve(tls, &loop, std::move(fd), 2 * limits.write_timeout, std::move(ready));
  relays.spawn(counted(std::make_shared<Counted>(shared_from_this()), std::move(task)), "TLS");
}

void Impl::admit(os::UniqueFd fd, std::string address, int family, unsigned tag, bool secure) {
  ++metrics.accepted;
  const bool full = connections.size() >= limits.connections;
  if (full && connections.size() >= limits.connections + refused_connections) {
    ++metrics.refused;
    return;
  }
  if (family != AF_UNIX) {
    const int yes = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  }
  auto& from_here = per_address[address];
  ++from_here;
  const bool greedy =
      address != "unix" && limits.connections_per_address && from_here > limits.connections_per_address;
  auto connection =
      std::make_shared<Connection>(shared_from_this(), std::move(fd), family, std::move(address), tag, secure);
  connections.push_back(connection);
  connection->at = std::prev(connections.end());
  ++metrics.open;
  drained.reset();
  if (full)
    connection->turn_away(503, "too many connections");
  else if (greedy)
    connection->turn_away(429, "too many connections from this address");
  else
    connection->start();
}

void Impl::close_listeners() {
  for (const auto& listener : listeners) listener->close();
  listeners.clear();
}

void Impl::close_all() {
  stopping = closed = true;
  close_listeners();
  timer.cancel();
  for (auto* all : {&connections, &web_sockets}) {
    while (!all->empty()) {
      const auto connection = all->front();
      connection->give_up();
    }
  }
  for (const auto& one : orphans) one.tasks->cancel();
  accepts.cancel();
  relays.cancel();
}

bool Impl::has_orphans(bool farewell_only) const {
  for (const auto& one : orphans)
    if (one.tasks->size() > 0 && (one.farewell || !farewell_only)) return true;
  return false;
}

/// Waits for the tasks of closed connections.
Task<void> Impl::rest(std::shared_ptr<Impl> self, bool farewell_only, Clock::time_point until) {
  while (self->has_orphans(farewell_only) && Clock::now() < until) co_await async::sleep_for(milliseconds(5));
}

Task<void> Impl::stop(std::shared_ptr<Impl> self, milliseconds grace) {
  const auto end = Clock::now() + grace;
  self->stopping = true;
  self->close_listeners();
  for (auto at = self->connections.begin(); at != self->connections.end();) {
    const auto connection = *at++;
    if (connection->is_quiet()) connection->close();
  }
  for (auto at = self->web_sockets.begin(); at != self->web_sockets.end();) {
    const auto connection = *at++;
    connection->say_goodbye();
  }
  const bool drained = co_await self->drained.wait(grace);
  if (!drained)
    log::warning("stopping: " + std::to_string(self->connections.size() + self->web_sockets.size()) +
                 " connections cut off");
  co_await rest(self, true, end);
  (void)co_await self->relays.join(cancelled_tasks);  // what was answered goes out
  self->close_all();
  co_await rest(self, false, Clock::now() + cancelled_tasks);
  if (self->has_orphans(false)) log::error("stopping: requests did not end when cancelled");
  (void)co_await self->accepts.join(cancelled_tasks);
}

Result<Address> Impl::add(Result<std::shared_ptr<Listener>> listener) {
  if (!listener) return listener.take_error();
  listeners.push_back(*listener);
  if (serving) serve();
  return (*listener)->address();
}

void Impl::serve() {
  if (!serving) sweep_later();
  serving = true;
  for (const auto& listener : listeners) {
    if (std::exchange(listener->accepting, true)) continue;
    Listener::Admit admit_one = [self = shared_from_this(), tag = listener->tag, tls = listener->tls](
                                    os::UniqueFd fd, std::string address, int family) {
      if (tls) self->admit_by_tls(tls, std::move(fd), std::move(address), tag);
      else self->admit(std::move(fd), std::move(address), family, tag);
    };
    accepts.spawn(Listener::accept(listener, std::move(admit_one)), "accept");
  }
}

Server::Server(async::Loop& loop, Limits limits, Handler& handler)
    : impl_(std::make_shared<Impl>(loop, limits, handler)) {
  impl_->scratch.resize(scratch_bytes);
  impl_->drained.set();
  impl_->renew_fields();
}

Server::~Server() { impl_->close_all(); }

Result<Address> Server::listen(const std::string& host, std::uint16_t port, unsigned tag, std::shared_ptr<Tls> tls) {
  auto listener = Listener::tcp(impl_->loop, host, port);
  if (listener) {
    (*listener)->tag = tag;
    (*listener)->tls = std::move(tls);
  }
  return impl_->add(std::move(listener));
}
Result<Address> Server::listen_unix(const std::string& path, unsigned mode) {
  return impl_->add(Listener::unix_socket(impl_->loop, path, mode));
}
void Server::serve() { impl_->serve(); }
Task<void> Server::stop(milliseconds grace) { return Impl::stop(impl_, grace); }
void Server::cut(const std::function<bool(std::string_view holder)>& fits) {
  for (auto* list : {&impl_->connections, &impl_->web_sockets})
    for (auto& one : std::vector<std::shared_ptr<Connection>>(list->begin(), list->end())) one->cut(fits);
}
bool Server::stopping() const { return impl_->stopping; }
const Metrics& Server::metrics() const { return impl_->metrics; }

}  // namespace myelin::http
