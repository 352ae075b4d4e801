#pragma once
// A record as JSON (runs.hpp has describe itself), and as the metadata of an RO-Crate.

#include <string>
#include <utility>
#include <vector>

#include "run/files.hpp"
#include "run/layout.hpp"
#include "run/runs.hpp"

namespace myelin::run {

/// Text that was checked when it came. What Boost.JSON can't read (NaN) is given as a string.
[[nodiscard]] boost::json::value parse_member(const std::string& text);

/// A file among a run's inputs, which are ids of runs else; and back: its path and SHA-256.
[[nodiscard]] std::string file_input(const std::string& path, const std::string& sha256);
[[nodiscard]] std::optional<std::pair<std::string, std::string>> file_of(const std::string& input);

/// run.json: the run object with its history.
[[nodiscard]] std::string record_text(const Record& record);

/// JSON-LD of an RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) that describes one run as a CreateAction.
/// `files` are those of the crate with their checksums; datasets are recognised by name.
[[nodiscard]] std::string crate_metadata(const Record& record, const Kept& kept,
                                         const std::vector<std::pair<std::string, FileFacts>>& files);

/// "nest-balanced-network-r_0123": safe ASCII for a file.
[[nodiscard]] std::string file_stem(const Record& record);

}  // namespace myelin::run
