// Internet sockets on loopback: states, errors, poll bits, options, interfaces, signals that end a wait.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static int pipes, alarms;
static void on_pipe(int n) { n == SIGPIPE ? pipes++ : alarms++; }
#define R(call) ({ errno = 0; long r_ = (call); printf("%d %s = %ld %s\n", __LINE__, #call, r_, r_ < 0 ? strerrorname_np(errno) : ""); r_; })
static void bits(const char *what, int fd) {
  struct pollfd p = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM, 0};
  int n = poll(&p, 1, 0);
  printf("%s: %d %#x\n", what, n, p.revents);
}
static void after(int ms, int restart) {
  struct sigaction a = {.sa_handler = on_pipe, .sa_flags = restart ? SA_RESTART : 0}; sigaction(SIGALRM, &a, 0);
  pid_t me = getpid(); if (!fork()) { usleep(ms * 1000); kill(me, SIGALRM); _exit(0); }
}

int main(void) {
  signal(SIGPIPE, on_pipe); setvbuf(stdout, 0, _IOLBF, 0);
  char buf[70000] = ""; struct sockaddr_in a = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}}, p; socklen_t n = sizeof a;
  int l = socket(AF_INET, SOCK_STREAM, 0), one = 1; bits("new", l); R(setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, 4));
  R(bind(l, (void *)&a, 5)); R(bind(l, (void *)&a, sizeof a)); R(bind(l, (void *)&a, sizeof a)); R(listen(l, 4)); n = sizeof a; R(getsockname(l, (void *)&a, &n)); bits("listening", l);
  fcntl(l, F_SETFL, O_NONBLOCK); R(accept(l, 0, 0)); fcntl(l, F_SETFL, 0);
  int c = socket(AF_INET, SOCK_STREAM, 0); R(read(c, buf, 1)); R(write(c, buf, 1)); printf("pipes %d\n", pipes); R(getpeername(c, (void *)&p, &n));
  R(connect(c, (void *)&a, sizeof a)); R(connect(c, (void *)&a, sizeof a)); n = sizeof p; int d = R(accept4(l, (void *)&p, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)); printf("%d %d\n", n, p.sin_family);
  R(fcntl(d, F_GETFL)); R(read(d, buf, 1)); bits("connected", d); R(write(c, "hello", 5)); poll(&(struct pollfd){d, POLLIN}, 1, 1000); int k; R(ioctl(d, FIONREAD, &k)); printf("%d\n", k);
  R(recv(d, buf, 2, MSG_PEEK)); R(recv(d, buf, 9, 0)); R(send(c, "!", 1, MSG_OOB)); poll(&(struct pollfd){d, POLLPRI}, 1, 1000); bits("urgent", d); R(recv(d, buf, 1, MSG_OOB));
  R(setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, 4)); k = 0; n = 4; R(getsockopt(c, IPPROTO_TCP, TCP_NODELAY, &k, &n)); printf("%d\n", k);
  n = 4; R(getsockopt(c, SOL_SOCKET, SO_ERROR, &k, &n)); printf("%d %d\n", k, n); n = 4; R(getsockopt(c, SOL_SOCKET, SO_PROTOCOL, &k, &n)); printf("%d\n", k);
  struct timeval tv = {0, 40000}; R(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv)); R(read(c, buf, 1)); struct timeval back; n = sizeof back; R(getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &back, &n)); printf("%ld\n", (long)back.tv_usec);
  R(shutdown(c, SHUT_WR)); poll(&(struct pollfd){d, POLLIN}, 1, 1000); bits("half", d); R(read(d, buf, 5)); R(write(d, "x", 1)); R(read(c, buf, 2)); R(write(c, "x", 1)); printf("pipes %d\n", pipes);
  close(d); poll(&(struct pollfd){c, POLLIN}, 1, 1000); bits("closed", c); R(read(c, buf, 1)); close(c);
  c = socket(AF_INET, SOCK_STREAM, 0); p = a; p.sin_port = htons(1); R(connect(c, (void *)&p, sizeof p)); close(c);
  c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); R(connect(c, (void *)&p, sizeof p)); poll(&(struct pollfd){c, POLLOUT}, 1, 1000); n = 4; R(getsockopt(c, SOL_SOCKET, SO_ERROR, &k, &n)); printf("%d\n", k); close(c);
  // A signal ends a wait, or not.
  after(30, 0); R(accept(l, 0, 0)); printf("alarms %d\n", alarms);
  after(30, 1); if (!fork()) { usleep(100000); c = socket(AF_INET, SOCK_STREAM, 0); connect(c, (void *)&a, sizeof a); memset(buf, 'b', sizeof buf); for (int i = 0; i < 100; i++) if (write(c, buf, sizeof buf) != sizeof buf) _exit(1); _exit(0); }
  d = R(accept(l, 0, 0)); long total = 0; for (long r; (r = read(d, buf, sizeof buf)) > 0;) total += r; int st = 0, one_st; while (wait(&one_st) > 0) st |= one_st; printf("alarms %d total %ld status %d\n", alarms, total, st); close(d);
  // A large blocking write that a signal interrupts after a part tells the part.
  c = socket(AF_INET, SOCK_STREAM, 0); R(connect(c, (void *)&a, sizeof a)); d = accept(l, 0, 0); static char big[64 << 20]; after(200, 0); long w = write(c, big, sizeof big); printf("part %d alarms %d\n", w > 0 && w < (long)sizeof big, alarms); close(c);
  total = 0; for (long r; (r = read(d, buf, sizeof buf)) > 0;) total += r; printf("same %d\n", total == w);
  int u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0); p = a; p.sin_port = 0; bind(u, (void *)&p, sizeof p); n = sizeof p; getsockname(u, (void *)&p, &n);
  R(sendto(v, "datagram", 8, 0, (void *)&p, sizeof p)); R(recv(u, buf, 3, MSG_TRUNC)); R(sendto(v, "", 0, 0, (void *)&p, sizeof p)); R(recv(u, buf, 3, 0)); R(sendto(v, big, 70000, 0, (void *)&p, sizeof p)); R(send(v, "x", 1, 0)); R(recv(u, buf, 1, MSG_DONTWAIT));
  R(connect(v, (void *)&p, sizeof p)); close(u); R(send(v, "x", 1, 0)); poll(&(struct pollfd){v, POLLIN}, 1, 1000); bits("refused", v); R(send(v, "x", 1, 0));
  struct ifreq ir = {0}; strcpy(ir.ifr_name, "lo"); R(ioctl(v, SIOCGIFFLAGS, &ir)); printf("%d\n", ir.ifr_flags & IFF_UP); R(ioctl(v, SIOCGIFINDEX, &ir)); printf("%d\n", ir.ifr_ifindex); R(ioctl(v, SIOCGIFADDR, &ir)); printf("%s\n", inet_ntoa(((struct sockaddr_in *)&ir.ifr_addr)->sin_addr));
  printf("%u %d\n", if_nametoindex("lo"), if_nametoindex("nope")); R(socket(AF_INET, SOCK_SEQPACKET, 0)); R(socket(AF_INET, SOCK_STREAM, 17)); R(socketpair(AF_INET, SOCK_STREAM, 0, (int[2]){0})); R(ioctl(v, 0x1234, buf)); R(setsockopt(v, SOL_SOCKET, 9999, &k, 4));
  return 0;
}
