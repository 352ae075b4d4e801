#pragma once
// A function that can be called, who may see it, and a result that the server made itself. Values; shared and never changed.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "accounts/identity.hpp"
#include "function/check.hpp"
#include "session/session.hpp"

namespace myelin::function {

enum class Visibility { owner, groups, all, everyone };  // all: who has signed in; everyone: without a token too
/// "me", "group:a,b", "all", "public".
[[nodiscard]] std::string name_of(Visibility visibility, const std::vector<std::string>& groups);

/// A result as a native function writes it: pieces of one JSON value, arrays between them.
class Answering {
 public:
  Answering& text(std::string_view json);  // part of the value's JSON text
  Answering& number(double number);        // not finite: NaN, Infinity
  Answering& array(const std::vector<double>& values);
  /// C order; the product of the shape is the number of values, of which there is at least one dimension.
  Answering& array(const std::vector<double>& values, const std::vector<std::uint64_t>& shape);
  /// Bytes as an array of u8: a picture.
  Answering& octets(std::string bytes);
  [[nodiscard]] Result<session::Answer> finish(std::string_view before, std::string_view after) &&;

 private:
  struct Part {
    std::string data;
    std::vector<std::uint64_t> shape;  // empty: text
    bool octets = false;               // else f64
  };
  std::vector<Part> parts_;
};

/// A function of the server's own. `call` runs on a pool thread, several at once; `cancelled` says when to give up.
struct Native {
  std::string package;      // its id is package.name
  std::string declaration;  // JSON as spec/worker-protocol.md has it for "read"
  std::string version;      // what a change of its results changes
  std::function<Result<Answering>(const json::object& parameters, const std::function<bool()>& cancelled)> call;
  /// Many calls at once, where that is faster than one after another: a result for each of the first of them, as many as fit into memory
  /// together, at least one; may be missing.
  std::function<std::vector<Result<Answering>>(const std::vector<json::object>& calls, const std::function<bool()>& cancelled)> many = {};
  /// What is too much for those without a token, of parameters that are right; may be missing.
  std::function<std::vector<FieldError>(const json::object& parameters)> in_public = {};
  /// Its picture as PNG or SVG, likewise; may be missing.
  std::function<Result<std::string>(const json::object& parameters, bool svg, const std::function<bool()>& cancelled)> picture = {};
};

struct Function {
  std::string id, package;  // package.name
  Declaration declaration;
  std::string owner, owner_name;  // user id and name; the operator's of what lies in the folder
  Visibility visibility = Visibility::all;
  std::vector<std::string> groups;
  std::string version;     // a number, or the first 12 digits of the hash
  std::string hash;        // of the code
  std::string shown;       // directory below DIR/packages/shown
  std::string mechanisms;  // another one, with the compiled MOD files; may be empty
  std::shared_ptr<const Native> native;
};

/// The one place that says who may call what, and who may change it.
[[nodiscard]] bool may_call(const accounts::Identity& who, const Function& function);
[[nodiscard]] bool may_edit(const accounts::Identity& who, const std::string& owner);

}  // namespace myelin::function
