#include "run/compare.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "codec/json_value.hpp"
#include "codec/npy.hpp"
#include "run/describe.hpp"

namespace myelin::run {

namespace json = boost::json;
using codec::Dtype;

namespace {

constexpr std::size_t window_bytes = 256 * 1024;
constexpr std::size_t step_bytes = 4 << 20;
constexpr std::uint64_t largest_text = 4 << 20;  // of values that are compared one by one
constexpr std::size_t most_lines = 50;           // in `differs`
constexpr std::size_t longest_value = 60;

std::string shown(const json::value& value) {
  std::string text = value.is_string() ? std::string(value.get_string().c_str()) : std::string();
  if (!value.is_string()) codec::append_json(text, value);
  if (text.size() <= longest_value) return text;
  std::size_t cut = longest_value;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
  return text.substr(0, cut) + "…";
}

json::value described(const Dataset* d) {
  if (d == nullptr) return nullptr;
  return json::object{{"shape", json::array(d->shape.begin(), d->shape.end())},
                      {"dtype", std::string(codec::name_of(d->dtype))},
                      {"sha256", d->sha256}};
}

template <class T>
bool differ(const char* a, const char* b, double& distance) {
  T x, y;
  std::memcpy(&x, a, sizeof x);
  std::memcpy(&y, b, sizeof y);
  distance = 0;
  if constexpr (std::is_floating_point_v<T>) {
    if (std::memcmp(a, b, sizeof x) == 0 || (std::isnan(x) && std::isnan(y))) return false;
    distance = std::fabs(static_cast<double>(x) - static_cast<double>(y));
    return true;
  } else {
    if (x == y) return false;
    distance = x > y ? static_cast<double>(x) - static_cast<double>(y)
                     : static_cast<double>(y) - static_cast<double>(x);
    return true;
  }
}

bool differ(Dtype dtype, const char* a, const char* b, double& distance) {
  switch (dtype) {
    case Dtype::i8:
      return differ<std::int8_t>(a, b, distance);
    case Dtype::i16:
      return differ<std::int16_t>(a, b, distance);
    case Dtype::i32:
      return differ<std::int32_t>(a, b, distance);
    case Dtype::i64:
      return differ<std::int64_t>(a, b, distance);
    case Dtype::u16:
      return differ<std::uint16_t>(a, b, distance);
    case Dtype::u32:
      return differ<std::uint32_t>(a, b, distance);
    case Dtype::u64:
      return differ<std::uint64_t>(a, b, distance);
    case Dtype::f32:
      return differ<float>(a, b, distance);
    case Dtype::f64:
      return differ<double>(a, b, distance);
    default:
      return differ<std::uint8_t>(a, b, distance);
  }
}

}  // namespace

struct Comparison::Impl {
  Record a, b;
  Kept kept_a, kept_b;
  Place place_a, place_b;

  std::vector<std::pair<const Dataset*, const Dataset*>> pairs;
  std::size_t index = 0;
  bool texts_done = false;
  bool same = true;
  bool explained = false;  // something beside the results is another one
  json::array sets, differs;

  // The pair that is being read.
  struct Reading {
    CheckedFile a, b;
    std::uint64_t at = 0;
    std::optional<std::uint64_t> first;
    std::optional<double> largest;
  };
  std::optional<Reading> reading;
  std::string window_a, window_b;

  void tell(std::string line) {
    if (differs.size() < most_lines)
      differs.emplace_back(std::move(line));
    else if (differs.size() == most_lines)
      differs.emplace_back("… and more");
  }

  void pair_up() {
    std::map<std::string_view, const Dataset*> others;
    for (const auto& d : kept_b.datasets) others[d.name] = &d;
    for (const auto& d : kept_a.datasets) {
      const auto other = others.find(d.name);
      pairs.emplace_back(&d, other == others.end() ? nullptr : other->second);
      if (other != others.end()) others.erase(other);
    }
    for (const auto& d : kept_b.datasets)
      if (others.count(d.name) != 0) pairs.emplace_back(nullptr, &d);
  }

  void add(const Dataset* x, const Dataset* y, bool identical, std::optional<std::uint64_t> first,
           std::optional<double> largest) {
    same = same && identical;
    sets.push_back(json::object{
        {"name", x != nullptr ? x->name : y->name},
        {"identical", identical},
        {"a", described(x)},
        {"b", described(y)},
        {"first_difference", first ? json::value(*first) : json::value()},
        {"max_abs_difference", largest && std::isfinite(*largest) ? json::value(*largest) : json::value()}});
  }

  Result<void> datasets(std::size_t& done) {
    const auto [x, y] = pairs[index];
    if (x == nullptr || y == nullptr || x->sha256 == y->sha256 || x->dtype != y->dtype ||
        x->shape != y->shape) {
      const bool identical = x != nullptr && y != nullptr && x->sha256 == y->sha256;
      add(x, y, identical, std::nullopt, identical ? std::optional<double>(0) : std::nullopt);
      ++index;
      done += 4096;
      return {};
    }
    if (!reading) {
      reading.emplace(Reading{place_a.open(*x), place_b.open(*y), 0, std::nullopt, std::nullopt});
      char head[codec::npy_head_bytes];
      if (auto got = reading->a.read(0, head); !got) return got;
      if (auto got = reading->b.read(0, head); !got) return got;
    }
    Reading& r = *reading;
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(window_bytes, x->bytes - r.at));
    window_a.resize(size);
    window_b.resize(size);
    if (auto got = r.a.read(codec::npy_head_bytes + r.at, {window_a.data(), size}); !got) return got;
    if (auto got = r.b.read(codec::npy_head_bytes + r.at, {window_b.data(), size}); !got) return got;
    const std::size_t item = codec::item_size(x->dtype);
    if (window_a != window_b)
      for (std::size_t i = 0; i < size; i += item) {
        double distance = 0;
        if (!differ(x->dtype, window_a.data() + i, window_b.data() + i, distance)) continue;
        if (!r.first) r.first = (r.at + i) / item;
        if (!std::isnan(distance) && (!r.largest || distance > *r.largest)) r.largest = distance;
      }
    r.at += size;
    done += 2 * size;
    if (r.at < x->bytes) return {};
    add(x, y, !r.first, r.first, r.first ? r.largest : std::optional<double>(0));
    reading.reset();
    ++index;
    return {};
  }

  // Object members side by side; `prefix` names them.
  bool walk(const std::string& prefix, const json::value& x, const json::value& y, int depth) {
    if (x == y) return true;
    if (depth > 0 && x.is_object() && y.is_object()) {
      bool equal = true;
      for (const auto& item : x.get_object()) {
        const std::string path = (prefix.empty() ? "" : prefix + ".") + std::string(item.key());
        if (const auto* other = y.get_object().if_contains(item.key())) {
          equal = walk(path, item.value(), *other, depth - 1) && equal;
        } else {
          tell(path + ": " + shown(item.value()) + " → (none)");
          equal = false;
        }
      }
      for (const auto& item : y.get_object())
        if (!x.get_object().contains(item.key())) {
          tell((prefix.empty() ? "" : prefix + ".") + std::string(item.key()) + ": (none) → " +
               shown(item.value()));
          equal = false;
        }
      return equal;
    }
    if (depth > 0 && x.is_array() && y.is_array() && x.get_array().size() == y.get_array().size() &&
        x.get_array().size() <= 1000) {
      bool equal = true;
      for (std::size_t i = 0; i < x.get_array().size(); ++i)
        equal =
            walk(prefix + "." + std::to_string(i), x.get_array()[i], y.get_array()[i], depth - 1) && equal;
      return equal;
    }
    tell(prefix + ": " + shown(x) + " → " + shown(y));
    return false;
  }

  void record(const char* name, const json::value& x, const json::value& y) { walk(name, x, y, 3); }

  static Result<json::value> values_of(const Kept& kept, const Place& place) {
    CheckedFile stored = place.open("result.json", kept.layout.text.bytes, kept.layout.text.sha256);
    auto text = stored.all();
    if (!text) return text.take_error();
    json::value value = parse_member(*text);
    if (value.is_object())
      if (auto* data = value.get_object().if_contains("data")) return json::value(*data);
    return value;
  }

  Result<void> texts() {
    texts_done = true;
    record("engine", json::value(a.engine), json::value(b.engine));
    record("versions", parse_member(a.versions), parse_member(b.versions));
    record("machine", parse_member(a.machine), parse_member(b.machine));
    record("seeds", parse_member(a.seeds), parse_member(b.seeds));
    record("options", parse_member(a.options), parse_member(b.options));
    if (a.source != b.source) tell("source: another script");
    if (a.function != b.function)
      tell("function: " + a.function.value_or("(none)") + " → " + b.function.value_or("(none)"));
    record("arguments", a.arguments ? parse_member(*a.arguments) : json::value(),
           b.arguments ? parse_member(*b.arguments) : json::value());
    if (a.history != b.history || a.history_complete != b.history_complete)
      tell("history: other calls came before in the session");
    explained = !differs.empty();
    if (a.stdout_text != b.stdout_text) tell("stdout: another text");
    if (kept_a.layout.values_sha256 == kept_b.layout.values_sha256) return {};
    if (std::max(kept_a.layout.text.bytes, kept_b.layout.text.bytes) > largest_text) {
      tell("data: other values (the text is too large to say which)");
      same = false;
      return {};
    }
    auto x = values_of(kept_a, place_a);
    if (!x) return x.take_error();
    auto y = values_of(kept_b, place_b);
    if (!y) return y.take_error();
    if (!walk("data", *x, *y, 32)) {
      same = false;
    } else if (kept_a.layout.bare || kept_b.layout.bare) {  // both are null in result.json
      tell("data: NaN or an infinity is another one");
      same = false;
    }
    return {};
  }
};

Comparison::Comparison(Record a, Kept kept_a, Place place_a, Record b, Kept kept_b, Place place_b)
    : impl_(std::make_unique<Impl>()) {
  impl_->a = std::move(a);
  impl_->b = std::move(b);
  impl_->kept_a = std::move(kept_a);
  impl_->kept_b = std::move(kept_b);
  impl_->place_a = std::move(place_a);
  impl_->place_b = std::move(place_b);
  impl_->pair_up();
}
Comparison::~Comparison() = default;

Result<bool> Comparison::step() {
  if (!impl_->texts_done)
    if (auto done = impl_->texts(); !done) return done.take_error();
  for (std::size_t done = 0; impl_->index < impl_->pairs.size();) {
    if (done >= step_bytes) return true;
    if (auto result = impl_->datasets(done); !result) return result.take_error();
  }
  return false;
}

json::object Comparison::take() {
  if (!impl_->same && !impl_->explained)
    impl_->differs.insert(impl_->differs.begin(), "values differ; random numbers drawn without a seed, time and files are the usual reasons");
  return {{"identical", impl_->same},
          {"datasets", std::move(impl_->sets)},
          {"differs", std::move(impl_->differs)}};
}

}  // namespace myelin::run
