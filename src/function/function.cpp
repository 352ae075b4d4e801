#include "function/function.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

namespace myelin::function {
namespace {

template <class T>
void put(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);  // little-endian, as every host that this runs on
  out.append(bytes, sizeof value);
}

}  // namespace

std::string name_of(Visibility visibility, const std::vector<std::string>& groups) {
  switch (visibility) {
    case Visibility::owner: return "me";
    case Visibility::all: return "all";
    case Visibility::everyone: return "public";
    case Visibility::groups: break;
  }
  std::string text;
  for (auto& group : groups) text += (text.empty() ? "group:" : ",") + group;
  return text;
}

Answering& Answering::text(std::string_view json) {
  if (parts_.empty() || !parts_.back().shape.empty()) parts_.emplace_back();
  parts_.back().data += json;
  return *this;
}

Answering& Answering::number(double number) {
  if (std::isnan(number)) return text("NaN");
  if (std::isinf(number)) return text(number > 0 ? "Infinity" : "-Infinity");
  char digits[32];
  auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  return text({digits, static_cast<std::size_t>(end - digits)});
}

Answering& Answering::array(const std::vector<double>& values) { return array(values, {values.size()}); }

Answering& Answering::array(const std::vector<double>& values, const std::vector<std::uint64_t>& shape) {
  Part part;
  part.shape = shape;
  part.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
  parts_.push_back(std::move(part));
  return *this;
}

Answering& Answering::octets(std::string bytes) {
  Part part;
  part.shape = {bytes.size()};
  part.data = std::move(bytes);
  part.octets = true;
  parts_.push_back(std::move(part));
  return *this;
}

Result<session::Answer> Answering::finish(std::string_view before, std::string_view after) && {
  if (parts_.empty()) text("null");
  if (parts_.front().shape.empty()) parts_.front().data.insert(0, before);
  else if (!before.empty()) parts_.insert(parts_.begin(), Part{std::string(before), {}, false});
  text(after);
  std::string body, payload;
  put<std::uint32_t>(body, static_cast<std::uint32_t>(parts_.size()));
  for (auto& part : parts_) {
    const bool is_array = !part.shape.empty();
    body += static_cast<char>(is_array ? codec::PieceKind::array : codec::PieceKind::text);
    body += static_cast<char>(!is_array ? codec::Dtype::none : part.octets ? codec::Dtype::u8 : codec::Dtype::f64);
    body += static_cast<char>(part.shape.size());
    body += '\0';
    put<std::uint32_t>(body, 0);
    put<std::uint64_t>(body, part.data.size());
    put<std::uint64_t>(body, payload.size());
    for (auto length : part.shape) put<std::uint64_t>(body, length);
    payload += part.data;
    part.data.clear();
  }
  auto rope = codec::parse_rope(body + payload, false, 0);
  if (!rope) return rope.take_error();
  session::Answer answer;
  answer.rope = std::move(*rope);
  return answer;
}

bool may_call(const accounts::Identity& who, const Function& function) {
  if (!accounts::within_scopes(who, "use", "function", function.id)) return false;
  if (function.visibility == Visibility::everyone) return true;
  if (who.user_id.empty() || who.role == accounts::Role::anonymous) return false;
  if (accounts::allows(who, "use", "function", function.id, function.owner)) return true;
  if (function.visibility == Visibility::all) return who.role != accounts::Role::guest;
  return function.visibility == Visibility::groups && who.groups &&
         std::any_of(who.groups->begin(), who.groups->end(), [&](const auto& name) { return std::count(function.groups.begin(), function.groups.end(), name) > 0; });
}

bool may_edit(const accounts::Identity& who, const std::string& owner) {
  return !who.user_id.empty() && !owner.empty() && accounts::allows(who, "edit", "function", "*", owner);
}

}  // namespace myelin::function
