// myelin-sandbox: the keeper of one engine. Enters a user namespace, builds the pruned read-only root, makes inits, starts
// the zygote, reaps. Static, one thread, no library but libc. Contract: spec/worker-protocol.md, section 1.
//
// It runs twice: stage one builds the world and drops the identity, then executes itself with an empty environment as
// stage two. The second exec gives stage two (and so every init) memory that belongs to the new user namespace: a zygote,
// which has all capabilities there, may then join inits that are not dumpable, and a session may not read them.

#include <dirent.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "enter.h"
#include "sys.h"

enum { CONTROL = 3, CONFIGURATION = 4, FILTER = 5 };
enum { MAX_CONFIGURATION = 1 << 20, INIT_TIMEOUT_MS = 10000, KILL_TIMEOUT_MS = 5000 };
static const unsigned session_id = 1000;

// ---------------------------------------------------------------------------------------------------------- failures

struct failure {
  int number;  // errno
  char step[32];
  char text[400];
};
static struct failure failed;

// Notes what failed and returns -1. `subject` may be NULL; the text is "subject: strerror".
static int fail(const char* step, const char* subject) {
  int number = errno ? errno : EIO;
  memset(&failed, 0, sizeof failed);
  failed.number = number;
  snprintf(failed.step, sizeof failed.step, "%s", step);
  if (subject)
    snprintf(failed.text, sizeof failed.text, "%.300s: %s", subject, strerror(number));
  else
    snprintf(failed.text, sizeof failed.text, "%s", strerror(number));
  for (char* c = failed.text; *c; c++)
    if ((unsigned char)*c < 32) *c = '?';
  return -1;
}
static int fail_with(int number, const char* step, const char* subject) {
  errno = number;
  return fail(step, subject);
}

// ----------------------------------------------------------------------------------------------------- configuration

enum kind { BIND, TEXT_FILE, LINK, DIRECTORY };
struct entry {
  enum kind kind;
  int optional, writable;
  char *target, *source;  // source: of a bind; text of a file; destination of a link
  int tree;               // bind: the detached mounts, opened before the root is built
};
struct list {
  char** items;
  size_t count;
};
static struct {
  int namespaces;
  long uid, gid;
  unsigned long long scratch_bytes;
  const char* hostname;
  struct list environment, arguments;
  struct entry* entries;
  size_t entry_count;
} config = {.namespaces = 1, .uid = -1, .gid = -1, .scratch_bytes = 64u << 20, .hostname = "myelin"};

static void* grow(void* old, size_t count, size_t size) {
  void* memory = realloc(old, (count + 2) * size);
  if (!memory) abort();
  memset((char*)memory + count * size, 0, 2 * size);
  return memory;
}
static void append(struct list* list, char* item) {
  list->items = grow(list->items, list->count, sizeof *list->items);
  list->items[list->count++] = item;
}
// In place: \n, \s (a space) and \\ become what they stand for.
static void unescape(char* text) {
  char* to = text;
  for (char* from = text; *from; from++) {
    if (*from == '\\' && from[1]) {
      from++;
      *to++ = *from == 'n' ? '\n' : *from == 's' ? ' ' : *from;
    } else {
      *to++ = *from;
    }
  }
  *to = 0;
}
static char* next_word(char** rest) {
  char* word = *rest;
  char* space = strchr(word, ' ');
  if (space) {
    *space = 0;
    *rest = space + 1;
  } else {
    *rest = word + strlen(word);
  }
  unescape(word);
  return word;
}
static int is_below(const char* path, const char* top) {
  size_t length = strlen(top);
  return !strncmp(path, top, length) && path[length] == '/' && path[length + 1];
}
static int is_absolute_and_plain(const char* path) {
  if (path[0] != '/' || !path[1] || strlen(path) > 4000) return 0;
  for (const char* part = path; part; part = strchr(part + 1, '/'))
    if (!strncmp(part, "/../", 4) || !strcmp(part, "/..") || !strncmp(part, "//", 2)) return 0;
  return 1;
}
static int add_entry(struct entry entry) {
  // These are the keeper's own, or the init's: a bind there would be covered or would show too much.
  static const char* const own[] = {"/proc", "/dev", "/dev/shm", "/tmp", "/session"};
  if (!is_absolute_and_plain(entry.target)) return fail_with(EINVAL, "target", entry.target);
  for (size_t i = 0; i < sizeof own / sizeof *own; i++)
    if (!strcmp(entry.target, own[i])) return fail_with(EINVAL, "target", entry.target);
  if (is_below(entry.target, "/proc") || is_below(entry.target, "/session"))
    return fail_with(EINVAL, "target", entry.target);
  entry.tree = -1;
  config.entries = grow(config.entries, config.entry_count, sizeof *config.entries);
  config.entries[config.entry_count++] = entry;
  return 0;
}

static int parse_line(char* line) {
  char* rest = line;
  char* space = strchr(line, ' ');
  if (space) *space = 0;
  rest = space ? space + 1 : line + strlen(line);
  if (!strcmp(line, "namespaces")) {
    config.namespaces = strcmp(rest, "0") != 0;
  } else if (!strcmp(line, "uid")) {
    config.uid = strtol(rest, NULL, 10);
  } else if (!strcmp(line, "gid")) {
    config.gid = strtol(rest, NULL, 10);
  } else if (!strcmp(line, "scratch")) {
    config.scratch_bytes = strtoull(rest, NULL, 10);
  } else if (!strcmp(line, "hostname")) {
    config.hostname = rest;
  } else if (!strcmp(line, "env")) {
    append(&config.environment, rest);
  } else if (!strcmp(line, "arg")) {
    append(&config.arguments, rest);
  } else if (!strcmp(line, "bind")) {
    struct entry entry = {.kind = BIND};
    char* mode = next_word(&rest);
    if (*mode == '?') entry.optional = 1, mode++;
    if (strcmp(mode, "ro") && strcmp(mode, "rw")) return fail_with(EINVAL, "configuration", "bind mode");
    entry.writable = !strcmp(mode, "rw");
    entry.source = next_word(&rest);
    entry.target = next_word(&rest);
    return add_entry(entry);
  } else if (!strcmp(line, "file") || !strcmp(line, "link")) {
    struct entry entry = {.kind = line[0] == 'f' ? TEXT_FILE : LINK};
    entry.target = next_word(&rest);
    entry.source = rest;
    unescape(rest);
    return add_entry(entry);
  } else if (!strcmp(line, "dir")) {
    struct entry entry = {.kind = DIRECTORY};
    entry.target = next_word(&rest);
    return add_entry(entry);
  } else if (line[0]) {
    return fail_with(EINVAL, "configuration", line);
  }
  return 0;
}

static int read_configuration(int fallback) {
  char* text = calloc(1, MAX_CONFIGURATION + 1);
  if (!text) abort();
  if (fallback && fcntl(CONFIGURATION, F_GETFD) < 0) {
    // `myelin-sandbox probe` by hand.
    snprintf(text, MAX_CONFIGURATION, "uid 65534\ngid 65534\nbind ?ro /usr /usr\nbind ?ro /etc /etc\n");
  } else {
    size_t length = 0;
    ssize_t got;
    while (length < MAX_CONFIGURATION &&
           (got = pread(CONFIGURATION, text + length, MAX_CONFIGURATION - length, (off_t)length)) != 0) {
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail("configuration", "descriptor 4");
      length += (size_t)got;
    }
    if (length == MAX_CONFIGURATION) return fail_with(EFBIG, "configuration", NULL);
  }
  for (char *line = text, *next; line; line = next) {
    next = strchr(line, '\n');
    if (next) *next++ = 0;
    if (parse_line(line) < 0) return -1;
  }
  return 0;
}

// --------------------------------------------------------------------------------------------------------- the root

// Opens the place `path` in the root, making what is missing. Nothing is made outside the root's own tmpfs: no bound
// directory of the host gets a new entry, and no symbolic link in one leads anywhere else than into the new root.
static int open_place(int root, const char* path, int is_directory) {
  struct stat top, here;
  if (fstat(root, &top) < 0) return -1;
  char buffer[4096];
  size_t length = strlen(path);
  int place = -1;
  for (size_t i = 1; i <= length; i++) {
    if (i < length && path[i] != '/') continue;
    memcpy(buffer, path, i);
    buffer[i] = 0;
    if (place >= 0) close(place);
    place = sys_open_in_root(root, buffer, O_PATH);
    if (place >= 0 || errno != ENOENT) {
      if (place < 0) return -1;
      continue;
    }
    char* slash = strrchr(buffer, '/');
    *slash = 0;
    int parent = sys_open_in_root(root, slash == buffer ? "/" : buffer, O_PATH | O_DIRECTORY);
    if (parent < 0) return -1;
    int made = -1;
    if (fstat(parent, &here) == 0) {
      if (here.st_dev != top.st_dev) {
        errno = ENOENT;
      } else if (i < length || is_directory) {
        made = mkdirat(parent, slash + 1, 0755);
      } else {
        made = openat(parent, slash + 1, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        if (made >= 0) close(made);
      }
    }
    int kept = errno;
    if (made >= 0) place = openat(parent, slash + 1, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (made < 0 || place < 0) kept = made < 0 ? kept : errno;
    close(parent);
    if (place < 0) {
      errno = kept;
      return -1;
    }
  }
  return place;
}
static int ensure_directory(int root, const char* path) {
  int place = open_place(root, path, 1);
  if (place < 0) return fail("directory", path);
  close(place);
  return 0;
}
static int attach_at(int root, int tree, const char* path, const char* step) {
  struct stat what;
  if (fstat(tree, &what) < 0) return fail(step, path);
  int place = open_place(root, path, S_ISDIR(what.st_mode));
  if (place < 0) return fail(step, path);
  int result = sys_attach(tree, place);
  if (result < 0) fail(step, path);
  close(place);
  return result;
}

static int open_sources(void) {
  for (size_t i = 0; i < config.entry_count; i++) {
    struct entry* entry = &config.entries[i];
    if (entry->kind != BIND) continue;
    entry->tree = sys_copy_tree(AT_FDCWD, entry->source, 1);
    if (entry->tree < 0) {
      if (entry->optional && (errno == ENOENT || errno == ENOTDIR || errno == EACCES)) continue;
      return fail("bind", entry->source);
    }
    unsigned attributes = SYS_ATTR_NOSUID | SYS_ATTR_NODEV | (entry->writable ? 0 : SYS_ATTR_RDONLY);
    if (sys_restrict(entry->tree, attributes, 1) < 0) return fail("restrict", entry->source);
  }
  return 0;
}

static int build_entry(int root, const struct entry* entry) {
  switch (entry->kind) {
    case BIND:
      if (entry->tree < 0) return 0;
      if (attach_at(root, entry->tree, entry->target, "bind") < 0) return -1;
      close(entry->tree);
      return 0;
    case DIRECTORY:
      return ensure_directory(root, entry->target);
    case TEXT_FILE:
    case LINK: {
      char path[4096];
      snprintf(path, sizeof path, "%s", entry->target);
      char* slash = strrchr(path, '/');
      *slash = 0;
      int parent = slash == path ? dup(root) : open_place(root, path, 1);
      if (parent < 0) return fail("place", entry->target);
      int result;
      if (entry->kind == LINK) {
        result = symlinkat(entry->source, parent, slash + 1);
      } else {
        result = openat(parent, slash + 1, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
        if (result >= 0) {
          size_t length = strlen(entry->source);
          int file = result;
          result = write(file, entry->source, length) == (ssize_t)length ? 0 : -1;
          close(file);
        }
      }
      if (result < 0) fail(entry->kind == LINK ? "link" : "file", entry->target);
      close(parent);
      return result;
    }
  }
  return 0;
}

static int build_root(void) {
  static const char* const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
  static const char* const directories[] = {"/dev/shm", "/tmp", "/session", "/.myelin/users", "/.myelin/mounts"};
  static const char* const links[][2] = {
      {"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}};
  int device_trees[sizeof devices / sizeof *devices];

  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return fail("private-mounts", NULL);
  if (open_sources() < 0) return -1;
  for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
    device_trees[i] = sys_copy_tree(AT_FDCWD, devices[i], 0);
    if (device_trees[i] < 0) return fail("device", devices[i]);
    if (sys_restrict(device_trees[i], SYS_ATTR_NOSUID | SYS_ATTR_NOEXEC, 0) < 0) return fail("device", devices[i]);
  }
  // Whole and writable: the kernel lets a nested user namespace mount its own /proc only where it sees one it could
  // not learn more from. Sessions get theirs on top.
  int proc = sys_copy_tree(AT_FDCWD, "/proc", 1);
  if (proc < 0) return fail("proc", NULL);

  // /tmp is only where the new root hangs until the pivot; all sources are open by now.
  if (mount("none", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=16m,nr_inodes=16384,mode=755") < 0)
    return fail("root", "tmpfs on /tmp");
  int root = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return fail("root", NULL);
  for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
    if (ensure_directory(root, directories[i]) < 0) return -1;
  if (attach_at(root, proc, "/proc", "proc") < 0) return -1;
  close(proc);
  for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
    if (attach_at(root, device_trees[i], devices[i], "device") < 0) return -1;
    close(device_trees[i]);
  }
  int dev = openat(root, "dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
  for (size_t i = 0; i < sizeof links / sizeof *links; i++)
    if (symlinkat(links[i][1], dev, links[i][0]) < 0) return fail("device-link", links[i][0]);
  close(dev);
  for (size_t i = 0; i < config.entry_count; i++)
    if (build_entry(root, &config.entries[i]) < 0) return -1;

  if (sys_restrict(root, SYS_ATTR_RDONLY | SYS_ATTR_NOSUID | SYS_ATTR_NODEV, 0) < 0) return fail("read-only-root", NULL);
  if (fchdir(root) < 0) return fail("pivot", NULL);
  close(root);
  if (syscall(SYS_pivot_root, ".", ".") < 0) return fail("pivot", NULL);
  if (umount2(".", MNT_DETACH) < 0) return fail("old-root", NULL);
  if (chdir("/") < 0) return fail("old-root", "/");
  return 0;
}

// ---------------------------------------------------------------------------------------------------------- stage one

static int write_file(const char* path, const char* text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t wrote = write(fd, text, strlen(text));
  int kept = errno;
  close(fd);
  errno = kept;
  return wrote < 0 ? -1 : 0;
}
static int die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); }

// A user namespace in which this process is uid 0, with all capabilities there and none outside.
static int enter_user_namespace(void) {
  char map[64];
  unsigned uid = geteuid(), gid = getegid();
  if (unshare(CLONE_NEWUSER) < 0) return fail("user-namespace", NULL);
  if (write_file("/proc/self/setgroups", "deny") < 0 && errno != ENOENT) return fail("setgroups", NULL);
  snprintf(map, sizeof map, "0 %u 1", uid);
  if (write_file("/proc/self/uid_map", map) < 0) return fail("uid-map", map);
  snprintf(map, sizeof map, "0 %u 1", gid);
  if (write_file("/proc/self/gid_map", map) < 0) return fail("gid-map", map);
  return 0;
}
static int drop_identity(void) {
  if (setgroups(0, NULL) < 0) return fail("setgroups", NULL);
  if (setresgid((gid_t)config.gid, (gid_t)config.gid, (gid_t)config.gid) < 0) return fail("setresgid", NULL);
  if (setresuid((uid_t)config.uid, (uid_t)config.uid, (uid_t)config.uid) < 0) return fail("setresuid", NULL);
  // The change of identity took both.
  if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 || die_with_parent() < 0) return fail("dumpable", NULL);
  return 0;
}

static int stage_one(int probing) {
  int root = geteuid() == 0;  // really: inside, everybody is 0
  if (die_with_parent() < 0) return fail("parent-death", NULL);
  umask(022);
  sys_close_range(FILTER + 1, ~0u);
  if (read_configuration(probing) < 0) return -1;
  if (root && (config.uid <= 0 || config.gid <= 0))
    return fail_with(EINVAL, "configuration", "a server that runs as root needs uid and gid");
  // Before anything changes: the binary may be in a directory that only root may enter.
  int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (self < 0) return fail("self", "/proc/self/exe");
  if (config.namespaces) {
    if (!root && enter_user_namespace() < 0) return -1;
    if (unshare(CLONE_NEWNS) < 0) return fail("mount-namespace", NULL);
    if (build_root() < 0) return -1;
    if (root && (drop_identity() < 0 || enter_user_namespace() < 0)) return -1;
  } else if (root && drop_identity() < 0) {
    return -1;
  }
  char* const arguments[] = {"myelin-sandbox", probing ? "probe-inside" : "keeper-inside", NULL};
  char* const environment[] = {NULL};
  syscall(SYS_execveat, self, "", arguments, environment, AT_EMPTY_PATH);
  return fail("exec-self", NULL);
}

// -------------------------------------------------------------------------------------------------------------- init

static int lifeline[2] = {-1, -1};  // inits watch the reading end; only the keeper has the writing end

static int bring_lo_up(void) {
  struct ifreq request = {.ifr_name = "lo"};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int result = ioctl(fd, SIOCGIFFLAGS, &request);
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  if (result == 0) result = ioctl(fd, SIOCSIFFLAGS, &request);
  int kept = errno;
  close(fd);
  errno = kept;
  return result;
}

// The session's tmpfs on /session, /tmp and /dev/shm. What the configuration bound below the last two stays there.
static int mount_scratch(void) {
  char options[128];
  unsigned long long inodes = config.scratch_bytes / 4096;
  if (inodes < 4096) inodes = 4096;
  if (inodes > 1u << 20) inodes = 1u << 20;
  for (size_t i = 0; i < config.entry_count; i++) {
    struct entry* entry = &config.entries[i];
    if (entry->kind != BIND || (!is_below(entry->target, "/tmp") && !is_below(entry->target, "/dev/shm"))) continue;
    entry->tree = sys_copy_tree(AT_FDCWD, entry->target, 1);
    if (entry->tree < 0 && !(entry->optional && (errno == ENOENT || errno == ENOTDIR))) return fail("keep-bind", entry->target);
  }
  snprintf(options, sizeof options, "size=%llu,nr_inodes=%llu,mode=755", config.scratch_bytes, inodes);
  if (mount("none", "/session", "tmpfs", MS_NOSUID | MS_NODEV, options) < 0) return fail("scratch", options);
  if (mkdir("/session/home", 0700) < 0) return fail("scratch", "home");
  if (mkdir("/session/tmp", 0700) < 0 || chmod("/session/tmp", 01777) < 0) return fail("scratch", "tmp");
  if (mkdir("/session/shm", 0700) < 0 || chmod("/session/shm", 01777) < 0) return fail("scratch", "shm");
  if (mount("/session/tmp", "/tmp", NULL, MS_BIND, NULL) < 0) return fail("scratch", "/tmp");
  if (mount("/session/shm", "/dev/shm", NULL, MS_BIND, NULL) < 0) return fail("scratch", "/dev/shm");
  for (size_t i = 0; i < config.entry_count; i++) {
    struct entry* entry = &config.entries[i];
    if (entry->tree < 0) continue;
    // The way there is on another file system than "/", so it is made from /tmp or /dev/shm as root.
    const char* top = entry->target[1] == 't' ? "/tmp" : "/dev/shm";
    int place = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (place < 0) return fail("keep-bind", top);
    if (attach_at(place, entry->tree, entry->target + strlen(top), "keep-bind") < 0) return -1;
    close(place);
    close(entry->tree);
    entry->tree = -1;
  }
  return 0;
}

static int drop_capabilities(void) {
  for (int capability = 0; capability < 64; capability++)
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 && errno != EINVAL) return fail("bounding-set", NULL);
  if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED, 0, 0, 0) < 0)
    return fail("securebits", NULL);
  struct {
    uint32_t version;
    int pid;
  } header = {0x20080522, 0};
  uint32_t none[6] = {0};
  if (syscall(SYS_capset, &header, none) < 0) return fail("capabilities", NULL);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return fail("no-new-privileges", NULL);
  return 0;
}

static int become_init(void) {
  if (die_with_parent() < 0) return fail("parent-death", NULL);
  setsid();
  if (setresgid(session_id, session_id, session_id) < 0) return fail("identity", "gid");
  if (setresuid(session_id, session_id, session_id) < 0) return fail("identity", "uid");
  if (die_with_parent() < 0) return fail("parent-death", NULL);
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return fail("private-mounts", NULL);
  if (mount_scratch() < 0) return -1;
  // hidepid: what a session can't trace (its init) it doesn't see.
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2") < 0) return fail("proc", NULL);
  if (bring_lo_up() < 0) return fail("loopback", NULL);
  if (sethostname(config.hostname, strlen(config.hostname)) < 0) return fail("hostname", config.hostname);
  if (chdir("/") < 0) return fail("root", NULL);
  if (drop_capabilities() < 0) return -1;
  // Sessions have the same uid: they must not read this memory, environment and descriptors.
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || die_with_parent() < 0) return fail("dumpable", NULL);
  return 0;
}

static void init_main(int go, int report) {
  char byte;
  if (read(go, &byte, 1) != 1) _exit(1);
  memset(&failed, 0, sizeof failed);
  int result = become_init();
  // Out of the keeper's descriptors before it answers: nobody may find them here. The lifeline becomes 0, the report 1.
  sigset_t signals;
  sigfillset(&signals);
  sigprocmask(SIG_SETMASK, &signals, NULL);
  int life = fcntl(lifeline[0], F_DUPFD_CLOEXEC, 16), answer = fcntl(report, F_DUPFD_CLOEXEC, 16);
  if (life < 0 || answer < 0 || dup3(life, 0, O_CLOEXEC) < 0 || dup3(answer, 1, O_CLOEXEC) < 0 || sys_close_range(2, ~0u) < 0)
    _exit(1);
  if (write(1, &failed, sizeof failed) != sizeof failed || result < 0) _exit(1);
  close(1);
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  int signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd < 0) _exit(1);
  for (;;) {
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    struct pollfd waiting[2] = {{.fd = 0, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
    if (poll(waiting, 2, -1) < 0 && errno != EINTR) _exit(1);
    if (waiting[0].revents) _exit(0);  // the keeper is gone, and so is everything in here
    struct signalfd_siginfo info;
    while (read(signal_fd, &info, sizeof info) > 0) continue;
  }
}

// Makes one set of namespaces with its init. Its pid and, in *pidfd, a descriptor the caller owns; or -1.
static pid_t make_init(int* pidfd) {
  int go[2], report[2];
  char path[64], map[64];
  *pidfd = -1;
  if (!config.namespaces) return fail_with(ENOTSUP, "init", "reduced mode has no namespaces");
  if (pipe2(go, O_CLOEXEC) < 0) return fail("init-pipe", NULL);
  if (pipe2(report, O_CLOEXEC) < 0) {
    fail("init-pipe", NULL);
    close(go[0]), close(go[1]);
    return -1;
  }
  unsigned long flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD | SIGCHLD;
#if defined(__s390__)
  pid_t pid = (pid_t)syscall(SYS_clone, 0, flags, pidfd, 0, 0);
#else
  pid_t pid = (pid_t)syscall(SYS_clone, flags, 0, pidfd, 0, 0);
#endif
  if (pid == 0) {
    close(go[1]);
    close(report[0]);
    init_main(go[0], report[1]);
    _exit(1);
  }
  int result = -1;
  close(go[0]);
  close(report[1]);
  if (pid < 0) {
    fail("clone", "namespaces");
  } else {
    snprintf(map, sizeof map, "%u 0 1", session_id);
    snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
    struct failure theirs;
    struct pollfd waiting = {.fd = report[0], .events = POLLIN};
    if (write_file(path, map) < 0) {
      fail("init-uid-map", map);
    } else if (snprintf(path, sizeof path, "/proc/%d/gid_map", pid), write_file(path, map) < 0) {
      fail("init-gid-map", map);
    } else if (write(go[1], "g", 1) != 1) {
      fail("init-go", NULL);
    } else if (poll(&waiting, 1, INIT_TIMEOUT_MS) != 1) {
      fail_with(ETIMEDOUT, "init", NULL);
    } else if (read(report[0], &theirs, sizeof theirs) != sizeof theirs) {
      fail_with(ECHILD, "init", "it ended before it was ready");
    } else if (theirs.number) {
      failed = theirs;
    } else {
      result = 0;
    }
  }
  close(go[1]);
  close(report[0]);
  if (result < 0 && pid > 0) {
    kill(pid, SIGKILL);
    close(*pidfd);
    *pidfd = -1;
    waitpid(pid, NULL, 0);
  }
  return result < 0 ? -1 : pid;
}

// ------------------------------------------------------------------------------------------------------------ zygote

static void reset_signals(void) {
  struct sigaction usual = {.sa_handler = SIG_DFL};
  for (int number = 1; number < 65; number++) sigaction(number, &usual, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

// Forks and executes the zygote with `control` as fd 3. Its pid and a pidfd the caller owns; or -1.
static pid_t start_zygote(int control, int* pidfd) {
  int report[2];
  pid_t keeper = getpid();
  *pidfd = -1;
  if (!config.arguments.count) return fail_with(EINVAL, "zygote", "no argument in the configuration");
  if (pipe2(report, O_CLOEXEC) < 0) return fail("zygote-pipe", NULL);
  pid_t pid = fork();
  if (pid == 0) {
    char* nothing[] = {NULL};
    struct {
      int number;
      char step[32];
    } trouble = {0, ""};
    int answer = fcntl(report[1], F_DUPFD_CLOEXEC, 16), socket = fcntl(control, F_DUPFD_CLOEXEC, 16);
    int null = open("/dev/null", O_RDONLY);
    if (die_with_parent() < 0 || getppid() != keeper) _exit(127);
    if (answer < 0 || socket < 0 || null < 0 || dup2(null, 0) < 0 || dup2(socket, 3) < 0 || chdir("/") < 0 ||
        sys_close_range(4, (unsigned)answer - 1) < 0 || sys_close_range((unsigned)answer + 1, ~0u) < 0) {
      trouble.number = errno;
      snprintf(trouble.step, sizeof trouble.step, "zygote-descriptors");
    } else {
      reset_signals();
      execve(config.arguments.items[0], config.arguments.items, config.environment.items ? config.environment.items : nothing);
      trouble.number = errno;
      snprintf(trouble.step, sizeof trouble.step, "zygote-exec");
    }
    if (write(answer, &trouble, sizeof trouble) < 0) _exit(126);
    _exit(127);
  }
  close(report[1]);
  if (pid < 0) {
    fail("zygote-fork", NULL);
    close(report[0]);
    return -1;
  }
  struct {
    int number;
    char step[32];
  } trouble;
  ssize_t got;
  while ((got = read(report[0], &trouble, sizeof trouble)) < 0 && errno == EINTR) continue;
  close(report[0]);
  if (got == sizeof trouble) {
    waitpid(pid, NULL, 0);
    return fail_with(trouble.number, trouble.step, config.arguments.items[0]);
  }
  *pidfd = sys_pidfd_open(pid);
  if (*pidfd < 0) {
    fail("zygote-pidfd", NULL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return -1;
  }
  fcntl(*pidfd, F_SETFD, FD_CLOEXEC);
  return pid;
}

// ----------------------------------------------------------------------------------------------------------- control

__attribute__((format(printf, 2, 3))) static void send_message(int fd, const char* format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (length < 0) return;
  if (length >= (int)sizeof text) length = sizeof text - 1;
  struct iovec piece = {text, (size_t)length};
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(int))];
  } carried;
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  if (fd >= 0) {
    memset(&carried, 0, sizeof carried);
    message.msg_control = &carried;
    message.msg_controllen = sizeof carried.space;
    struct cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
  }
  while (sendmsg(CONTROL, &message, MSG_NOSIGNAL) < 0) {
    if (errno == EAGAIN) {
      struct pollfd waiting = {.fd = CONTROL, .events = POLLOUT};
      poll(&waiting, 1, -1);
    } else if (errno != EINTR) {
      return;  // the server is gone; the loop sees its end of file
    }
  }
}
static void send_failure(void) { send_message(-1, "error %s %d %s", failed.step, failed.number, failed.text); }

// A request's text (terminated) and the descriptor that came with it, or -1 in *fd. 0: end of file.
static int receive(char* text, size_t size, int* fd) {
  struct iovec piece = {text, size - 1};
  union {
    struct cmsghdr head;
    char space[CMSG_SPACE(sizeof(int) * 4)];
  } carried;
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &carried, .msg_controllen = sizeof carried};
  ssize_t got;
  *fd = -1;
  while ((got = recvmsg(CONTROL, &message, MSG_CMSG_CLOEXEC)) < 0 && (errno == EINTR || errno == EAGAIN)) {
    struct pollfd waiting = {.fd = CONTROL, .events = POLLIN};
    if (errno == EAGAIN) poll(&waiting, 1, -1);
  }
  if (got <= 0) return 0;
  text[got] = 0;
  for (struct cmsghdr* head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int one;
      memcpy(&one, CMSG_DATA(head) + i * sizeof(int), sizeof one);
      if (*fd < 0)
        *fd = one;
      else
        close(one);
    }
  }
  return 1;
}

static void handle(char* request, int fd) {
  int pidfd;
  pid_t pid;
  if (!strcmp(request, "zygote")) {
    if (fd < 0) {
      fail_with(EINVAL, "zygote", "no descriptor came with the request");
      send_failure();
    } else if ((pid = start_zygote(fd, &pidfd)) < 0) {
      send_failure();
    } else {
      send_message(pidfd, "zygote %d", pid);
      close(pidfd);
    }
  } else if (!strcmp(request, "init")) {
    if ((pid = make_init(&pidfd)) < 0) {
      send_failure();
    } else {
      send_message(pidfd, "init %d", pid);
      close(pidfd);
    }
  } else {
    fail_with(EINVAL, "request", request);
    send_failure();
  }
  if (fd >= 0) close(fd);
}

static void reap(int telling) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
    if (telling) send_message(-1, "exit %d %d", pid, status);
}

static void kill_children(void) {
  char path[64];
  int own = getpid(), pid;
  snprintf(path, sizeof path, "/proc/self/task/%d/children", own);
  FILE* file = fopen(path, "re");
  if (file) {
    while (fscanf(file, "%d", &pid) == 1) kill(pid, SIGKILL);
    fclose(file);
    return;
  }
  DIR* all = opendir("/proc");  // a kernel without CONFIG_PROC_CHILDREN
  struct dirent* item;
  while (all && (item = readdir(all))) {
    char line[512];
    if ((pid = atoi(item->d_name)) <= 0) continue;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (!(file = fopen(path, "re"))) continue;
    char* mark = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    int parent = 0;
    if (mark && sscanf(mark + 1, " %*c %d", &parent) == 1 && parent == own) kill(pid, SIGKILL);
    fclose(file);
  }
  if (all) closedir(all);
}

// Everything below: children die, theirs become ours (subreaper), until none is left.
static void kill_everything(void) {
  for (int waited_ms = 0; waited_ms < KILL_TIMEOUT_MS; waited_ms += 2) {
    kill_children();
    for (;;) {
      pid_t pid = waitpid(-1, NULL, WNOHANG);
      if (pid < 0 && errno == ECHILD) return;
      if (pid <= 0) break;
    }
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
  }
}

static int prepare_stage_two(int probing, sigset_t* children) {
  setsid();  // a key press in the server's terminal is not for these processes
  umask(022);
  if (die_with_parent() < 0) return fail("parent-death", NULL);
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) return fail("subreaper", NULL);
  if (read_configuration(probing) < 0) return -1;
  if (pipe2(lifeline, O_CLOEXEC) < 0) return fail("lifeline", NULL);
  // Its life is the control socket, nothing else.
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
  for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) sigaction(ignored[i], &ignore, NULL);
  sigemptyset(children);
  sigaddset(children, SIGCHLD);
  struct sigaction usual = {.sa_handler = SIG_DFL};
  sigaction(SIGCHLD, &usual, NULL);
  if (sigprocmask(SIG_SETMASK, children, NULL) < 0) return fail("signals", NULL);
  return 0;
}

static int keep(void) {
  sigset_t children;
  if (prepare_stage_two(0, &children) < 0) return -1;
  for (int fd = CONTROL; fd <= FILTER; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
  int signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd < 0) return fail("signals", NULL);
  send_message(-1, "ready");
  for (;;) {
    struct pollfd waiting[2] = {{.fd = CONTROL, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
    if (poll(waiting, 2, -1) < 0 && errno != EINTR) break;
    if (waiting[1].revents) {
      struct signalfd_siginfo info;
      while (read(signal_fd, &info, sizeof info) > 0) continue;
      reap(1);
    }
    if (waiting[0].revents) {
      char request[256];
      int fd;
      if (!receive(request, sizeof request, &fd)) break;
      handle(request, fd);
    }
  }
  kill_everything();
  return 0;
}

// ------------------------------------------------------------------------------------------------------------- probe

static int read_filter(struct sock_filter** program, unsigned* length) {
  struct stat info;
  *program = NULL;
  *length = 0;
  if (fstat(FILTER, &info) < 0) return 0;  // by hand, without one
  if (info.st_size % (off_t)sizeof **program || info.st_size > 1 << 20) return fail_with(EINVAL, "filter", NULL);
  *program = malloc((size_t)info.st_size + 1);
  if (!*program || pread(FILTER, *program, (size_t)info.st_size, 0) != info.st_size) return fail("filter", NULL);
  *length = (unsigned)((size_t)info.st_size / sizeof **program);
  return 0;
}

// Everything once: namespaces, root, an init, a child that joins it and applies the filter.
static int probe(void) {
  sigset_t children;
  int pidfd = -1, report[2], number = 0;
  char step[64] = "";
  struct myelin_join join = {.init_pidfd = -1, .output_fd = 1, .home = "/", .files = 256};
  struct sock_filter* program;
  // The filter first: without one, its number is free and would be taken.
  if (read_filter(&program, &join.filter_length) < 0 || prepare_stage_two(1, &children) < 0) return -1;
  join.filter = program;
  if (config.namespaces) {
    if (make_init(&pidfd) < 0) return -1;
    join.init_pidfd = pidfd;
    join.home = "/session/home";
    if ((number = myelin_aim(pidfd)) < 0) return fail_with(-number, "aim", NULL);
  }
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, report) < 0) return fail("probe-pipe", NULL);
  pid_t pid = fork();
  if (pid == 0) {
    join.channel_fd = report[1];
    number = myelin_join(&join, step);
    int out = number ? report[1] : 3;
    if (write(out, &number, sizeof number) < 0 || write(out, step, sizeof step) < 0) _exit(1);
    _exit(0);
  }
  close(report[1]);
  if (pid < 0) return fail("probe-fork", NULL);
  int got = recv(report[0], &number, sizeof number, MSG_WAITALL) == sizeof number &&
            recv(report[0], step, sizeof step, MSG_WAITALL) == sizeof step;
  kill_everything();
  if (!got) return fail_with(ECHILD, "join", "the child ended");
  if (number) return step[sizeof step - 1] = 0, fail_with(-number, step, NULL);
  return 0;
}

int main(int count, char** arguments) {
  const char* mode = count == 2 ? arguments[1] : "";
  if (!strcmp(mode, "keeper")) {
    if (stage_one(0) < 0) send_failure();
    return 1;
  }
  if (!strcmp(mode, "keeper-inside")) {
    if (keep() == 0) return 0;
    send_failure();
    return 1;
  }
  int inside = !strcmp(mode, "probe-inside");
  if (inside || !strcmp(mode, "probe")) {
    int result = inside ? probe() : stage_one(1);
    if (result == 0)
      printf("ok\n");
    else
      printf("%s %d %s\n", failed.step, failed.number, failed.text);
    return result == 0 ? 0 : 1;
  }
  fprintf(stderr, "usage: myelin-sandbox keeper|probe (see spec/worker-protocol.md)\n");
  return 2;
}
