#pragma once
// What the server's connections share.

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <ctime>
#include <list>
#include <unordered_map>
#include <vector>

#include "http/listener.hpp"
#include "http/server.hpp"

namespace myelin::http {

class Connection;
using Clock = std::chrono::steady_clock;

/// The tasks of a connection that is closed.
struct Orphans {
  std::shared_ptr<async::TaskGroup> tasks;
  bool farewell = false;  // a WebSocket's function, which has until `cancel_at`
  Clock::time_point cancel_at = Clock::time_point::max();
};

struct Server::Impl : std::enable_shared_from_this<Server::Impl> {
  Impl(async::Loop& l, Limits li, Handler& h)
      : loop(l), limits(li), handler(h), accepts(l), relays(l), timer(l.context()) {}

  using Connections = std::list<std::shared_ptr<Connection>>;
  using Timer = boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>,
                                                  boost::asio::io_context::executor_type>;

  async::Loop& loop;
  const Limits limits;
  Handler& handler;
  Metrics metrics;
  std::vector<std::shared_ptr<Listener>> listeners;
  async::TaskGroup accepts, relays;
  Timer timer;
  Connections connections, web_sockets;  // each connection is in one of them
  std::vector<Orphans> orphans;
  std::unordered_map<std::string, std::size_t> per_address;
  std::string own_fields;  // "Date: …\r\n", renewed by the sweep
  std::time_t own_fields_of = 0;
  std::vector<char> scratch;  // what a WebSocket reads into: it is looked at before the next one reads
  unsigned sweeps = 0;
  std::size_t by_tls = 0;  // TLS connections, those in their handshake too
  async::Event drained;  // set while no connection is open
  bool serving = false, stopping = false, closed = false;

  [[nodiscard]] Result<Address> add(Result<std::shared_ptr<Listener>> listener);
  void serve();
  void admit(os::UniqueFd fd, std::string address, int family, unsigned tag, bool secure = false);
  void admit_by_tls(const std::shared_ptr<Tls>& tls, os::UniqueFd fd, std::string address, unsigned tag);
  void close_listeners();
  void close_all();
  void renew_fields();
  void sweep_later();
  void sweep();
  [[nodiscard]] bool has_orphans(bool farewell_only) const;
  static Task<void> rest(std::shared_ptr<Impl> self, bool farewell_only, Clock::time_point until);
  static Task<void> stop(std::shared_ptr<Impl> self, milliseconds grace);
};

}  // namespace myelin::http
