#include "http/web_socket.hpp"

#include <algorithm>

#include "http/web_socket_state.hpp"

namespace myelin::http {
namespace {

constexpr std::size_t most_waiting_bytes = 64 * 1024;  // then the peer is not read any further
constexpr std::size_t most_waiting = 256;
constexpr std::size_t copied_body = 4 * 1024;  // a payload up to this joins the frames before it
constexpr std::size_t joined_frames = 16 * 1024;

Error closed_error() { return {Code::gone, "the WebSocket is closed", {}}; }

}  // namespace

using State = WebSocket::State;

Task<Result<std::optional<Message>>> WebSocket::receive() { return State::receive(state_); }
Task<Result<void>> WebSocket::send(Message message) { return State::send(state_, std::move(message)); }
bool WebSocket::try_send(Message message) { return state_->try_send(message); }
void WebSocket::close(std::uint16_t code, std::string reason) { state_->close(code, reason); }
bool WebSocket::open() const { return state_->open(); }
const Headers& WebSocket::headers() const { return state_->headers; }

// ---- the handler's side

Task<Result<std::optional<Message>>> State::receive(std::shared_ptr<State> self) {
  while (self->waiting.empty() && self->phase == Phase::open) {
    const bool woken = co_await self->arrived.wait();
    if (!woken) break;  // cancelled
  }
  std::optional<Message> out;
  if (!self->waiting.empty()) {
    out.emplace(std::move(self->waiting.front()));
    self->waiting.pop_front();
    self->waiting_bytes -= out->data.size();
    if (self->waiting.empty() && self->phase == Phase::open) self->arrived.reset();
    if (self->carrier != nullptr) self->carrier->input_was_taken();
  }
  co_return out;
}

bool State::try_send(Message& message) {
  if (phase != Phase::open || (queued > 0 && queued + message.data.size() > most_queued)) return false;
  queue(message.binary ? Opcode::binary : Opcode::text, std::move(message.data));
  tell_carrier();
  return true;
}

Task<Result<void>> State::send(std::shared_ptr<State> self, Message message) {
  while (!self->try_send(message)) {
    if (self->phase != Phase::open) co_return closed_error();
    const bool woken = co_await self->room.wait();
    if (!woken) co_return closed_error();  // cancelled
  }
  co_return Result<void>();
}

void State::close(std::uint16_t code, std::string_view reason) {
  drop_waiting();
  if (phase != Phase::open) return;
  phase = Phase::closing;
  say_goodbye(close_payload(code, reason));
}

// ---- the connection's side

void State::take(char* bytes, std::size_t count) { reader.feed(bytes, count, *this); }

bool State::wants_input() const {
  return waiting_bytes < most_waiting_bytes && waiting.size() < most_waiting;
}

void State::on_message(bool binary, std::string data) {
  if (phase != Phase::open) return;  // between our Close and the peer's: nobody receives it
  waiting_bytes += data.size();
  waiting.push_back({binary, std::move(data)});
  arrived.set();
}

void State::on_ping(std::string_view payload) {
  if (close_queued) return;
  pong = payload;
  tell_carrier();
}

void State::on_close(std::optional<std::uint16_t> code, std::string_view) {
  close_received = true;
  const bool answers = phase == Phase::open;
  phase = Phase::closing;
  if (answers)
    say_goodbye(code ? close_payload(*code, {}) : std::string());
  else
    tell_carrier();
}

void State::fail(std::uint16_t code, std::string_view why) {
  if (failed || phase == Phase::closed) return;
  failed = true;
  phase = Phase::closing;
  reader.stop();
  if (close_queued) return tell_carrier();
  outgoing.erase(next_whole(), outgoing.end());
  queued = 0;
  for (const auto& frames : outgoing) queued += frames.bytes.size() + frames.body.size() - frames.sent;
  say_goodbye(close_payload(code, why));
}

void State::lost() {
  carrier = nullptr;
  phase = Phase::closed;
  reader.stop();
  outgoing.clear();
  queued = 0;
  arrived.set();
  room.set();
}

void State::ping() {
  if (close_queued) return;
  ping_due = true;
  tell_carrier();
}

void State::drop_waiting() {
  waiting.clear();
  waiting_bytes = 0;
}

/// Ends both directions for the handler; the frame goes behind what is queued.
void State::say_goodbye(std::string payload) {
  pong.reset();
  ping_due = false;
  close_queued = true;
  queue(Opcode::close, std::move(payload));
  arrived.set();
  room.set();
  tell_carrier();
}

// ---- the outgoing queue

void State::queue(Opcode opcode, std::string body) {
  queued += body.size();
  const bool small = body.size() <= copied_body;
  if (outgoing.empty() || !small || !outgoing.back().body.empty() ||
      outgoing.back().bytes.size() + body.size() > joined_frames)
    outgoing.emplace_back();
  auto& frames = outgoing.back();
  const auto before = frames.bytes.size();
  append_frame_head(frames.bytes, opcode, body.size());
  queued += frames.bytes.size() - before;
  if (small)
    frames.bytes += body;
  else
    frames.body = std::move(body);
}

/// The first that has not begun to leave.
std::list<State::Frames>::iterator State::next_whole() {
  return outgoing.empty() || outgoing.front().sent == 0 ? outgoing.begin() : std::next(outgoing.begin());
}

State::Buffers State::output() {
  // Pings and pongs go between two frames, ahead of what waits.
  if (pong || ping_due) {
    Frames control;
    if (pong) {
      append_frame_head(control.bytes, Opcode::pong, pong->size());
      control.bytes += *pong;
    }
    if (ping_due) append_frame_head(control.bytes, Opcode::ping, 0);
    pong.reset();
    ping_due = false;
    queued += control.bytes.size();
    outgoing.insert(next_whole(), std::move(control));
  }
  Buffers out;
  for (const auto& frames : outgoing) {
    if (out.size() + 2 > out.capacity()) break;
    const auto& [bytes, body, done] = frames;
    if (done < bytes.size()) out.emplace_back(bytes.data() + done, bytes.size() - done);
    const auto of_body = done - std::min(done, bytes.size());
    if (of_body < body.size()) out.emplace_back(body.data() + of_body, body.size() - of_body);
  }
  return out;
}

void State::sent(std::size_t count) {
  queued -= count;
  while (count > 0) {
    auto& front = outgoing.front();
    const auto take = std::min(count, front.bytes.size() + front.body.size() - front.sent);
    front.sent += take;
    count -= take;
    if (front.sent == front.bytes.size() + front.body.size()) outgoing.pop_front();
  }
  if (!close_queued) room.pulse();
}

}  // namespace myelin::http
