#include "run/exports.hpp"

#include <boost/json.hpp>

#include "codec/npy.hpp"
#include "run/describe.hpp"

namespace myelin::run {

namespace json = boost::json;

std::optional<DatasetFormat> dataset_format_of(std::string_view name) {
  if (name == "json") return DatasetFormat::json;
  if (name == "csv") return DatasetFormat::csv;
  if (name == "cbor") return DatasetFormat::cbor;
  if (name == "npy") return DatasetFormat::npy;
  return std::nullopt;
}

std::optional<ExportFormat> export_format_of(std::string_view name) {
  if (name == "npz") return ExportFormat::npz;
  if (name == "csv") return ExportFormat::csv;
  if (name == "cbor") return ExportFormat::cbor;
  if (name == "rocrate") return ExportFormat::rocrate;
  return std::nullopt;
}

namespace {

ZipPart stored(const Place& place, const Dataset& set, const std::string& as) {
  return {as, [place, set] { return make_file(place.open(set)); },
          codec::ZipKnown{set.bytes + codec::npy_head_bytes, set.crc32}};
}

std::vector<ZipPart> csv_parts(const Place& place, const Kept& kept, const std::string& folder) {
  std::vector<ZipPart> parts;
  for (auto& file : csv_files(kept.datasets))
    parts.push_back({folder + file.name + ".csv",
                     [place, columns = std::move(file.columns)] { return make_csv(place, columns); },
                     std::nullopt});
  return parts;
}

std::unique_ptr<Maker> crate(const Place& place, const Record& record, const Kept& kept) {
  std::vector<ZipPart> parts;
  const auto text = [&parts](const std::string& name, std::string content) {
    parts.push_back({name, [content = std::move(content)] { return make_text(content); }, std::nullopt});
  };
  if (record.source) {
    text("script.py", *record.source);
  } else {
    json::object call{{"function", record.function.value_or("")}};
    call["arguments"] = parse_member(record.arguments.value_or("null"));
    text("call.json", json::serialize(call) + "\n");
  }
  if (record.history_count > 0) text("history.json", record.history);
  text("run.json", record_text(record));
  const TextFile& result = kept.layout.text;
  parts.push_back(
      {"result.json",
       [place, result] { return make_file(place.open("result.json", result.bytes, result.sha256)); },
       std::nullopt});
  std::vector<std::pair<std::string, FileFacts>> stored_files;
  for (const auto& set : kept.datasets) {
    parts.push_back(stored(place, set, set.file()));
    stored_files.emplace_back(set.file(),
                              FileFacts{set.bytes + codec::npy_head_bytes, set.sha256, set.crc32});
  }
  for (auto& part : csv_parts(place, kept, "csv/")) parts.push_back(std::move(part));
  ZipLast last{"ro-crate-metadata.json",
               [record, kept, stored_files](const std::vector<std::pair<std::string, FileFacts>>& made) {
                 auto files = made;
                 files.insert(files.end(), stored_files.begin(), stored_files.end());
                 return crate_metadata(record, kept, files);
               }};
  return make_zip(std::move(parts), std::move(last), record.ended.value_or(record.created));
}

}  // namespace

Result<Export> export_dataset(const Place& place, const Dataset& set, DatasetFormat format) {
  switch (format) {
    case DatasetFormat::npy:
      return Export{make_file(place.open(set)), "application/x-npy", set.name + ".npy"};
    case DatasetFormat::csv:
      return Export{make_csv(place, {set}), "text/csv; charset=utf-8", set.name + ".csv"};
    case DatasetFormat::json:
    case DatasetFormat::cbor:
      break;
  }
  StoredRope rope(place);
  rope.array(set);
  auto parts = rope.finish();
  if (!parts) return parts.take_error();
  const bool cbor = format == DatasetFormat::cbor;
  auto maker = make_encoded(std::move(*parts), cbor ? codec::Format::cbor : codec::Format::json,
                            codec::Nonfinite::null);
  return Export{std::move(maker), cbor ? "application/cbor" : "application/json",
                set.name + (cbor ? ".cbor" : ".json")};
}

Result<Export> export_run(const Place& place, const Record& record, const Kept& kept, ExportFormat format) {
  const std::string stem = file_stem(record);
  const auto when = record.ended.value_or(record.created);
  switch (format) {
    case ExportFormat::npz: {
      std::vector<ZipPart> parts;
      for (const auto& set : kept.datasets) parts.push_back(stored(place, set, set.name + ".npy"));
      return Export{make_zip(std::move(parts), std::nullopt, when), "application/zip", stem + ".npz"};
    }
    case ExportFormat::csv:
      return Export{make_zip(csv_parts(place, kept, ""), std::nullopt, when), "application/zip",
                    stem + ".csv.zip"};
    case ExportFormat::rocrate:
      return Export{crate(place, record, kept), "application/zip", stem + ".crate.zip"};
    case ExportFormat::cbor:
      break;
  }
  // {"run": the run object, "datasets": {name: typed array}}
  StoredRope rope(place);
  std::string text = "{\"run\":" + json::serialize(describe(record, Detail::full)) + ",\"datasets\":{";
  for (std::size_t i = 0; i < kept.datasets.size(); ++i) {
    text += (i ? ",\"" : "\"") + kept.datasets[i].name + "\":";  // names need no escapes
    rope.text(std::move(text));
    rope.array(kept.datasets[i]);
    text.clear();
  }
  rope.text(text + "}}");
  auto parts = rope.finish();
  if (!parts) return parts.take_error();
  return Export{make_encoded(std::move(*parts), codec::Format::cbor, codec::Nonfinite::null), "application/cbor",
                stem + ".cbor"};
}

}  // namespace myelin::run
