// Writes COUNT times SIZE bytes of 100-byte lines to its standard output: a task that prints as fast as it can.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
  static char buf[1 << 16];
  if (argc != 3) return 2;
  long size = atol(argv[1]), count = atol(argv[2]);
  if (size < 1 || size > (long)sizeof buf) return 2;
  memset(buf, 'x', sizeof buf);
  for (long i = 99; i < (long)sizeof buf; i += 100) buf[i] = '\n';
  while (count-- > 0)
    for (long at = 0; at < size;) {
      long n = write(1, buf + at, size - at);
      if (n < 0) return 1;
      at += n;
    }
  return 0;
}
