// How fast output can go at all: child -> pipe -> relay -> loopback socket -> file. Prints GB/s.
// usage: relay CHILD_WRITE_SIZE TOTAL_MIB OUTFILE
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static void all(int f, const char *b, long n) { while (n > 0) { long k = write(f, b, n); if (k <= 0) _exit(9); b += k; n -= k; } }
int main(int argc, char **argv) {
  static char buf[1 << 20];
  const long block = 1 << 18;
  if (argc != 4) return 2;
  long size = atol(argv[1]), total = atol(argv[2]) << 20, got = 0, n;
  int p[2];
  if (pipe2(p, O_CLOEXEC)) return 1;
  fcntl(p[0], F_SETPIPE_SZ, 1 << 20);
  int file = open(argv[3], O_CREAT | O_TRUNC | O_WRONLY, 0600);
  if (file < 0) return 1;
  double began = now();
  if (!fork()) { memset(buf, 'x', size); close(p[0]); for (long i = 0; i < total; i += size) all(p[1], buf, size); _exit(0); }
  close(p[1]);
  int l = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t len = sizeof a;
  if (bind(l, (void *)&a, sizeof a) || listen(l, 1) || getsockname(l, (void *)&a, &len)) return 1;
  if (!fork()) {
    int k = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(k, (void *)&a, sizeof a)) _exit(1);
    while ((n = read(p[0], buf, block)) > 0) all(k, buf, n);
    _exit(0);
  }
  close(p[0]);
  int in = accept(l, 0, 0);
  while ((n = read(in, buf, block)) > 0) { all(file, buf, n); got += n; }
  double took = now() - began;
  if (got < total) { fprintf(stderr, "only %ld bytes arrived\n", got); return 1; }
  printf("%.3f\n", got / took / 1e9);
}
