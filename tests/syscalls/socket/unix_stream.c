// Local stream sockets: states, errors, poll bits, half-closed ends, addresses.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int pipes;
static void on_pipe(int n) { pipes++; (void)n; }
#define R(call) ({ errno = 0; long r_ = (call); printf("%d %s = %ld %s\n", __LINE__, #call, r_, r_ < 0 ? strerrorname_np(errno) : ""); r_; })
static void bits(const char *what, int fd) {
  struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLWRBAND, 0};
  int n = poll(&p, 1, 0);
  printf("%s: %d %#x\n", what, n, p.revents);
}
static int opt(int fd, int name) { int v = -1; socklen_t l = sizeof v; if (getsockopt(fd, SOL_SOCKET, name, &v, &l)) return -errno; return v; }
static socklen_t un(struct sockaddr_un *a, const char *path, int abstract) {
  memset(a, 0, sizeof *a); a->sun_family = AF_UNIX;
  if (abstract) { memcpy(a->sun_path + 1, path, strlen(path)); return 3 + strlen(path); }
  strcpy(a->sun_path, path); return 3 + strlen(path);
}

int main(void) {
  signal(SIGPIPE, on_pipe);
  int s[2]; char buf[65536]; void *volatile nowhere = (void *)1;
  setvbuf(stdout, 0, _IOLBF, 0);
  R(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
  R(fcntl(s[0], F_GETFD)); R(fcntl(s[0], F_GETFL));
  printf("%d %d %d %d %d %d\n", opt(s[0], SO_TYPE), opt(s[0], SO_DOMAIN), opt(s[0], SO_PROTOCOL), opt(s[0], SO_ACCEPTCONN), opt(s[0], SO_ERROR), opt(s[0], SO_SNDBUF));
  bits("fresh", s[0]);
  R(write(s[0], "hello", 5)); R(write(s[0], "world", 5));
  int n; R(ioctl(s[1], FIONREAD, &n)); printf("%d\n", n);
  bits("readable", s[1]);
  R(recv(s[1], buf, 3, MSG_PEEK)); R(recv(s[1], buf, 100, 0)); printf("%.10s\n", buf);
  R(recv(s[1], buf, 10, MSG_DONTWAIT));
  R(recv(s[1], buf, 10, MSG_OOB)); 
  R(sendto(s[0], "x", 1, 0, (void *)"\1\0x", 4));
  R(shutdown(s[0], SHUT_WR)); bits("shut wr", s[0]); bits("peer shut", s[1]);
  R(read(s[1], buf, 10)); R(write(s[0], "x", 1)); printf("pipes %d\n", pipes);
  R(send(s[0], "x", 1, MSG_NOSIGNAL)); printf("pipes %d\n", pipes);
  R(write(s[1], "back", 4)); R(read(s[0], buf, 10));
  R(shutdown(s[1], 7)); R(lseek(s[0], 0, 0)); R(pread(s[0], buf, 1, 0));
  close(s[1]); bits("peer closed", s[0]); R(read(s[0], buf, 1)); R(getpeername(s[0], (void *)buf, &(socklen_t){100}));
  close(s[0]);

  R(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  R(write(s[0], "unread", 6)); close(s[1]); bits("reset", s[0]); R(read(s[0], buf, 1)); R(read(s[0], buf, 1)); R(write(s[0], "x", 1)); close(s[0]);

  R(socket(AF_UNIX, 77, 0)); R(socket(AF_UNIX, SOCK_STREAM, 5)); R(socket(99, SOCK_STREAM, 0)); R(socket(AF_UNIX, SOCK_STREAM | 0x100000, 0));
  int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0);
  bits("unconnected", c); R(read(c, buf, 1)); R(write(c, "x", 1)); R(listen(l, 5)); R(accept(l, 0, 0));
  struct sockaddr_un a; socklen_t len = un(&a, "sock", 0);
  R(connect(c, (void *)&a, len));
  R(bind(l, (void *)&a, len)); R(bind(l, (void *)&a, len)); R(bind(c, (void *)&a, len));
  struct stat st; R(stat("sock", &st)); printf("%o %ld\n", st.st_mode & S_IFMT, (long)st.st_size);
  R(connect(c, (void *)&a, len));
  R(listen(l, 1)); R(open("sock", O_RDWR)); bits("listener", l); R(write(l, "x", 1)); R(read(l, buf, 1)); R(ioctl(l, FIONREAD, &n));
  printf("accepting %d\n", opt(l, SO_ACCEPTCONN));
  R(connect(c, (void *)&a, len)); bits("connected", c); bits("listener", l); R(connect(c, (void *)&a, len)); R(listen(c, 1));
  int c2 = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), c3 = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  R(connect(c2, (void *)&a, len)); R(connect(c3, (void *)&a, len));
  R(write(c, "early", 5));
  struct sockaddr_un p; socklen_t pl = sizeof p; int d = R(accept4(l, (void *)&p, &pl, SOCK_CLOEXEC)); printf("peer %d %d\n", pl, p.sun_family);
  R(read(d, buf, 10));
  pl = sizeof p; R(getsockname(d, (void *)&p, &pl)); printf("%d %s\n", pl, p.sun_path);
  pl = sizeof p; R(getpeername(c, (void *)&p, &pl)); printf("%d %s\n", pl, p.sun_path);
  pl = 4; R(getpeername(c, (void *)&p, &pl)); printf("%d\n", pl);
  pl = sizeof p; R(getsockname(c, (void *)&p, &pl)); printf("%d\n", pl);
  struct ucred uc; socklen_t ul = sizeof uc; R(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &uc, &ul)); printf("%d %d\n", uc.pid == getpid(), uc.uid == getuid());
  R(getsockopt(c2, SOL_SOCKET, SO_PEERCRED, &uc, &ul));
  close(l); bits("pending reset", c2); R(read(c2, buf, 1)); R(connect(c3, (void *)&a, len));
  close(d); bits("peer gone", c);
  len = un(&a, "missing", 0); R(connect(c3, (void *)&a, len)); len = un(&a, ".", 0); R(connect(c3, (void *)&a, len));
  l = socket(AF_UNIX, SOCK_STREAM, 0); len = un(&a, "abstract-name-of-a-test", 1); R(bind(l, (void *)&a, len)); R(listen(l, -1));
  R(connect(c3, (void *)&a, len)); d = R(accept(l, 0, 0)) ; pl = sizeof p; R(getpeername(c3, (void *)&p, &pl)); printf("%d %s\n", pl, p.sun_path + 1);
  int e = socket(AF_UNIX, SOCK_STREAM, 0); R(bind(e, (void *)&a, len)); a.sun_family = AF_UNIX; R(bind(e, (void *)&a, 2)); pl = sizeof p; R(getsockname(e, (void *)&p, &pl)); printf("%d\n", pl);
  int dg = socket(AF_UNIX, SOCK_DGRAM, 0); R(connect(dg, (void *)&a, len)); R(listen(dg, 1)); R(bind(dg, (void *)&a, 1)); R(bind(dg, (void *)&a, 200));
  // Buffers: what one side takes without a reader.
  R(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s)); memset(buf, 'a', sizeof buf);
  int v = 1000; R(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, 4)); printf("%d\n", opt(s[0], SO_SNDBUF));
  v = 10000; R(setsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &v, 4)); printf("%d\n", opt(s[0], SO_RCVBUF));
  v = 1 << 30; R(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &v, 4)); printf("%d\n", opt(s[0], SO_SNDBUF) > 200000);
  long total = 0; for (long w; (w = write(s[0], buf, sizeof buf)) > 0;) total += w;
  printf("%s %d\n", strerrorname_np(errno), total > 100000); bits("full", s[0]);
  while (read(s[1], buf, sizeof buf) > 0) {} bits("drained", s[0]);
  R(setsockopt(s[0], SOL_SOCKET, 9999, &v, 4)); R(setsockopt(s[0], 6, 1, &v, 4)); R(getsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, &(socklen_t){0}));
  R(setsockopt(s[0], SOL_SOCKET, SO_TYPE, &v, 4)); R(setsockopt(s[0], SOL_SOCKET, SO_PASSCRED, &v, 2));
  R(bind(0, (void *)&a, len)); R(listen(99, 1));
  struct timeval tv = {0, 50000}; fcntl(s[1], F_SETFL, 0); R(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv)); R(read(s[1], buf, 1));
  tv.tv_usec = 2000000; R(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
  write(s[0], "abcdef", 6); R(recv(s[1], buf, 10, MSG_WAITALL)); R(recv(s[1], nowhere, 10, MSG_DONTWAIT)); write(s[0], "ab", 2); R(read(s[1], nowhere, 10)); R(read(s[1], buf, 10));
  R(fstat(s[0], &st)); printf("%o %ld\n", st.st_mode, (long)st.st_size);
  unlink("sock");
  return 0;
}
