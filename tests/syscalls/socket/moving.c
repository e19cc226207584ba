// sendfile, splice, tee, vmsplice, copy_file_range, preadv2, pwritev2, and advice.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define R(call) ({ errno = 0; long r_ = (call); printf("%d %s = %ld %s\n", __LINE__, #call, r_, r_ < 0 ? strerrorname_np(errno) : ""); r_; })
int main(void) {
  signal(SIGPIPE, SIG_IGN); setvbuf(stdout, 0, _IOLBF, 0);
  static char data[300000], back[300000]; for (int i = 0; i < (int)sizeof data; i++) data[i] = i * 7 + i / 251;
  int f = open("from", O_RDWR | O_CREAT | O_TRUNC, 0600), g = open("to", O_RDWR | O_CREAT | O_TRUNC, 0600), h = open("to", O_WRONLY | O_APPEND), dir = open(".", O_RDONLY), ro = open("from", O_RDONLY);
  write(f, data, sizeof data); int p[2], q[2], s[2]; R(pipe2(p, O_NONBLOCK)); R(pipe2(q, O_NONBLOCK)); socketpair(AF_UNIX, SOCK_STREAM, 0, s);
  off_t at = 10; R(lseek(f, 0, SEEK_CUR)); R(sendfile(g, f, &at, 1000)); printf("%ld %ld\n", (long)at, (long)lseek(f, 0, SEEK_CUR)); R(lseek(f, 5, SEEK_SET)); R(sendfile(g, f, 0, 50)); R(lseek(f, 0, SEEK_CUR)); R(lseek(g, 0, SEEK_CUR));
  R(pread(g, back, 1050, 0)); printf("%d\n", !memcmp(back, data + 10, 1000) && !memcmp(back + 1000, data + 5, 50));
  R(sendfile(ro, f, 0, 1)); R(sendfile(h, f, 0, 1)); R(sendfile(g, s[0], 0, 1)); R(sendfile(g, dir, 0, 1)); at = -1; R(sendfile(g, f, &at, 1)); R(sendfile(99, f, 0, 1)); { int q[2], t[2]; pipe(q); pipe(t); R(write(q[1], "piped", 5)); R(sendfile(g, q[0], 0, 9)); R(sendfile(t[1], q[0], 0, 9)); off_t o = 0; R(sendfile(g, q[0], &o, 9)); R(sendfile(g, s[0], &o, 9)); } at = sizeof data; R(sendfile(g, f, &at, 1));
  if (!fork()) { close(s[0]); long t = 0; for (long r; (r = read(s[1], back + t, sizeof back - t)) > 0;) t += r; _exit(t == sizeof data && !memcmp(back, data, t) ? 0 : 1); }
  at = 0; R(sendfile(s[0], f, &at, sizeof data)); printf("%ld\n", (long)at); shutdown(s[0], SHUT_WR); int st; wait(&st); printf("%d\n", st);
  R(splice(f, 0, p[1], 0, 0, 0)); at = 100; R(splice(f, &at, p[1], 0, 5000, 0)); printf("%ld\n", (long)at); R(tee(p[0], q[1], 3000, 0)); R(splice(p[0], 0, q[1], 0, 100000, 0)); R(splice(p[0], 0, q[1], 0, 1, 0)); R(read(q[0], back, 9000)); printf("%d\n", !memcmp(back, data + 100, 3000) && !memcmp(back + 3000, data + 100, 5000));
  R(splice(p[0], 0, p[1], 0, 1, 0)); R(splice(f, 0, g, 0, 1, 0)); R(splice(p[0], &at, g, 0, 1, 0)); R(splice(p[0], 0, g, 0, 1, 64)); R(splice(p[1], 0, g, 0, 1, 0)); write(p[1], "abcdef", 6); R(splice(p[0], 0, h, 0, 6, 0)); at = 3; R(splice(p[0], 0, g, &at, 4, 0)); printf("%ld\n", (long)at); R(splice(p[0], 0, s[0], 0, 100, 0)); 
  R(tee(f, q[1], 1, 0)); R(tee(p[0], p[1], 1, 0)); struct iovec v[2] = {{"one", 3}, {"two", 3}}; R(vmsplice(p[1], v, 2, 0)); R(read(p[0], back, 10)); R(vmsplice(f, v, 1, 0)); 
  R(lseek(g, 0, SEEK_SET)); R(lseek(f, 0, SEEK_SET)); R(copy_file_range(f, 0, g, 0, 200000, 0)); R(lseek(g, 0, SEEK_CUR)); R(copy_file_range(f, 0, g, 0, 200000, 0)); R(copy_file_range(f, 0, g, 0, 200000, 0)); R(copy_file_range(f, 0, g, 0, 1, 1)); R(copy_file_range(f, 0, h, 0, 1, 0)); R(copy_file_range(f, 0, p[1], 0, 1, 0)); R(copy_file_range(dir, 0, g, 0, 1, 0)); loff_t x = 0, y = 10; R(copy_file_range(f, &x, f, &y, 100, 0)); y = 400000; R(copy_file_range(f, &x, f, &y, 100, 0)); printf("%ld %ld\n", (long)x, (long)y);
  struct iovec w = {back, 10}; R(lseek(f, 0, SEEK_SET)); R(preadv2(f, &w, 1, -1, 0)); R(lseek(f, 0, SEEK_CUR)); R(preadv2(f, &w, 1, 5, RWF_HIPRI)); R(preadv2(f, &w, 1, 5, 0x1000)); R(preadv2(p[0], &w, 1, -1, RWF_NOWAIT)); R(pwritev2(g, v, 2, 0, RWF_APPEND)); R(lseek(g, 0, SEEK_CUR)); R(lseek(g, 0, SEEK_END)); R(pwritev2(g, v, 2, -1, 0x20)); R(pwritev2(g, v, 2, -1, 0x30)); R(lseek(g, 0, SEEK_CUR)); R(pwritev2(g, v, 2, -1, RWF_DSYNC)); R(pwritev2(g, v, 2, -2, 0));
  R(readahead(f, 0, 100)); R(readahead(p[0], 0, 100)); R(posix_fadvise(f, 0, 0, POSIX_FADV_WILLNEED)); R(posix_fadvise(p[0], 0, 0, 0)); R(posix_fadvise(f, 0, 0, 99)); R(posix_fadvise(f, 0, -1, 0));
  close(q[0]); write(p[1], "x", 1); R(splice(p[0], 0, q[1], 0, 1, 0)); 
  return 0;
}
