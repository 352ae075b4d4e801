#include "run/layout.hpp"

#include <boost/json.hpp>

#include "codec/npy.hpp"

namespace myelin::run {

namespace json = boost::json;

std::uint64_t Dataset::elements() const { return bytes / codec::item_size(dtype); }

std::string datasets_text(const std::vector<Dataset>& datasets) {
  json::array list;
  for (const auto& d : datasets) {
    json::array dims;
    for (std::size_t i = 0; i < d.shape.size(); ++i) dims.emplace_back(i < d.dims.size() ? d.dims[i] : "dim_" + std::to_string(i));
    json::value unit;
    if (d.unit) unit = *d.unit;
    json::object made{{"name", d.name},
                                {"dtype", std::string(codec::name_of(d.dtype))},
                                {"shape", json::array(d.shape.begin(), d.shape.end())},
                                {"dims", std::move(dims)},
                                {"unit", std::move(unit)},
                                {"bytes", d.bytes},
                                {"sha256", d.sha256}};
    if (!d.coordinates.empty()) made["coordinates"] = json::array(d.coordinates.begin(), d.coordinates.end());
    list.push_back(std::move(made));
  }
  return json::serialize(list);
}

namespace {

json::object describe(const TextFile& file) {
  json::array holes;
  for (const auto& [at, bytes] : file.holes) holes.push_back(json::array{at, bytes});
  return {{"sha256", file.sha256}, {"bytes", file.bytes}, {"holes", std::move(holes)}};
}

TextFile read_text_file(const json::value& value) {
  TextFile file;
  file.sha256 = value.at("sha256").as_string().c_str();
  file.bytes = value.at("bytes").to_number<std::uint64_t>();
  std::uint64_t end = 0;
  for (const auto& hole : value.at("holes").as_array()) {
    const auto at = hole.at(0).to_number<std::uint64_t>(), bytes = hole.at(1).to_number<std::uint64_t>();
    if (at < end || at > file.bytes || bytes > file.bytes - at)
      throw std::out_of_range("a hole out of order");
    end = at + bytes;
    file.holes.emplace_back(at, bytes);
  }
  return file;
}

}  // namespace

std::string layout_text(const Layout& layout, const std::vector<Dataset>& datasets) {
  json::array crcs;
  for (const auto& d : datasets) crcs.push_back(std::uint64_t{d.crc32});
  json::object o{{"text", describe(layout.text)},
                 {"arrays", json::array(layout.arrays.begin(), layout.arrays.end())},
                 {"crc32", std::move(crcs)},
                 {"values_sha256", layout.values_sha256},
                 {"record_sha256", layout.record_sha256},
                 {"record_bytes", layout.record_bytes}};
  if (layout.bare) o["bare"] = describe(*layout.bare);
  return json::serialize(o);
}

Result<Kept> parse_layout(const std::string& datasets, const std::string& layout) {
  Kept kept;
  try {
    const json::value list = json::parse(datasets), root = json::parse(layout);
    const auto& crcs = root.at("crc32").as_array();
    for (const auto& item : list.as_array()) {
      Dataset d;
      d.name = item.at("name").as_string().c_str();
      const auto dtype = codec::dtype_of(item.at("dtype").as_string());
      if (!dtype || d.name.empty() || d.name.find('/') != std::string::npos)
        throw std::out_of_range("a dataset");
      d.dtype = *dtype;
      for (const auto& n : item.at("shape").as_array()) d.shape.push_back(n.to_number<std::uint64_t>());
      for (const auto& dim : item.at("dims").as_array()) d.dims.emplace_back(dim.as_string().c_str());
      if (const auto* coordinates = item.as_object().if_contains("coordinates"))
        for (const auto& name : coordinates->as_array()) d.coordinates.emplace_back(name.as_string().c_str());
      if (item.at("unit").is_string()) d.unit = item.at("unit").as_string().c_str();
      d.bytes = item.at("bytes").to_number<std::uint64_t>();
      d.sha256 = item.at("sha256").as_string().c_str();
      d.crc32 = crcs.at(kept.datasets.size()).to_number<std::uint32_t>();
      kept.datasets.push_back(std::move(d));
    }
    kept.layout.text = read_text_file(root.at("text"));
    if (const auto* bare = root.as_object().if_contains("bare")) kept.layout.bare = read_text_file(*bare);
    for (const auto& index : root.at("arrays").as_array()) {
      kept.layout.arrays.push_back(index.to_number<std::size_t>());
      if (kept.layout.arrays.back() >= kept.datasets.size())
        throw std::out_of_range("an array without its dataset");
    }
    if (kept.layout.arrays.size() != kept.layout.text.holes.size() ||
        (kept.layout.bare && kept.layout.bare->holes.size() != kept.layout.arrays.size()))
      throw std::out_of_range("not one array a hole");
    kept.layout.values_sha256 = root.at("values_sha256").as_string().c_str();
    kept.layout.record_sha256 = root.at("record_sha256").as_string().c_str();
    kept.layout.record_bytes = root.at("record_bytes").to_number<std::uint64_t>();
  } catch (const std::exception& e) {
    return Error{Code::internal,
                 std::string("the database's list of the run's files is damaged: ") + e.what(), ""};
  }
  return kept;
}

std::string UniqueNames::take(const std::string& name) {
  const auto lower = [](std::string text) {  // some file systems don't tell cases apart
    for (char& c : text)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    return text;
  };
  const std::string base = lower(name);
  std::string found = name;
  while (!next_.try_emplace(lower(found), 2).second) found = name + "_" + std::to_string(next_[base]++);
  return found;
}

namespace {

// Of what NEST's models let a multimeter record.
std::optional<std::string> recorded_unit(std::string_view key) {
  if (key == "times") return "ms";
  if (key.starts_with("V_m")) return "mV";
  if (key.starts_with("I_syn")) return "pA";
  if (key == "g_ex" || key == "g_in") return "nS";
  return std::nullopt;
}

bool along(const Dataset& d, std::size_t dimension, const Dataset& coordinate) {
  return coordinate.shape.size() == 1 && dimension < d.shape.size() && coordinate.shape[0] == d.shape[dimension];
}

}  // namespace

void describe_datasets(std::vector<Dataset>& datasets, const std::vector<Origin>& origins, const Expected& expected) {
  std::map<std::string_view, std::size_t> by_path;
  std::map<std::pair<std::uint64_t, std::string_view>, std::size_t> members;
  for (std::size_t i = 0; i < datasets.size(); ++i) {
    auto& d = datasets[i];
    by_path.try_emplace(origins[i].path, i);
    if (origins[i].object) members.try_emplace({origins[i].object, origins[i].key}, i);
    const auto known = expected.values.find(origins[i].path);
    if (known != expected.values.end()) d.unit = known->second.unit;
    const bool fits = known != expected.values.end() && known->second.dims.size() <= d.shape.size();
    for (std::size_t n = 0; n < d.shape.size(); ++n)
      d.dims.push_back(fits && n < known->second.dims.size() ? known->second.dims[n] : "dim_" + std::to_string(n));
  }
  for (std::size_t i = 0; i < datasets.size(); ++i) {
    auto& d = datasets[i];
    const std::string& path = origins[i].path;
    if (expected.values.count(path) != 0) {
      const std::string beside = path.substr(0, path.rfind('.') + 1);  // "" where it is no member of a member
      for (std::size_t n = 0; n < d.dims.size(); ++n)
        for (const std::string& place : {beside + d.dims[n], "axes." + d.dims[n]}) {
          const auto found = by_path.find(place);
          if (found == by_path.end() || found->second == i || !along(d, n, datasets[found->second])) continue;
          auto& coordinate = datasets[found->second];
          d.coordinates.push_back(coordinate.name);
          if (coordinate.dims[0].starts_with("dim_")) coordinate.dims[0] = d.dims[n];
          break;
        }
      continue;
    }
    if (!expected.nest || !origins[i].object) continue;
    const auto times = members.find({origins[i].object, "times"}), senders = members.find({origins[i].object, "senders"});
    if (times == members.end() || senders == members.end()) continue;
    const auto& t = datasets[times->second];
    if (t.dtype != codec::Dtype::f64 || !along(datasets[senders->second], 0, t)) continue;  // whole numbers are steps
    d.unit = recorded_unit(origins[i].key);
    if (times->second != i && d.shape.size() == 1 && along(d, 0, t)) d.coordinates = {t.name};
  }
}

}  // namespace myelin::run
