#include "os/host.hpp"

#include <signal.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "os/cgroup.hpp"
#include "os/memfd.hpp"
#include "os/process.hpp"
#include "os/seccomp.hpp"
#include "os/socket.hpp"
#include "os/stream.hpp"

namespace myelin::os {
namespace {

namespace fs = std::filesystem;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The switches by which distributions turn unprivileged namespaces off, most likely first.
std::string namespace_repair(std::string_view said) {
  if (first_line("/proc/sys/kernel/unprivileged_userns_clone") == "0") return "sysctl -w kernel.unprivileged_userns_clone=1";
  if (first_line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1")
    return "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
  if (first_line("/proc/sys/user/max_user_namespaces") == "0") return "sysctl -w user.max_user_namespaces=15000";
  if (said.ends_with(std::strerror(ENOSYS)))  // what systemd's filter answers to openat2
    return "a filter of system calls above this process refuses what the sandbox needs: under systemd take RestrictSUIDSGID= and "
           "SystemCallFilter= out of the unit; in a container run it with --security-opt seccomp=unconfined";
  return "in a container: run it with --security-opt seccomp=unconfined --security-opt systempaths=unconfined, or run the "
         "server on the host";
}

Finding try_sandbox(const ProbeOptions& options, const std::string& filter) {
  Finding finding{"namespaces", false, "", namespace_repair("")};
  std::string configuration = "namespaces 1\nscratch 16777216\nhostname myelin\n";
  if (options.uid) configuration += "uid " + std::to_string(*options.uid) + "\ngid " + std::to_string(*options.uid) + "\n";
  for (const char* top : {"/usr", "/bin", "/sbin", "/lib", "/lib64"}) {
    std::error_code error;
    auto status = fs::symlink_status(top, error);
    if (error || !fs::exists(status)) continue;
    if (fs::is_symlink(status)) configuration += std::string("link ") + top + " " + fs::read_symlink(top).string() + "\n";
    else configuration += std::string("bind ro ") + top + " " + top + "\n";
  }
  auto pair = socket_pair(SocketKind::packets);
  auto config_file = make_sealed_memfd("probe", configuration);
  auto filter_file = make_sealed_memfd("filter", filter);
  auto pipe = make_pipe();
  if (!pair || !config_file || !filter_file || !pipe) {
    finding.text = "no descriptors left for a try";
    return finding;
  }
  SpawnOptions start;
  start.arguments = {options.sandbox_binary, "probe"};
  start.fds = {pair->second.get(), config_file->get(), filter_file->get()};
  start.stdout_fd = pipe->second.get();
  auto child = spawn(start);
  if (!child) {
    finding.text = child.error().message;
    finding.repair = "install or build myelin-sandbox beside the server (make build)";
    return finding;
  }
  pipe->second.reset();
  if (!wait_and_reap(*child, 10'000)) {
    (void)send_signal(child->pidfd.get(), SIGKILL);
    (void)wait_and_reap(*child, 1'000);
    finding.text = "the try did not end within 10 s";
    return finding;
  }
  char buffer[1024];
  auto got = read_some(pipe->first.get(), buffer, sizeof buffer);
  std::string said(buffer, got.state == Io::done ? got.bytes : 0);
  while (!said.empty() && said.back() == '\n') said.pop_back();
  finding.ok = said == "ok";
  finding.text = finding.ok ? "user, mount, pid, network, ipc and uts namespaces with a private root" : "failed at: " + said;
  if (!finding.ok) finding.repair = namespace_repair(said);
  return finding;
}

}  // namespace

const char* name_of(IsolationLevel level) {
  switch (level) {
    case IsolationLevel::full: return "full";
    case IsolationLevel::no_cgroup: return "no cgroup";
    case IsolationLevel::reduced: return "reduced";
  }
  return "reduced";
}

Host probe_host(const ProbeOptions& options) {
  Host host;
  utsname system{};
  ::uname(&system);
  host.findings.push_back({"kernel", true, std::string(system.sysname) + " " + system.release, ""});
  host.findings.push_back({"user", true, ::geteuid() == 0
      ? "root: sessions run as uid " + (options.uid ? std::to_string(*options.uid) : std::string("?"))
      : "unprivileged (uid " + std::to_string(::geteuid()) + "): sessions see what this user can read", ""});

  auto filter = seccomp_program();
  host.findings.push_back({"system-call filter", filter.ok(), filter ? "seccomp" : filter.error().message,
                           "a kernel with CONFIG_SECCOMP_FILTER"});
  Finding sandbox = filter ? try_sandbox(options, *filter) : Finding{"namespaces", false, "not tried without a filter", ""};
  bool namespaces = sandbox.ok;
  host.findings.push_back(std::move(sandbox));

  auto tree = CgroupTree::open("myelin-probe-" + std::to_string(::getpid()));
  Finding groups{"control groups", tree.ok(), "", ""};
  if (tree) {
    groups.text = "version " + std::to_string(tree->version()) + ": memory, processes and CPU share are limited by the kernel";
    tree->close();
  } else {
    groups.text = tree.error().message + "; memory is watched by the server instead";
    groups.repair = tree.error().detail;
  }
  host.findings.push_back(std::move(groups));
  host.level = !namespaces ? IsolationLevel::reduced : tree ? IsolationLevel::full : IsolationLevel::no_cgroup;
  return host;
}

std::string cpu_model() {
  auto text = read_text("/proc/cpuinfo");
  auto at = text ? text->find("model name") : std::string::npos;
  if (at == std::string::npos) return "unknown";
  at = text->find(": ", at);
  return at == std::string::npos ? "unknown" : text->substr(at + 2, text->find('\n', at) - at - 2);
}

}  // namespace myelin::os
