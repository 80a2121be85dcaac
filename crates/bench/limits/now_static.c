// Its first instructions read the clock: prints CLOCK_REALTIME in ns as 16 hexadecimal digits. No libc, no linker.
static long call(long n, long a, long b, long c) {
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return r;
}
void _start(void) {
  struct { long s, ns; } t;
  char text[17];
  call(228, 0, (long)&t, 0);
  unsigned long now = (unsigned long)t.s * 1000000000ul + (unsigned long)t.ns;
  for (int i = 15; i >= 0; i--, now >>= 4) text[i] = "0123456789abcdef"[now & 15];
  text[16] = '\n';
  call(1, 1, (long)text, 17);
  call(60, 0, 0, 0);
}
