// The compiled client of bench/run: one request sent again and again over one keep-alive connection.
// Usage: client HOST PORT COUNT PAUSE_US <REQUEST      (the request's bytes, head and body)
// Prints: median minimum p99 (microseconds) status bytes
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char request[1 << 20], answer[16 << 20];

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static void fail(const char* what) {
  fprintf(stderr, "client: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
  exit(1);
}

// Reads one whole answer; returns its size.
static size_t receive(int fd) {
  size_t have = 0, head = 0, length = 0;
  int chunked = 0;
  for (;;) {
    ssize_t got = recv(fd, answer + have, sizeof answer - 1 - have, 0);
    if (got <= 0) fail("the connection ended within an answer");
    have += (size_t)got;
    answer[have] = 0;
    if (!head) {
      char* end = strstr(answer, "\r\n\r\n");
      if (!end) continue;
      head = (size_t)(end - answer) + 4;
      for (char* line = strstr(answer, "\r\n"); line && line < end; line = strstr(line + 2, "\r\n")) {
        if (!strncasecmp(line + 2, "content-length:", 15)) length = strtoul(line + 17, NULL, 10);
        if (!strncasecmp(line + 2, "transfer-encoding: chunked", 26)) chunked = 1;
      }
    }
    if (chunked ? have >= head + 5 && !memcmp(answer + have - 5, "0\r\n\r\n", 5) : have >= head + length) return have;
    if (have == sizeof answer - 1) fail("the answer is too large for this client");
  }
}

int main(int argc, char** argv) {
  if (argc != 5) fail("usage: client HOST PORT COUNT PAUSE_US <REQUEST");
  const int count = atoi(argv[3]), pause = atoi(argv[4]), warm_up = count / 10 + 1;
  double* times = malloc(sizeof *times * (size_t)(count > 0 ? count : 1));
  const size_t size = fread(request, 1, sizeof request, stdin);
  const int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[2]))};
  if (!times || count < 1 || !size || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1) fail("bad arguments");
  if (fd < 0 || connect(fd, (struct sockaddr*)&address, sizeof address)) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  size_t bytes = 0;
  for (int i = -warm_up; i < count; ++i) {
    if (pause) usleep((useconds_t)pause);
    const double begin = now_us();
    if (send(fd, request, size, MSG_NOSIGNAL) != (ssize_t)size) fail("send");
    bytes = receive(fd);
    if (i >= 0) times[i] = now_us() - begin;
  }
  qsort(times, (size_t)count, sizeof *times, ascending);
  printf("%.2f %.2f %.2f %d %zu\n", times[count / 2], times[0], times[count * 99 / 100], atoi(answer + 9), bytes);
  return 0;
}
