#include "os/seccomp.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cerrno>
#include <initializer_list>
#include <memory>

#include "os/failure.hpp"
#include "os/memfd.hpp"

namespace myelin::os {
namespace {

constexpr const char* denied[] = {
    // mounts, old and new interface
    "mount", "umount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount",
    "fspick", "mount_setattr",
    // namespaces; clone's flags are checked below
    "unshare", "setns",
    // other processes' memory and descriptors
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp",
    "move_pages", "migrate_pages",
    // kernel interfaces that sessions have no use for and that had holes
    "keyctl", "add_key", "request_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "memfd_secret", "fanotify_init", "fanotify_mark", "name_to_handle_at", "open_by_handle_at",
    "lookup_dcookie", "modify_ldt", "vm86", "vm86old", "uselib", "nfsservctl", "_sysctl", "vserver",
    // one quota for the whole machine (fs.aio-max-nr), which a single session could take
    "io_setup", "io_submit", "io_getevents", "io_pgetevents", "io_cancel", "io_destroy",
    // the machine
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module", "query_module",
    "get_kernel_syms", "reboot", "swapon", "swapoff", "quotactl", "quotactl_fd", "acct", "syslog", "vhangup",
    "sethostname", "setdomainname", "settimeofday", "stime", "clock_settime", "clock_settime64", "adjtimex",
    "clock_adjtime", "clock_adjtime64", "iopl", "ioperm"};

constexpr int open_tree_attr_number = 467;  // Linux 6.15; newer than libseccomp's tables, the same on all architectures

}  // namespace

Result<std::string> seccomp_program() {
  std::unique_ptr<void, void (*)(void*)> context(seccomp_init(SCMP_ACT_ALLOW), [](void* c) { seccomp_release(c); });
  if (!context) return Error{Code::internal, "libseccomp: no memory", {}};
  int failed = 0;
  auto check = [&](int result) {
    if (result < 0 && !failed) failed = -result;
  };
  auto deny = [&](int number, std::uint32_t action, std::initializer_list<scmp_arg_cmp> compared = {}) {
    check(seccomp_rule_add_array(context.get(), action, number, static_cast<unsigned>(compared.size()), compared.begin()));
  };
  const auto eperm = SCMP_ACT_ERRNO(EPERM);
  check(seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
  check(seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2));  // a binary tree: ~9 comparisons a call

  for (const char* name : denied) {
    int number = seccomp_syscall_resolve_name(name);
    if (number >= 0) deny(number, eperm);  // negative: not on this architecture, or unknown to this libseccomp
  }
  deny(open_tree_attr_number, eperm);
  deny(SCMP_SYS(clone3), SCMP_ACT_ERRNO(ENOSYS));

  // Arguments of int are compared in 32 bits, as the kernel reads them: the upper half is the caller's to choose.
  const scmp_datum_t low = 0xffffffffu;
#ifdef __s390__
  const unsigned flags_argument = 1;
#else
  const unsigned flags_argument = 0;
#endif
  for (unsigned flag : {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET})
    deny(SCMP_SYS(clone), eperm, {scmp_arg_cmp{flags_argument, SCMP_CMP_MASKED_EQ, flag, flag}});
  for (unsigned request : {TIOCSTI, TIOCLINUX})
    deny(SCMP_SYS(ioctl), eperm, {scmp_arg_cmp{1, SCMP_CMP_MASKED_EQ, low, request}});
  // A query is allowed (all ones), every change is not.
  deny(SCMP_SYS(personality), eperm, {scmp_arg_cmp{0, SCMP_CMP_NE, low, 0}});
  for (int call : {SCMP_SYS(socket), SCMP_SYS(socketpair)}) {
    for (scmp_datum_t family = 0; family < AF_INET6; family++)
      if (family != AF_UNIX && family != AF_INET)
        deny(call, SCMP_ACT_ERRNO(EAFNOSUPPORT), {scmp_arg_cmp{0, SCMP_CMP_MASKED_EQ, low, family}});
    deny(call, SCMP_ACT_ERRNO(EAFNOSUPPORT), {scmp_arg_cmp{0, SCMP_CMP_GT, AF_INET6, 0}});
  }
  if (failed) return failure("build the seccomp program", failed);

  UniqueFd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) return failure("memfd_create");
  if (int result = seccomp_export_bpf(context.get(), file.get()); result < 0)
    return failure("export the seccomp program", -result);
  auto size = file_size(file.get());
  if (!size) return size.take_error();
  if (*size == 0 || *size % sizeof(sock_filter) || *size / sizeof(sock_filter) > BPF_MAXINSNS)
    return Error{Code::internal, "the seccomp program has an impossible size", {}};
  std::string bytes(*size, '\0');
  if (auto done = read_exactly_at(file.get(), bytes.data(), bytes.size(), 0); !done) return done.take_error();
  return bytes;
}

}  // namespace myelin::os
