#include "enter.h"

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "sys.h"

#define EXPORT __attribute__((visibility("default")))
#define STEP(name, expression)                   \
  do {                                           \
    snprintf(step, 64, "%s", name);              \
    if ((expression) < 0) return errno ? -errno : -EIO; \
  } while (0)

static const unsigned session_id = 1000;

EXPORT long myelin_branch(int with_parent) {
  // The place where glibc keeps this thread's id: the kernel must write the copy's own there.
  unsigned long place = 0;
  unsigned long flags = CLONE_PARENT | SIGCHLD;
  if (prctl(PR_GET_TID_ADDRESS, &place, 0, 0, 0) == 0 && place) flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
#if defined(__x86_64__)
  long pid = syscall(SYS_clone, flags, 0UL, 0UL, place, 0UL);
#else
  long pid = syscall(SYS_clone, flags, 0UL, 0UL, 0UL, place);
#endif
  if (pid < 0) return -errno;
  if (pid == 0 && with_parent) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  return pid;
}

EXPORT int myelin_aim(int init_pidfd) { return setns(init_pidfd, CLONE_NEWPID) < 0 ? -errno : 0; }

// mkdir -p; failures show when the directory is used (a read-only root has its mount points already).
static void make_directories(const char* path, mode_t mode) {
  char buffer[4096];
  size_t length = strlen(path);
  if (length >= sizeof buffer) return;
  for (size_t i = 1; i <= length; i++) {
    if (i < length && path[i] != '/') continue;
    memcpy(buffer, path, i);
    buffer[i] = 0;
    mkdir(buffer, mode);
  }
}

static int bind_on(const char* source, const char* target, unsigned attributes) {
  int tree = sys_copy_tree(AT_FDCWD, source, 1);
  if (tree < 0) return -1;
  int place = open(target, O_PATH | O_CLOEXEC);
  int result = place < 0 || sys_restrict(tree, attributes, 1) < 0 || sys_attach(tree, place) < 0 ? -1 : 0;
  int kept = errno;
  close(tree);
  if (place >= 0) close(place);
  errno = kept;
  return result;
}

static int is_plain_name(const char* name) {
  return name[0] && strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/') && strlen(name) < 256;
}

static int arrange_files(const struct myelin_join* options, char* step) {
  char path[4096], source[512];
  STEP("home", options->home ? 0 : (errno = EINVAL, -1));
  make_directories(options->home, 0700);
  if (options->user) {
    STEP("user", is_plain_name(options->user) ? 0 : (errno = EINVAL, -1));
    snprintf(source, sizeof source, "/.myelin/users/%s", options->user);
    STEP("work", snprintf(path, sizeof path, "%s/work", options->home) < (int)sizeof path ? 0 : (errno = ENAMETOOLONG, -1));
    mkdir(path, 0700);
    STEP("work", bind_on(source, path, SYS_ATTR_NOSUID | SYS_ATTR_NODEV));
  }
  for (const char* const* mount = options->mounts; mount && mount[0]; mount += 3) {
    STEP("mounts", mount[1] && mount[2] ? 0 : (errno = EINVAL, -1));
    make_directories(mount[1], 0755);
    unsigned readonly = strcmp(mount[2], "rw") ? SYS_ATTR_RDONLY : 0;
    STEP("mounts", bind_on(mount[0], mount[1], SYS_ATTR_NOSUID | SYS_ATTR_NODEV | readonly));
  }
  // Every user's directory is below; from here on nobody in this session sees it.
  STEP("cover", mount("none", "/.myelin", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2,mode=755"));
  return 0;
}

static int arrange_descriptors(const struct myelin_join* options, char* step) {
  // Out of the way first: any of them may be below 4 already.
  int channel, output, null;
  STEP("descriptors", channel = fcntl(options->channel_fd, F_DUPFD_CLOEXEC, 16));
  STEP("descriptors", output = fcntl(options->output_fd, F_DUPFD_CLOEXEC, 16));
  STEP("descriptors", null = open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (null < 4) STEP("descriptors", null = fcntl(null, F_DUPFD_CLOEXEC, 16));
  STEP("descriptors", dup3(null, 0, 0));
  STEP("descriptors", dup3(output, 1, 0));
  STEP("descriptors", dup3(output, 2, 0));
  STEP("descriptors", dup3(channel, 3, O_CLOEXEC));
  STEP("descriptors", sys_close_range(4, ~0u));
  return 0;
}

static int limit(int resource, unsigned long long value) {
  struct rlimit old;
  if (getrlimit(resource, &old) < 0) return -1;
  // A hard limit can't be raised; the lower one holds.
  rlim_t bound = old.rlim_max != RLIM_INFINITY && value > old.rlim_max ? old.rlim_max : (rlim_t)value;
  struct rlimit now = {bound, bound};
  return setrlimit(resource, &now);
}

static int set_limits(const struct myelin_join* options, char* step) {
  if (options->files) STEP("limit-files", limit(RLIMIT_NOFILE, options->files));
  if (options->processes) STEP("limit-processes", limit(RLIMIT_NPROC, options->processes));
  if (options->file_bytes) STEP("limit-file-bytes", limit(RLIMIT_FSIZE, options->file_bytes));
  if (options->data_bytes) STEP("limit-data-bytes", limit(RLIMIT_DATA, options->data_bytes));
  STEP("limit-core-bytes", limit(RLIMIT_CORE, options->core_bytes));
  return 0;
}

static int drop_capabilities(char* step) {
  for (int capability = 0; capability < 64; capability++)
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EINVAL) STEP("bounding-set", -1);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  STEP("securebits", prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                               SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                               SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED, 0, 0, 0));
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  STEP("capabilities", syscall(SYS_capset, &header, data));
  return 0;
}

static int apply_filter(const struct myelin_join* options, char* step) {
  STEP("no-new-privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  if (!options->filter_length) return 0;
  STEP("seccomp", options->filter_length <= BPF_MAXINSNS ? 0 : (errno = E2BIG, -1));
  struct sock_fprog program = {(unsigned short)options->filter_length, (struct sock_filter*)options->filter};
  STEP("seccomp", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
  return 0;
}

EXPORT int myelin_join(const struct myelin_join* options, char* step) {
  int failed;
  char scratch[64];
  if (!step) step = scratch;
  // An own session and process group: kill(0, …) reaches a whole process group, across pid namespaces, and the
  // zygote and its keeper have the same kernel uid.
  setsid();
  umask(022);
  if (options->init_pidfd >= 0) {
    // No PDEATHSIG: a session outlives its zygote. It dies with its pid namespace, whose init dies with the keeper.
    STEP("setns", setns(options->init_pidfd, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS));
    STEP("identity", setresgid(session_id, session_id, session_id));
    STEP("identity", setresuid(session_id, session_id, session_id));
    if ((failed = arrange_files(options, step))) return failed;
    STEP("home", chdir(options->home));
  } else {
    STEP("parent-death", prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    STEP("home", options->home ? chdir(options->home) : (errno = EINVAL, -1));
  }
  if ((failed = arrange_descriptors(options, step))) return failed;
  if ((failed = set_limits(options, step))) return failed;
  if (options->init_pidfd >= 0) {
    if ((failed = drop_capabilities(step))) return failed;
    // /proc hides what can't be traced: without this a session would not find itself there.
    STEP("dumpable", prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
  }
  setenv("HOME", options->home, 1);
  if ((failed = apply_filter(options, step))) return failed;
  step[0] = 0;
  return 0;
}
