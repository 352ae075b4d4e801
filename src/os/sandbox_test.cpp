// The real keeper, init and join, with a small Python zygote, by a root server and by an unprivileged one. A
// session answers Python expressions on its channel; each wall is asked about from inside, in a process that
// wants to get out.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "os/memfd.hpp"
#include "os/process.hpp"
#include "os/seccomp.hpp"
#include "os/socket.hpp"

namespace myelin::os {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr int patience_ms = 20'000;
constexpr uid_t server_uid = 61525, nobody = 65534;
constexpr const char* python = "/usr/bin/python3";

// The zygote: one packet a spawn (an expression that makes a dict) with filter, channel, output and, unless
// reduced, the init.
constexpr const char* zygote_text = R"py(
import array, ctypes, os, socket, sys
u64 = ctypes.c_ulonglong
class Join(ctypes.Structure):
    _fields_ = [("init", ctypes.c_int), ("channel", ctypes.c_int), ("output", ctypes.c_int), ("user", ctypes.c_char_p),
        ("mounts", ctypes.POINTER(ctypes.c_char_p)), ("home", ctypes.c_char_p), ("files", u64), ("processes", u64),
        ("file_bytes", u64), ("data_bytes", u64), ("core_bytes", u64), ("filter", ctypes.c_char_p), ("length", ctypes.c_uint)]
enter = ctypes.PyDLL(os.environ["MYELIN_ENTER_LIBRARY"])
control = socket.socket(fileno=3)
def session(channel):
    stream = channel.makefile("rw")
    scope = {}
    exec("import ctypes, errno, os, resource, signal, socket, subprocess, sys, time", scope)
    exec(helpers, scope)
    for line in stream:
        try:
            answer = repr(eval(line, scope))
        except Exception as error:
            answer = "%s %s" % (type(error).__name__, getattr(error, "errno", error))
        stream.write(answer.replace("\n", " ") + "\n")
        stream.flush()
helpers = '''
libc = ctypes.CDLL(None, use_errno=True)
def call(*numbers):
    ctypes.set_errno(0)
    result = libc.syscall(*[ctypes.c_long(n) for n in numbers])
    return errno.errorcode.get(ctypes.get_errno(), "") if result == -1 else "ok"
def fill(path):
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(100000): file.write(bytes(65536))
    except OSError as error:
        os.unlink(path)
        return errno.errorcode[error.errno]
def status(key):
    return [line.split()[1] for line in open("/proc/self/status") if line.startswith(key + ":")][0]
def loopback():
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0)); server.listen()
        client.connect(server.getsockname())
        return True
def write(path, text):
    with open(path, "w") as file: return file.write(text)
def read(path):
    with open(path) as file: return file.read()
def in_child(do):
    pid = os.fork()
    if pid == 0:
        try: do()
        finally: os._exit(0)
    return os.waitpid(pid, 0)[1]
'''
while True:
    data, ancillary, _, _ = socket.socket.recvmsg(control, 65536, socket.CMSG_SPACE(64))
    if not data: sys.exit(0)
    fds = array.array("i")
    for _, _, raw in ancillary: fds.frombytes(raw[:len(raw) - len(raw) % 4])
    ask = eval(data)
    program = os.pread(fds[0], 1 << 20, 0)
    init = fds[3] if len(fds) > 3 else -1
    failed = enter.myelin_aim(init) if init >= 0 else 0
    pid = os.fork() if not failed else -1
    if pid == 0:
        texts = [t.encode() for mount in ask["mounts"] for t in mount] + [None]
        join = Join(init, fds[1], fds[2], ask["user"], (ctypes.c_char_p * len(texts))(*texts), ask["home"], 64, 0, 0, 0, 0,
                    program, len(program) // 8)
        step = ctypes.create_string_buffer(64)
        failed = enter.myelin_join(ctypes.byref(join), step)
        if failed:
            os.write(fds[1], b"join failed: %s %d\n" % (step.value, failed))
            os._exit(1)
        session(socket.socket(fileno=3))
        os._exit(0)
    for fd in fds: os.close(fd)
    control.send(b"%d %d" % (pid, failed))
)py";

std::string escaped(const std::string& text) {
  std::string result;
  for (char c : text) result += c == '\n' ? "\\n" : c == '\\' ? "\\\\" : std::string(1, c);
  return result;
}

// Gone, or a zombie that only waits for its parent.
bool is_dead(pid_t pid) {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) continue;
  auto text = read_text("/proc/" + std::to_string(pid) + "/stat");
  if (!text) return true;
  auto mark = text->rfind(')');
  return mark != std::string::npos && (*text)[mark + 2] == 'Z';
}
bool dies_soon(pid_t pid) {
  for (int i = 0; i < 2000; i++) {
    if (is_dead(pid)) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

struct Session {
  UniqueFd channel, init_pidfd;
  pid_t pid = -1, init = -1;  // as the server sees them

  std::string ask(const std::string& expression) {
    if (!send_message(channel.get(), expression + "\n")) return "(channel closed)";
    std::string answer;
    while (answer.empty() || answer.back() != '\n') {
      if (!wait_readable(channel.get(), patience_ms)) return "(no answer) " + answer;
      auto got = receive_message(channel.get(), 65536);
      if (!got || got->state != Received::State::data) return "(channel closed) " + answer;
      answer += got->bytes;
    }
    answer.pop_back();
    return answer;
  }
};

class Sandbox : public testing::TestWithParam<const char*> {
 protected:
  bool by_root() const { return GetParam() == std::string("root"); }

  void SetUp() override {
    if (::geteuid() != 0 && by_root()) GTEST_SKIP() << "this test does not run as root";
    if (::access(python, X_OK) != 0) GTEST_SKIP() << python << " is missing";
    uid_ = by_root() ? server_uid : ::geteuid() == 0 ? nobody : ::geteuid();
    gid_ = by_root() ? server_uid : ::geteuid() == 0 ? nobody : ::getegid();
    ASSERT_TRUE(set_subreaper());
    char name[] = "/tmp/os-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top_ = name;
    fs::permissions(top_, fs::perms(0755));
    for (const char* one :
         {"users", "users/anna", "users/bob", "below", "shared", "private", "private/env", "tools"})
      fs::create_directory(top_ / one);
    std::ofstream(top_ / "users/bob/secret") << "bob's";
    std::ofstream(top_ / "below/here") << "seen";
    std::ofstream(top_ / "shared/data") << "shared";
    std::ofstream(top_ / "private/env/module") << "module";
    std::ofstream(top_ / "tools/zygote.py") << zygote_text;
    // Where nobody may look for them otherwise (a build folder below a home).
    fs::copy_file(MYELIN_BUILD_DIR "/myelin-sandbox", top_ / "tools/myelin-sandbox");
    fs::copy_file(MYELIN_BUILD_DIR "/libmyelin_enter.so", top_ / "tools/enter.so");
    fs::permissions(top_ / "private", fs::perms(0700));
    for (const char* one : {"users/anna", "users/bob"}) {
      fs::permissions(top_ / one, fs::perms(0700));
      if (::geteuid() != 0) continue;
      ASSERT_EQ(::chown((top_ / one).c_str(), uid_, gid_), 0);
    }
    if (::geteuid() == 0 && !by_root()) {
      ASSERT_EQ(::chown((top_ / "private").c_str(), uid_, gid_), 0);
    }
    filter_ = *seccomp_program();

    configuration_ =
        "namespaces 1\nscratch 4194304\nhostname cell\nenv MYELIN_ENTER_LIBRARY=/enter.so\nenv A=b c\n";
    if (by_root()) configuration_ += "uid " + std::to_string(uid_) + "\ngid " + std::to_string(gid_) + "\n";
    for (const char* link : {"/bin", "/sbin", "/lib", "/lib64"})
      if (fs::is_symlink(link))
        configuration_ += std::string("link ") + link + " " + fs::read_symlink(link).string() + "\n";
      else
        configuration_ += std::string("bind ?ro ") + link + " " + link + "\n";
    std::string top = top_.string();
    configuration_ += "bind ro /usr /usr\nbind ?ro /does/not/exist /nothing\n";
    configuration_ += "bind ro " + top + "/tools/enter.so /enter.so\nbind ro " + top + "/private/env /env\n";
    configuration_ += "bind ro " + top + "/below /tmp/below/deep\nbind rw " + top + "/users /.myelin/users\n";
    configuration_ +=
        "bind ro " + top + "/shared /.myelin/mounts/0\ndir /data/set\nfile /etc/words one\\ntwo\\\\\n";
    configuration_ +=
        "file /zygote.py " + escaped(zygote_text) + "\narg " + python + "\narg -I\narg /zygote.py\n";
  }
  void TearDown() override {
    keeper_control_.reset();
    if (keeper_.pid > 0 && !wait_and_reap(keeper_, 10'000)) (void)send_signal(keeper_.pidfd.get(), SIGKILL);
    std::error_code error;
    if (!top_.empty()) fs::remove_all(top_, error);
  }

  // The sandbox's program in a mode, as the server's user.
  Result<Child> start(const std::string& mode, int control, int output) {
    auto file = make_sealed_memfd("configuration", configuration_),
         program = make_sealed_memfd("filter", filter_);
    SpawnOptions options;
    if (::geteuid() == 0 && !by_root())
      options.arguments = {"/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
    options.arguments.push_back((top_ / "tools/myelin-sandbox").string());
    options.arguments.push_back(mode);
    options.environment = {"SECRET=of the server"};
    options.fds = {control, file->get(), program->get()};
    options.stdout_fd = output;
    return spawn(options);
  }
  void start_keeper() {
    auto pair = socket_pair(SocketKind::packets);
    auto child = start("keeper", pair->second.get(), -1);
    ASSERT_TRUE(child) << child.error().message;
    keeper_ = std::move(*child);
    keeper_control_ = std::move(pair->first);
  }
  // The keeper's next message but `exit`, which is kept; "" at its end.
  std::string next(std::vector<UniqueFd>* fds = nullptr) {
    for (;;) {
      std::string text = next_of_any(fds);
      if (text.rfind("exit ", 0) != 0) return text;
      exits_.push_back(text);
    }
  }
  std::string next_of_any(std::vector<UniqueFd>* fds = nullptr) {
    if (!wait_readable(keeper_control_.get(), patience_ms)) return "(no answer)";
    auto got = receive_message(keeper_control_.get(), 1000);
    if (!got || got->state != Received::State::data) return "";
    if (fds) *fds = std::move(got->fds);
    return got->bytes;
  }
  std::string next_exit() {
    if (exits_.empty()) return next_of_any();
    std::string text = exits_.front();
    exits_.pop_front();
    return text;
  }
  void start_zygote() {
    auto pair = socket_pair(SocketKind::packets);
    int theirs = pair->second.get();
    ASSERT_TRUE(send_message(keeper_control_.get(), "zygote", std::span(&theirs, 1)));
    std::vector<UniqueFd> fds;
    std::string answer = next(&fds);
    ASSERT_EQ(answer.substr(0, 7), "zygote ") << answer;
    ASSERT_EQ(fds.size(), 1u);
    zygote_ = std::stoi(answer.substr(7));
    zygote_pidfd_ = std::move(fds[0]);
    zygote_control_ = std::move(pair->first);
  }
  void start_all() {
    start_keeper();
    if (HasFatalFailure()) return;
    ASSERT_EQ(next(), "ready");
    start_zygote();
  }
  void join(Session& session, const std::string& user = "anna", const std::string& home = "/session/home",
            bool reduced = false) {
    auto pair = socket_pair(SocketKind::stream);
    auto program = make_sealed_memfd("filter", filter_);
    std::vector<int> fds{program->get(), pair->second.get(), 2};
    if (!reduced) {
      ASSERT_TRUE(send_message(keeper_control_.get(), "init"));
      std::vector<UniqueFd> received;
      std::string answer = next(&received);
      ASSERT_EQ(answer.substr(0, 5), "init ") << answer;
      ASSERT_EQ(received.size(), 1u);
      session.init = std::stoi(answer.substr(5));
      session.init_pidfd = std::move(received[0]);
      fds.push_back(session.init_pidfd.get());
    }
    std::string ask = "{'user': " + (user.empty() ? std::string("None") : "b'" + user + "'") +
                      ", 'home': b'" + home +
                      "', 'mounts': " + (reduced ? "[]" : "[('/.myelin/mounts/0', '/data/set', 'ro')]") + "}";
    ASSERT_TRUE(send_message(zygote_control_.get(), ask, fds));
    ASSERT_TRUE(wait_readable(zygote_control_.get(), patience_ms));
    std::string answer = receive_message(zygote_control_.get(), 100)->bytes;
    ASSERT_GT(std::atoi(answer.c_str()), 0) << answer;
    session.pid = std::atoi(answer.c_str());
    session.channel = std::move(pair->first);
    pair->second.reset();
    ASSERT_EQ(session.ask("1+1"), "2");
  }

  uid_t uid_ = 0;
  gid_t gid_ = 0;
  fs::path top_;
  std::string filter_, configuration_;
  Child keeper_;
  UniqueFd keeper_control_, zygote_control_, zygote_pidfd_;
  pid_t zygote_ = -1;
  std::deque<std::string> exits_;
};

#define START(session)           \
  Session session;               \
  start_all();                   \
  if (HasFatalFailure()) return; \
  join(session);                 \
  if (HasFatalFailure()) return

TEST_P(Sandbox, sees_only_itself) {
  START(s);
  EXPECT_EQ(s.ask("os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0)"), "(2, 0, 2, 2)");
  EXPECT_EQ(s.ask("os.getresuid(), os.getresgid(), os.getgroups()"),
            "((1000, 1000, 1000), (1000, 1000, 1000), [])");
  EXPECT_EQ(s.ask("[n for n in os.listdir('/proc') if n.isdigit()]"), "['2']");
  EXPECT_EQ(s.ask("sorted(os.listdir('/'))").find("'old'"), std::string::npos);
  for (const char* name : {"environ", "fd", "maps", "root", "cwd"})
    EXPECT_EQ(s.ask(std::string("os.stat('/proc/1/") + name + "')"), "FileNotFoundError 2");
  // libc's HOME is set by the join; Python keeps a copy of the environment of its own.
  EXPECT_EQ(
      s.ask("subprocess.run(['/bin/sh', '-c', 'cd; pwd'], env=None, capture_output=True, text=True).stdout"),
      "'/session/home\\n'");
  EXPECT_EQ(s.ask("sorted(os.environ.items())"),
            "[('A', 'b c'), ('LC_CTYPE', 'C.UTF-8'), ('MYELIN_ENTER_LIBRARY', '/enter.so')]");
  EXPECT_EQ(s.ask("sorted(map(int, os.listdir('/proc/self/fd')))[:4], len(os.listdir('/proc/self/fd'))"),
            "([0, 1, 2, 3], 5)");
  EXPECT_EQ(s.ask("os.get_inheritable(3)"), "False");
  EXPECT_EQ(s.ask("socket.gethostname()"), "'cell'");
  EXPECT_EQ(s.ask("read('/etc/words')"), "'one\\ntwo\\\\'");
  EXPECT_EQ(s.ask("resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)"),
            "((64, 64), (0, 0))");
  EXPECT_EQ(s.ask("subprocess.run(['/bin/sh', '-c', 'ulimit -n'], capture_output=True, text=True).stdout"),
            "'64\\n'");
}

TEST_P(Sandbox, files) {
  START(s);
  EXPECT_EQ(s.ask("write('/here', 'x')"), "OSError 30");
  EXPECT_EQ(s.ask("write('/usr/here', 'x')"), "OSError 30");
  EXPECT_EQ(s.ask("write('/env/module', 'x')"), "OSError 30");
  EXPECT_EQ(s.ask("read('/env/module')"), "'module'");  // its parent is 0700
  EXPECT_EQ(s.ask("os.listdir('/.myelin')"), "[]");
  EXPECT_EQ(s.ask("os.path.exists('" + top_.string() + "')"), "False");
  EXPECT_EQ(s.ask("os.getcwd(), sorted(os.listdir('/session/home'))"), "('/session/home', ['work'])");
  EXPECT_EQ(s.ask("read('/tmp/below/deep/here')"), "'seen'");
  EXPECT_EQ(s.ask("write('/tmp/below/deep/here', '')"), "OSError 30");
  EXPECT_EQ(s.ask("write('/tmp/x', 'abc'), write('/dev/shm/x', 'abc'), write('/dev/null', 'abc')"),
            "(3, 3, 3)");
  EXPECT_EQ(s.ask("read('/session/tmp/x')"), "'abc'");
  EXPECT_EQ(s.ask("read('/data/set/data')"), "'shared'");
  EXPECT_EQ(s.ask("write('/data/set/data', 'x')"), "OSError 30");
  EXPECT_EQ(s.ask("len(os.urandom(4)), len(open('/dev/urandom', 'rb').read(4))"), "(4, 4)");
  for (const char* place : {"/session/home", "/session/home/work", "/tmp", "/dev/shm", "/data/set"})
    EXPECT_EQ(s.ask(std::string("os.statvfs('") + place + "').f_flag & 6"), "6") << place;  // nosuid, nodev
  EXPECT_EQ(s.ask("os.mknod('/tmp/disk', 0o60600, os.makedev(8, 0))"), "PermissionError 1");
}

TEST_P(Sandbox, scratch_is_bounded) {
  START(s);
  for (const char* path : {"/tmp/big", "/dev/shm/big", "/session/home/big"})
    EXPECT_EQ(s.ask(std::string("fill('") + path + "')"), "'ENOSPC'") << path;
}

TEST_P(Sandbox, work_is_the_user_s_own_and_stays) {
  START(s);
  EXPECT_EQ(s.ask("write('work/kept', 'kept')"), "4");
  struct stat info {};
  ASSERT_EQ(::stat((top_ / "users/anna/kept").c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, uid_);
  // A link planted there leads a later session nowhere but into its own root.
  EXPECT_EQ(s.ask("os.symlink('../bob/secret', 'work/link')"), "None");
  Session again, bob;
  join(again);
  join(bob, "bob");
  if (HasFatalFailure()) return;
  EXPECT_EQ(again.ask("read('work/kept')"), "'kept'");
  EXPECT_EQ(again.ask("read('work/link')"), "FileNotFoundError 2");
  EXPECT_EQ(bob.ask("read('work/secret'), os.path.exists('work/kept')"), "(\"bob's\", False)");
  EXPECT_EQ(s.ask("write('/tmp/mine', 'x')"), "1");
  EXPECT_EQ(again.ask("os.path.exists('/tmp/mine')"), "False");
}

TEST_P(Sandbox, user_names_lead_nowhere_else) {
  start_all();
  if (HasFatalFailure()) return;
  for (const char* user : {"..", ".", "anna/../bob", "absent"}) {
    auto pair = socket_pair(SocketKind::stream);
    auto program = make_sealed_memfd("filter", filter_);
    ASSERT_TRUE(send_message(keeper_control_.get(), "init"));
    std::vector<UniqueFd> init;
    ASSERT_EQ(next(&init).substr(0, 5), "init ");
    std::vector<int> fds{program->get(), pair->second.get(), 2, init.at(0).get()};
    ASSERT_TRUE(send_message(zygote_control_.get(),
                             std::string("{'user': b'") + user + "', 'home': b'/session/home', 'mounts': []}",
                             fds));
    ASSERT_TRUE(wait_readable(pair->first.get(), patience_ms));
    std::string said = receive_message(pair->first.get(), 100)->bytes;
    EXPECT_EQ(said, std::string(user) == "absent" ? "join failed: work -2\n" : "join failed: user -22\n")
        << user;
    (void)receive_message(zygote_control_.get(), 100);
  }
}

TEST_P(Sandbox, has_no_power) {
  START(s);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_EQ(s.ask(std::string("int(status('") + set + "'), 16)"), "0") << set;
  EXPECT_EQ(s.ask("status('Seccomp'), status('NoNewPrivs')"), "('2', '1')");
  EXPECT_EQ(s.ask("os.setuid(0)"), "OSError 22");
  EXPECT_EQ(s.ask("os.kill(1, 9)"),
            "None");  // "sent", and ignored: no namespace can kill its init from inside
  EXPECT_EQ(s.ask("os.kill(-1, 9)"), "ProcessLookupError 3");  // nobody else is there
  EXPECT_FALSE(is_dead(s.init));
  // The group of the zygote would be reachable across namespaces.
  EXPECT_EQ(s.ask("signal.signal(signal.SIGTERM, signal.SIG_IGN), os.kill(0, signal.SIGTERM)").substr(0, 1),
            "(");
  EXPECT_EQ(s.ask("1+1"), "2");
  EXPECT_FALSE(is_dead(zygote_));
  EXPECT_FALSE(is_dead(keeper_.pid));
}

TEST_P(Sandbox, filter_denies) {
  START(s);
  auto call = [&](const std::string& arguments) { return s.ask("call(" + arguments + ")"); };
#ifdef __x86_64__
  EXPECT_EQ(call("272, 0x10000000"), "'EPERM'");             // unshare(CLONE_NEWUSER)
  EXPECT_EQ(call("56, 0x10000011, 0, 0, 0, 0"), "'EPERM'");  // clone(CLONE_NEWUSER)
  EXPECT_EQ(call("435, 0, 0"), "'ENOSYS'");                  // clone3
  EXPECT_EQ(call("308, 0, 0"), "'EPERM'");                   // setns
  EXPECT_EQ(call("165, 0, 0, 0, 0, 0"), "'EPERM'");          // mount
  EXPECT_EQ(call("161, 0"), "'EPERM'");                      // chroot
  EXPECT_EQ(call("101, 0, 0, 0, 0"), "'EPERM'");             // ptrace
  EXPECT_EQ(call("250, 0, 0"), "'EPERM'");                   // keyctl
  EXPECT_EQ(call("321, 0, 0, 0"), "'EPERM'");                // bpf
  EXPECT_EQ(call("425, 1, 0"), "'EPERM'");                   // io_uring_setup
  EXPECT_EQ(call("323, 0"), "'EPERM'");                      // userfaultfd
  EXPECT_EQ(call("467, 0, 0, 0, 0, 0"), "'EPERM'");          // open_tree_attr
  EXPECT_EQ(call("16, 0, 0x5412, 0"), "'EPERM'");            // ioctl(TIOCSTI)
  EXPECT_EQ(call("16, 0, 0x700005412, 0"), "'EPERM'");       // the same with bits the kernel ignores
  EXPECT_EQ(call("135, 0xffffffff"), "'ok'");                // personality: asking
  EXPECT_EQ(call("135, 0x40000"), "'EPERM'");                // and changing
  EXPECT_EQ(call("41, 16, 3, 0"), "'EAFNOSUPPORT'");         // socket(AF_NETLINK)
  EXPECT_EQ(call("41, 0x100000010, 3, 0"), "'EAFNOSUPPORT'");
  EXPECT_EQ(call("41, 17, 3, 0"), "'EAFNOSUPPORT'");  // AF_PACKET
  EXPECT_EQ(call("41, 40, 1, 0"), "'EAFNOSUPPORT'");  // AF_VSOCK
  EXPECT_EQ(call("239, 0, 0, 0, 0, 0"), "'ok'");      // get_mempolicy: OpenMP and BLAS want it
  // x32's numbers: killed by SIGSYS, not answered.
  EXPECT_EQ(s.ask("in_child(lambda: call(0x40000000 + 39)) & 127"), std::to_string(SIGSYS));
#endif
  EXPECT_EQ(s.ask("os.sched_setaffinity(0, os.sched_getaffinity(0))"), "None");
  EXPECT_EQ(s.ask("subprocess.run(['/bin/true']).returncode"), "0");
  EXPECT_EQ(s.ask("[a.close() for a in socket.socketpair()]"), "[None, None]");
}

TEST_P(Sandbox, network_is_its_own) {
  START(s);
  UniqueFd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(listening.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listening.get(), 1), 0);
  socklen_t size = sizeof address;
  ::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size);
  EXPECT_EQ(s.ask("socket.create_connection(('127.0.0.1', " + std::to_string(ntohs(address.sin_port)) + "))"),
            "ConnectionRefusedError 111");
  EXPECT_EQ(s.ask("socket.create_connection(('192.0.2.1', 80), 5)"), "OSError 101");
  EXPECT_EQ(s.ask("loopback()"), "True");
  EXPECT_EQ(s.ask("[name for _, name in socket.if_nameindex()]").substr(0, 2), "OS");  // netlink is denied
}

TEST_P(Sandbox, killing_the_keeper_kills_all) {
  START(s);
  EXPECT_EQ(s.ask("subprocess.Popen(['/bin/sleep', '100'], start_new_session=True).pid"), "3");
  std::array roots{s.pid};
  EXPECT_EQ(tree_use(roots).processes, 2u);
  (void)send_signal(keeper_.pidfd.get(), SIGKILL);
  for (pid_t pid : {keeper_.pid, zygote_, s.init, s.pid}) EXPECT_TRUE(dies_soon(pid)) << pid;
}

TEST_P(Sandbox, closing_the_control_socket_kills_all) {
  START(s);
  Session second;
  join(second, "bob");
  if (HasFatalFailure()) return;
  keeper_control_.reset();
  for (pid_t pid : {keeper_.pid, zygote_, s.init, s.pid, second.init, second.pid})
    EXPECT_TRUE(dies_soon(pid)) << pid;
}

TEST_P(Sandbox, a_killed_init_takes_its_session_only) {
  START(s);
  Session second;
  join(second, "bob");
  if (HasFatalFailure()) return;
  EXPECT_TRUE(*send_signal(s.init_pidfd.get(), SIGKILL));
  EXPECT_TRUE(dies_soon(s.pid));
  EXPECT_EQ(second.ask("1+1"), "2");
}

TEST_P(Sandbox, a_session_outlives_its_zygote) {
  START(s);
  (void)send_signal(zygote_pidfd_.get(), SIGKILL);
  EXPECT_EQ(next_exit(), "exit " + std::to_string(zygote_) + " 9");
  EXPECT_EQ(s.ask("1+1"), "2");
  EXPECT_EQ(s.ask("in_child(lambda: None)"), "0");
  (void)send_message(s.channel.get(), "os._exit(7)\n");
  EXPECT_EQ(next_exit(), "exit " + std::to_string(s.pid) + " " + std::to_string(7 << 8));
  start_zygote();  // the keeper goes on, too
  if (HasFatalFailure()) return;
  Session other;
  join(other);
}

TEST_P(Sandbox, keeper_ignores_a_terminal_s_signals) {
  START(s);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE})
    (void)send_signal(keeper_.pidfd.get(), signal);
  EXPECT_EQ(s.ask("1+1"), "2");
  // And what it starts does not inherit that: an ignored signal would survive an exec.
  auto text = read_text("/proc/" + std::to_string(zygote_) + "/status");
  ASSERT_TRUE(text);
  auto mark = text->find("SigIgn:");
  // SIGPIPE and SIGXFSZ are Python's own doing; above 31 are the real-time ones, of which libc keeps two to
  // itself.
  EXPECT_EQ(std::stoull(text->substr(mark + 8, 16), nullptr, 16) & 0x7fffffff,
            (1ull << (SIGPIPE - 1)) | (1ull << (SIGXFSZ - 1)));
  mark = text->find("SigBlk:");
  EXPECT_EQ(std::stoull(text->substr(mark + 8, 16), nullptr, 16), 0u);
}

TEST_P(Sandbox, mistakes_are_answered) {
  start_all();
  if (HasFatalFailure()) return;
  (void)send_message(keeper_control_.get(), "dance");
  EXPECT_EQ(next(), "error request 22 dance: Invalid argument");
  (void)send_message(keeper_control_.get(), "zygote");
  EXPECT_EQ(next().substr(0, 15), "error zygote 22");
  Session s;
  join(s);
}

TEST_P(Sandbox, a_bad_configuration_is_named) {
  const std::string good = configuration_;
  const std::pair<const char*, const char*> cases[] = {
      {"bind ro /does/not/exist /x\n", "error bind 2 /does/not/exist"},
      {"bind ro /usr /a/../../x\n", "error target 22"},
      {"bind ro /usr /proc/x\n", "error target 22"},
      {"bind rx /usr /x\n", "error configuration 22"},
      {"jump high\n", "error configuration 22 jump"},
      {"bind ro /usr /usr/share/not-there\n", "error bind 2"}};
  for (const auto& [line, said] : cases) {
    configuration_ = good + line;
    start_keeper();
    if (HasFatalFailure()) return;
    EXPECT_EQ(next().substr(0, std::string(said).size()), said) << line;
    auto status = wait_and_reap(keeper_, patience_ms);
    ASSERT_TRUE(status);
    EXPECT_EQ(describe_wait_status(*status), "exit code 1");
  }
  keeper_.pid = -1;
  EXPECT_FALSE(fs::exists("/usr/share/not-there"));
}

TEST_P(Sandbox, probe) {
  auto run = [&] {
    auto pair = socket_pair(SocketKind::stream);
    auto child = start("probe", -1, pair->second.get());
    pair->second.reset();
    (void)wait_and_reap(*child, patience_ms);
    return receive_message(pair->first.get(), 1000)->bytes;
  };
  EXPECT_EQ(run(), "ok\n");
  configuration_ += "bind ro /does/not/exist /x\n";
  EXPECT_EQ(run(), "bind 2 /does/not/exist: No such file or directory\n");
}

TEST_P(Sandbox, spaces_in_paths) {
  fs::create_directory(top_ / "with space\\");
  std::ofstream(top_ / "with space\\/file") << "found";
  configuration_ += "bind ro " + top_.string() + "/with\\sspace\\\\ /also\\sone\n";
  START(s);
  EXPECT_EQ(s.ask("read('/also one/file')"), "'found'");
}

TEST_P(Sandbox, reduced_mode) {
  std::string uid = by_root() ? "uid " + std::to_string(uid_) + "\ngid " + std::to_string(gid_) + "\n" : "";
  configuration_ = "namespaces 0\n" + uid + "env MYELIN_ENTER_LIBRARY=" + (top_ / "tools/enter.so").string() +
                   "\narg " + python + "\narg -I\narg " + (top_ / "tools/zygote.py").string() + "\n";
  start_all();
  if (HasFatalFailure()) return;
  ASSERT_TRUE(send_message(keeper_control_.get(), "init"));
  EXPECT_EQ(next().substr(0, 11), "error init ");
  Session s;
  join(s, "", (top_ / "users/anna").string(), true);
  if (HasFatalFailure()) return;
  EXPECT_EQ(s.ask("os.getuid()"), std::to_string(uid_));
  EXPECT_EQ(s.ask("status('Seccomp'), status('NoNewPrivs'), int(status('CapEff'), 16)"), "('2', '1', 0)");
  EXPECT_EQ(s.ask("resource.getrlimit(resource.RLIMIT_NOFILE)[0], os.getcwd()"),
            "(64, '" + (top_ / "users/anna").string() + "')");
  // A grandchild in a session of its own does not get away either.
  pid_t away = std::stoi(s.ask("subprocess.Popen(['/bin/sleep', '100'], start_new_session=True).pid"));
  keeper_control_.reset();
  for (pid_t pid : {keeper_.pid, zygote_, s.pid, away}) EXPECT_TRUE(dies_soon(pid)) << pid;
}

INSTANTIATE_TEST_SUITE_P(By, Sandbox, testing::Values("root", "nobody"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace myelin::os
