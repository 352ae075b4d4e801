// System calls that libc may lack (glibc got the mount calls in 2.36), under the kernel's own numbers: those from 424 on
// are the same on every architecture. Kernel 5.12 or newer is needed (mount_setattr).
#ifndef MYELIN_SYS_H
#define MYELIN_SYS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  SYS_NR_pidfd_send_signal = 424,
  SYS_NR_open_tree = 428,
  SYS_NR_move_mount = 429,
  SYS_NR_pidfd_open = 434,
  SYS_NR_close_range = 436,
  SYS_NR_openat2 = 437,
  SYS_NR_mount_setattr = 442,
};

#define SYS_ATTR_RDONLY 0x1u
#define SYS_ATTR_NOSUID 0x2u
#define SYS_ATTR_NODEV 0x4u
#define SYS_ATTR_NOEXEC 0x8u
#define SYS_TREE_CLONE 1u
#define SYS_RECURSIVE 0x8000u
#define SYS_EMPTY_PATH 0x1000u
#define SYS_RESOLVE_NO_MAGICLINKS 0x02u
#define SYS_RESOLVE_IN_ROOT 0x10u

struct sys_mount_attr {
  uint64_t attr_set, attr_clr, propagation, userns_fd;
};
struct sys_open_how {
  uint64_t flags, mode, resolve;
};

// A detached copy of the mounts at `path`, or -1.
static inline int sys_copy_tree(int at, const char* path, int recursive) {
  unsigned flags = SYS_TREE_CLONE | (unsigned)O_CLOEXEC | (recursive ? SYS_RECURSIVE : 0);
  if (path[0] == 0) flags |= SYS_EMPTY_PATH;
  return (int)syscall(SYS_NR_open_tree, at, path, flags);
}
// Adds attributes to the mounts at a descriptor; what is set already stays.
static inline int sys_restrict(int fd, unsigned attributes, int recursive) {
  struct sys_mount_attr attr = {.attr_set = attributes};
  return (int)syscall(SYS_NR_mount_setattr, fd, "", SYS_EMPTY_PATH | (recursive ? SYS_RECURSIVE : 0), &attr, sizeof attr);
}
// Puts a detached tree on the place that `target` (O_PATH) shows.
static inline int sys_attach(int tree, int target) {
  return (int)syscall(SYS_NR_move_mount, tree, "", target, "", 0x4 | 0x40);
}
static inline int sys_open_in_root(int root, const char* path, uint64_t flags) {
  struct sys_open_how how = {.flags = flags | O_CLOEXEC, .resolve = SYS_RESOLVE_IN_ROOT | SYS_RESOLVE_NO_MAGICLINKS};
  int fd;
  do {
    fd = (int)syscall(SYS_NR_openat2, root, path, &how, sizeof how);
  } while (fd < 0 && (errno == EAGAIN || errno == EINTR));
  return fd;
}
static inline int sys_close_range(unsigned first, unsigned last) {
  return (int)syscall(SYS_NR_close_range, first, last, 0u);
}
static inline int sys_pidfd_open(pid_t pid) { return (int)syscall(SYS_NR_pidfd_open, pid, 0); }

#endif
