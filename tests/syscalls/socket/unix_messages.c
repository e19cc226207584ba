// Datagrams and packets, SCM_RIGHTS, SCM_CREDENTIALS, sendmmsg and recvmmsg.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int pipes;
static void on_pipe(int n) { pipes++; (void)n; }
#define R(call) ({ errno = 0; long r_ = (call); printf("%d %s = %ld %s\n", __LINE__, #call, r_, r_ < 0 ? strerrorname_np(errno) : ""); r_; })
static void bits(const char *what, int fd) {
  struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM | POLLWRBAND, 0};
  int n = poll(&p, 1, 0);
  printf("%s: %d %#x\n", what, n, p.revents);
}
static char control[512];
static long put(int fd, const char *text, const int *fds, int n, int flags) {
  struct iovec v = {(void *)text, strlen(text)};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
  if (n) {
    m.msg_control = control; m.msg_controllen = CMSG_SPACE(4 * n);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m); c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(4 * n);
    memcpy(CMSG_DATA(c), fds, 4 * n);
  }
  return sendmsg(fd, &m, flags);
}
static long get(int fd, size_t room, size_t croom, int flags) {
  char buf[100] = ""; char ctl[512]; struct sockaddr_un a;
  struct iovec v = {buf, room};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = croom, .msg_name = &a, .msg_namelen = sizeof a};
  long r = recvmsg(fd, &m, flags);
  int e = errno;
  printf("  got %ld '%s' flags %#x name %d control %zu", r, buf, r < 0 ? 0 : m.msg_flags, r < 0 ? 0 : (int)m.msg_namelen, r < 0 ? 0 : m.msg_controllen);
  if (r >= 0) for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    printf(" [%d %d %zu", c->cmsg_level, c->cmsg_type, c->cmsg_len);
    if (c->cmsg_type == SCM_RIGHTS) for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / 4; i++) {
      int got; memcpy(&got, CMSG_DATA(c) + 4 * i, 4); printf(" %d:%d", got, fcntl(got, F_GETFD)); close(got);
    } else { struct ucred u; memcpy(&u, CMSG_DATA(c), sizeof u); printf(" %d %d %d", u.pid == getpid(), u.uid == getuid(), u.gid == getgid()); }
    printf("]");
  }
  printf("\n"); errno = e; return r;
}

static void pair(int kind) {
  int s[2], n; char buf[100];
  printf("--- %d\n", kind);
  R(socketpair(AF_UNIX, kind | SOCK_NONBLOCK, 0, s));
  bits("fresh", s[0]);
  R(put(s[0], "one", 0, 0, 0)); R(put(s[0], "second", 0, 0, MSG_EOR)); R(put(s[0], "", 0, 0, 0));
  R(ioctl(s[1], FIONREAD, &n)); printf("%d\n", n);
  R(get(s[1], 99, 100, MSG_PEEK)); R(get(s[1], 2, 100, 0)); R(get(s[1], 2, 100, MSG_TRUNC)); R(get(s[1], 99, 0, 0)); R(get(s[1], 99, 0, 0));
  int fds[3] = {0, 1, 2};
  R(put(s[0], "fds", fds, 3, 0)); R(get(s[1], 99, 512, MSG_CMSG_CLOEXEC));
  R(put(s[0], "fds", fds, 3, 0)); R(get(s[1], 99, CMSG_LEN(4), 0));
  R(put(s[0], "fds", fds, 3, 0)); R(get(s[1], 99, CMSG_LEN(8), 0));
  R(put(s[0], "fds", fds, 3, 0)); R(get(s[1], 99, 8, 0));
  R(put(s[0], "fds", fds, 1, 0)); R(read(s[1], buf, 100));
  R(put(s[0], "a", 0, 0, 0)); R(put(s[0], "b", fds, 1, 0)); R(put(s[0], "c", 0, 0, 0)); R(get(s[1], 99, 512, 0)); R(get(s[1], 99, 512, 0)); R(get(s[1], 99, 512, 0));
  int bad = 77; R(put(s[0], "fds", &bad, 1, 0));
  int on = 1; R(setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, 4)); R(put(s[0], "who", 0, 0, 0)); R(get(s[1], 99, 512, 0)); R(put(s[0], "who", fds, 1, 0)); R(get(s[1], 99, 512, 0));
  struct mmsghdr mm[3] = {0}; struct iovec v[3]; char got[3][8];
  for (int i = 0; i < 3; i++) { v[i].iov_base = got[i]; v[i].iov_len = i + 1; memcpy(got[i], "abcdefg", 8); mm[i].msg_hdr.msg_iov = &v[i]; mm[i].msg_hdr.msg_iovlen = 1; }
  R(sendmmsg(s[0], mm, 3, 0)); printf("%u %u %u\n", mm[0].msg_len, mm[1].msg_len, mm[2].msg_len);
  for (int i = 0; i < 3; i++) v[i].iov_len = 8;
  R(recvmmsg(s[1], mm, 3, MSG_WAITFORONE, 0)); printf("%u\n", mm[0].msg_len);
  int count = 0; while (send(s[0], "x", 1, 0) == 1 && count < 2000) count++;
  printf("%s %d\n", strerrorname_np(errno), kind == SOCK_STREAM ? count > 10 : count); bits("full", s[0]);
  while (recv(s[1], buf, 100, 0) > 0) {}
  bits("empty", s[0]);
  R(shutdown(s[1], SHUT_RD)); bits("shut", s[1]); bits("other", s[0]); R(send(s[0], "x", 1, 0)); printf("pipes %d\n", pipes); R(recv(s[1], buf, 1, 0)); R(recv(s[1], buf, 1, MSG_DONTWAIT));
  close(s[1]); bits("closed", s[0]); R(send(s[0], "x", 1, 0)); printf("pipes %d\n", pipes); R(recv(s[0], buf, 1, 0)); R(send(s[0], "x", 1, 0)); R(recv(s[0], buf, 1, 0));
  close(s[0]);
}

static void datagrams(void) {
  struct sockaddr_un a = {AF_UNIX, "dg"}, b = {AF_UNIX, "dg2"}; char buf[100];
  int x = socket(AF_UNIX, SOCK_DGRAM, 0), y = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  R(send(y, "x", 1, 0)); R(sendto(y, "x", 1, 0, (void *)&a, sizeof a)); R(bind(x, (void *)&a, sizeof a));
  R(sendto(y, "hey", 3, 0, (void *)&a, sizeof a)); R(get(x, 99, 100, 0)); R(bind(y, (void *)&b, sizeof b)); R(sendto(y, "hey", 3, 0, (void *)&a, sizeof a)); R(get(x, 99, 100, 0));
  R(connect(x, (void *)&b, sizeof b)); int z = socket(AF_UNIX, SOCK_DGRAM, 0); R(sendto(z, "x", 1, 0, (void *)&a, sizeof a)); R(connect(z, (void *)&a, sizeof a));
  R(sendto(y, "ok", 2, 0, (void *)&a, sizeof a)); R(read(x, buf, 100)); R(write(x, "ok", 2)); R(read(y, buf, 100)); R(read(y, buf, 100));
  int n = 0; while (sendto(y, "x", 1, MSG_DONTWAIT, (void *)&a, sizeof a) == 1) n++; printf("%d %s\n", n, strerrorname_np(errno));
  static char big[300000]; R(send(x, big, sizeof big, 0)); R(send(x, big, 100000, 0));
  struct sockaddr un = {AF_UNSPEC}; R(connect(x, &un, sizeof un)); R(send(x, "x", 1, 0)); R(connect(x, (void *)&b, sizeof b)); close(y); R(send(x, "x", 1, 0)); R(send(x, "x", 1, 0));
  unlink("dg"); unlink("dg2");
}

static void passing(void) {
  // A pipe's end through a child, then a socket sent into itself and forgotten.
  int s[2], p[2]; char c; socketpair(AF_UNIX, SOCK_STREAM, 0, s); if (pipe(p)) return;
  if (!fork()) { put(s[1], "p", &p[1], 1, 0); _exit(0); }
  close(p[1]); wait(0); char buf[64]; struct iovec v = {buf, 64}; struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  R(recvmsg(s[0], &m, 0)); int w; memcpy(&w, CMSG_DATA(CMSG_FIRSTHDR(&m)), 4); R(write(w, "!", 1)); R(read(p[0], &c, 1)); close(w); R(read(p[0], &c, 1));
  int ok = 0;
  for (int i = 0; i < 3000; i++) { int q[2]; if (socketpair(AF_UNIX, SOCK_DGRAM, 0, q)) break; if (put(q[0], "self", q, 2, 0) == 4) ok++; close(q[0]); close(q[1]); }
  printf("%d\n", ok);
}

int main(void) {
  signal(SIGPIPE, on_pipe); setvbuf(stdout, 0, _IOLBF, 0);
  pair(SOCK_STREAM); pair(SOCK_DGRAM); pair(SOCK_SEQPACKET); datagrams(); passing();
  return 0;
}
