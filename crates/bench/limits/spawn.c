// spawnbench: how many processes per second can one parent start and reap?
// Prints two numbers: tasks per second, and CPU microseconds per task (parent and children, user and system).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
enum { M_FORK, M_VFORK, M_SPAWN, M_FORKONLY };
enum { O_NONE, O_FILES, O_PIPE };
static int method = M_VFORK, out = O_NONE, uid = -1, cg = 0, flight = 4, procs = 1, ns = 0;
static long ntask = 4000, rss = 0;
static const char *prog = "/bin/true", *dir = "out", *cgroot = "/sys/fs/cgroup/unified/steadbench";

struct slot { pid_t pid; long id; int pr, pe, cgfd; char cgp[160]; };
struct child { char o[160], e[160]; int wo, we; };

static void usage(void) {
  fprintf(stderr, "spawnbench [-m fork|vfork|spawn|forkonly] [-n tasks] [-r parent RSS MiB] [-o none|files|pipe]\n"
    "  [-u uid (also gid and the only group)] [-c 0|1 fresh cgroup per task|2 pooled cgroups] [-k in flight]\n"
    "  [-j spawner processes] [-N 0|1 pid ns|2 pid+mount ns] [-p program]\n"); exit(2);
}
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }
static void die(const char *w) { perror(w); exit(1); }

// Runs in the child; only raw system calls, so it is safe after CLONE_VM|CLONE_VFORK.
static int child_main(void *p) {
  struct child *c = p;
  if (out == O_FILES && uid < 0) {
    int a = open(c->o, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0640), b = open(c->e, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0640);
    if (a < 0 || b < 0) _exit(120);
    dup2(a, 1); dup2(b, 2);
  } else if (out == O_PIPE) { dup2(c->wo, 1); dup2(c->we, 2); }
  if (uid >= 0) {
    gid_t g = uid;
    if (syscall(SYS_setgroups, 1, &g) || syscall(SYS_setresgid, g, g, g) || syscall(SYS_setresuid, uid, uid, uid)) _exit(121);
    if (out == O_FILES) {  // as the job's own user
      int a = open(c->o, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0640), b = open(c->e, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0640);
      if (a < 0 || b < 0) _exit(122);
      dup2(a, 1); dup2(b, 2);
    }
  }
  if (method == M_FORKONLY) _exit(0);
  char *av[] = {(char *)prog, NULL};
  execve(prog, av, environ);
  _exit(127);
}

static long do_clone3(struct clone_args *a, int (*fn)(void *), void *arg) {
  register int (*f)(void *) __asm__("r12") = fn;
  register void *g __asm__("r13") = arg;
  long ret;
  __asm__ volatile("syscall\n\ttest %%rax,%%rax\n\tjnz 1f\n\txor %%ebp,%%ebp\n\tmov %%r13,%%rdi\n\tcall *%%r12\n\t"
                   "mov %%eax,%%edi\n\tmov $60,%%eax\n\tsyscall\n1:"
                   : "=a"(ret) : "a"((long)SYS_clone3), "D"(a), "S"(sizeof *a), "r"(f), "r"(g) : "rcx", "r11", "memory");
  if (ret < 0) { errno = -ret; return -1; }
  return ret;
}

static char *stack;
#define STK (256 * 1024)
static void start(struct slot *s, long id) {
  struct child c;
  int po[2], pe[2];
  s->id = id; s->cgfd = -1;
  if (out == O_FILES) { snprintf(c.o, sizeof c.o, "%s/%d.%ld.o", dir, getpid(), id); snprintf(c.e, sizeof c.e, "%s/%d.%ld.e", dir, getpid(), id); }
  if (out == O_PIPE) { if (pipe2(po, O_CLOEXEC) || pipe2(pe, O_CLOEXEC)) die("pipe2"); c.wo = po[1]; c.we = pe[1]; s->pr = po[0]; s->pe = pe[0]; }
  if (cg) {
    if (cg == 1 || !s->cgp[0]) {
      snprintf(s->cgp, sizeof s->cgp, "%s/%d.%ld", cgroot, getpid(), id);
      if (mkdir(s->cgp, 0755)) die("mkdir cgroup");
    }
    s->cgfd = open(s->cgp, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->cgfd < 0) die("open cgroup");
  }
  if (method == M_SPAWN) {
    posix_spawn_file_actions_t fa;
    posix_spawn_file_actions_init(&fa);
    if (out == O_FILES) {
      posix_spawn_file_actions_addopen(&fa, 1, c.o, O_CREAT | O_TRUNC | O_WRONLY, 0640);
      posix_spawn_file_actions_addopen(&fa, 2, c.e, O_CREAT | O_TRUNC | O_WRONLY, 0640);
    } else if (out == O_PIPE) { posix_spawn_file_actions_adddup2(&fa, c.wo, 1); posix_spawn_file_actions_adddup2(&fa, c.we, 2); }
    char *av[] = {(char *)prog, NULL};
    int e = posix_spawn(&s->pid, prog, &fa, NULL, av, environ);
    if (e) { errno = e; die("posix_spawn"); }
    posix_spawn_file_actions_destroy(&fa);
  } else {
    struct clone_args a = {0};
    a.exit_signal = SIGCHLD;
    if (method == M_VFORK) { a.flags = CLONE_VM | CLONE_VFORK; a.stack = (uintptr_t)stack; a.stack_size = STK; }
    if (ns) a.flags |= CLONE_NEWPID;
    if (ns > 1) a.flags |= CLONE_NEWNS;
    if (cg) { a.flags |= CLONE_INTO_CGROUP; a.cgroup = s->cgfd; }
    long r = do_clone3(&a, child_main, &c);
    if (r < 0) die("clone3");
    s->pid = r;
  }
  if (out == O_PIPE) { close(po[1]); close(pe[1]); }
}
static void finish(struct slot *s) {
  char b[4096];
  if (out == O_PIPE) { while (read(s->pr, b, sizeof b) > 0); while (read(s->pe, b, sizeof b) > 0); close(s->pr); close(s->pe); }
  if (cg) { close(s->cgfd); if (cg == 1 && rmdir(s->cgp)) die("rmdir cgroup"); }
  s->pid = 0;
}
static double cpu(void) {
  struct rusage a, b; getrusage(RUSAGE_SELF, &a); getrusage(RUSAGE_CHILDREN, &b);
  return a.ru_utime.tv_sec + a.ru_stime.tv_sec + b.ru_utime.tv_sec + b.ru_stime.tv_sec + (a.ru_utime.tv_usec + a.ru_stime.tv_usec + b.ru_utime.tv_usec + b.ru_stime.tv_usec) * 1e-6;
}
static void worker(long n) {
  if (rss) {
    char *m = mmap(NULL, rss << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(m, rss << 20, MADV_NOHUGEPAGE);
    for (long i = 0; i < rss << 20; i += 4096) m[i] = 1;
  }
  stack = mmap(NULL, STK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  struct slot *s = calloc(flight, sizeof *s);
  long started = 0, done = 0;
  double t0 = now(), c0 = cpu();
  while (done < n) {
    for (int i = 0; i < flight && started < n; i++) if (!s[i].pid) start(&s[i], started++);
    int st; pid_t p = waitpid(-1, &st, 0);
    if (p < 0) die("waitpid");
    if (!WIFEXITED(st) || WEXITSTATUS(st)) { fprintf(stderr, "child status %x\n", st); exit(1); }
    for (int i = 0; i < flight; i++) if (s[i].pid == p) finish(&s[i]);
    done++;
  }
  double t1 = now();
  if (cg == 2) for (int i = 0; i < flight; i++) if (s[i].cgp[0]) rmdir(s[i].cgp);
  double d[3] = {t0, t1, cpu() - c0};
  if (write(3, d, sizeof d) != sizeof d) die("result");
}
int main(int argc, char **argv) {
  int o;
  while ((o = getopt(argc, argv, "m:n:r:o:u:c:k:j:N:p:d:")) != -1) switch (o) {
    case 'm': method = !strcmp(optarg, "fork") ? M_FORK : !strcmp(optarg, "vfork") ? M_VFORK : !strcmp(optarg, "spawn") ? M_SPAWN : M_FORKONLY; break;
    case 'n': ntask = atol(optarg); break; case 'r': rss = atol(optarg); break;
    case 'o': out = !strcmp(optarg, "files") ? O_FILES : !strcmp(optarg, "pipe") ? O_PIPE : O_NONE; break;
    case 'u': uid = atoi(optarg); break; case 'c': cg = atoi(optarg); break; case 'k': flight = atoi(optarg); break;
    case 'j': procs = atoi(optarg); break; case 'N': ns = atoi(optarg); break; case 'p': prog = optarg; break; case 'd': dir = optarg; break;
    default: usage();
  }
  mkdir(dir, 0777); chmod(dir, 0777);
  if (cg) mkdir(cgroot, 0755);
  int p[2]; if (pipe(p)) die("pipe");
  for (int j = 0; j < procs; j++) {
    pid_t c = fork();
    if (!c) { if (p[1] != 3) { dup2(p[1], 3); } fcntl(3, F_SETFD, FD_CLOEXEC); worker(ntask / procs); _exit(0); }
  }
  close(p[1]);
  double lo = 1e18, hi = 0, c = 0, d[3]; int got = 0;
  while (read(p[0], d, sizeof d) == sizeof d) { if (d[0] < lo) lo = d[0]; if (d[1] > hi) hi = d[1]; c += d[2]; got++; }
  while (wait(NULL) > 0);
  if (cg) rmdir(cgroot);
  if (got != procs) { fprintf(stderr, "a spawner failed\n"); return 1; }
  long all = ntask / procs * procs;
  printf("%.0f %.0f\n", all / (hi - lo), c * 1e6 / all);
}
