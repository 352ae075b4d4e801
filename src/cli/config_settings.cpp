#include "cli/config_settings.hpp"

#include "accounts/passwords.hpp"
#include "http/text.hpp"

namespace myelin::cli::conf {

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      {"host", "address to listen at (127.0.0.1)",
       [](Config& c, const Given& g) -> std::string {
         std::string text;
         (void)set_text(text, g);
         if (text.empty() || text.find_first_of(" /\t\n@?#") != std::string::npos)
           return "a host name or IP address";
         if (text.front() == '[' && text.back() == ']') text = text.substr(1, text.size() - 2);
         c.host = lower(text);
         return {};
       }},
      {"port", "port to listen at; 0 picks a free one (52425)",
       [](Config& c, const Given& g) {
         std::uint64_t port = c.port;
         auto bad = set_number(port, g, 0, 65535);
         c.port = static_cast<std::uint16_t>(port);
         return bad;
       }},
      {"data", "folder of all data, DIR (~/.local/share/myelin; root: /var/lib/myelin)",
       [](Config& c, const Given& g) { return set_path(c.data, g); }},
      {"database", "postgresql://USER:PASSWORD@HOST/NAME, kept out of ps with MYELIN_DATABASE or the settings file (the file DIR/myelin.db)",
       [](Config& c, const Given& g) -> std::string {
         std::string text;
         (void)set_text(text, g);
         if (!text.starts_with("postgresql://") && !text.starts_with("postgres://")) return "an address postgresql://user:password@host/name";
         c.database = text;
         return {};
       },
       true},
      {"token", "the operator's token; better by MYELIN_TOKEN or --token-file, which do not show in ps",
       [](Config& c, const Given& g) {
         std::string text;
         auto bad = set_token(text, g);
         if (bad.empty()) c.token = text, c.token_file.reset();
         return bad;
       },
       true},
      {"token_file", "file that holds the operator's token (DIR/token, made once)",
       [](Config& c, const Given& g) {
         fs::path path;
         auto bad = set_path(path, g);
         if (bad.empty()) c.token_file = path, c.token.reset();
         return bad;
       }},
      {"auth", "token, or none (on a loopback address only)",
       [](Config& c, const Given& g) {
         return set_choice(c.auth, g, {{"token", Auth::token}, {"none", Auth::none}});
       }},
      {"secret_key", "what signs the tokens of sign-ins, at least 32 bytes (DIR/secret, made once)",
       [](Config& c, const Given& g) -> std::string {
         std::string text;
         (void)set_text(text, g);
         if (text.size() < 32) return "at least 32 bytes";
         c.secret_key = text;
         return {};
       },
       true},
      {"admin_password", "the first admin's password, final (one is made and printed)",
       [](Config& c, const Given& g) -> std::string {
         std::string text;
         (void)set_text(text, g);
         if (auto why = accounts::weakness(text, "admin", "")) return "a better password: " + *why;
         c.admin_password = text;
         return {};
       },
       true},
      {"trusted_proxies", "addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, separated by commas",
       [](Config& c, const Given& g) { return set_list(c.trusted_proxies, g); }},
      {"tls_cert", "certificate chain in PEM: https only, on every address",
       [](Config& c, const Given& g) { return set_path(c.tls_cert.emplace(), g); }},
      {"tls_key", "its key in PEM", [](Config& c, const Given& g) { return set_path(c.tls_key.emplace(), g); }},
      {"allow_plain_http", "true or false: serve plain http to other machines (false)",
       [](Config& c, const Given& g) { return set_bool(c.allow_plain_http, g); }},
      {"socket", "true or false: listen on the Unix socket DIR/socket too, for the operator without a token (true)",
       [](Config& c, const Given& g) { return set_bool(c.socket, g); }},
      {"isolation", "full, or reduced: serve several users without namespaces too",
       [](Config& c, const Given& g) {
         return set_choice(c.isolation, g, {{"full", Isolation::full}, {"reduced", Isolation::reduced}});
       }},
      {"exec", "true or false: whether scripts are run (true; false where sessions are not isolated)",
       [](Config& c, const Given& g) {
         bool on = true;
         auto bad = set_bool(on, g);
         if (bad.empty()) c.exec = on;
         return bad;
       }},
      {"cors_origins", "origins whose pages may call, separated by commas",
       [](Config& c, const Given& g) { return set_list(c.cors_origins, g); }},
      {"allowed_hosts", "further names this server is called by, separated by commas",
       [](Config& c, const Given& g) -> std::string {
         auto bad = set_list(c.allowed_hosts, g);
         for (auto& name : c.allowed_hosts) {
           if (name.find('/') != std::string::npos) return "names, such as lab.example";
           name = http::host_name(name);
         }
         return bad;
       }},
      {"public_url", "the address users see, where a proxy stands in front",
       [](Config& c, const Given& g) -> std::string {
         std::string text;
         (void)set_text(text, g);
         while (!text.empty() && text.back() == '/') text.pop_back();
         if (text.rfind("http://", 0) != 0 && text.rfind("https://", 0) != 0)
           return "an http:// or https:// address";
         c.public_url = text;
         return {};
       }},
      {"nonfinite", "NaN and infinities in JSON: null, or bare",
       [](Config& c, const Given& g) {
         return set_choice(c.nonfinite, g, {{"null", Nonfinite::null}, {"bare", Nonfinite::bare}});
       }},
      {"modules", "what scripts find imported: \"nest,numpy\" or \"import nest; import numpy as np\"",
       [](Config& c, const Given& g) -> std::string {
         if (auto* list = std::get_if<std::vector<std::string>>(&g.raw)) {
           c.modules.clear();
           for (const auto& name : *list) c.modules.append(c.modules.empty() ? "" : ",").append(name);
           return {};
         }
         return set_text(c.modules, g).empty() ? "" : "a text or a list of texts";
       }},
      {"worker_uid", "user id of all sessions of root's server (user myelin, else 61525)",
       [](Config& c, const Given& g) {
         std::uint64_t uid = 0;
         auto bad = set_number(uid, g, 1, 4294967293U);
         if (bad.empty()) c.worker_uid = static_cast<uid_t>(uid);
         return bad;
       }},
      {"python", "the engines' Python", [](Config& c, const Given& g) { return set_program(c.python, g); }},
      {"web", "folder of the page at /app/ (web/dist beside the program's)",
       [](Config& c, const Given& g) { return set_path(c.web, g); }},
      {"desktop", "folder of NEST Desktop's pages (found in the engines' environment)",
       [](Config& c, const Given& g) { return set_path(c.desktop, g); }},
      {"sandbox_binary", "path of myelin-sandbox (beside this program)",
       [](Config& c, const Given& g) { return set_path(c.sandbox_binary, g); }},
      {"enter_library", "path of libmyelin_enter.so (beside this program)",
       [](Config& c, const Given& g) { return set_path(c.enter_library, g); }},
      {"nest_face", "started by myelin nest-server",
       [](Config& c, const Given& g) { return set_bool(c.nest_face, g); }, false, true, false},
  };
  return all;
}

}  // namespace myelin::cli::conf
