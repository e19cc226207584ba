#include "events.h"

int main(void)
{
    char buf[64] = {0};
    int fd = memfd_create("a name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    printf("flags %x %x\n", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    struct stat st;
    SAY(fstat(fd, &st));
    printf("mode %o size %ld\n", st.st_mode, (long)st.st_size);
    SAY(write(fd, "hello world", 11));
    SAY(lseek(fd, 0, SEEK_SET));
    SAY(read(fd, buf, 64));
    puts(buf);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    map[0] = 'J';
    SAY(pread(fd, buf, 11, 0));
    puts(buf);
    pid_t child = fork();
    if (child == 0) {
        map[1] = 'E';
        _exit(0);
    }
    waitpid(child, NULL, 0);
    printf("%.11s\n", map);
    SAY(fcntl(fd, F_GET_SEALS));
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    munmap(map, 4096);
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW));
    SAY(fcntl(fd, F_GET_SEALS));
    SAY(write(fd, "x", 1));
    SAY((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
    SAY(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
    int plain = memfd_create("", 0);
    SAY(fcntl(plain, F_GET_SEALS));
    SAY(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE));
    int p[2];
    pipe(p);
    SAY(fcntl(p[0], F_GET_SEALS));
    char name[300];
    memset(name, 'n', 299);
    name[249] = 0;
    SAY(memfd_create(name, 0) >= 0);
    name[249] = 'n';
    name[250] = 0;
    SAY(memfd_create(name, 0));
    SAY(memfd_create("x", 0x8000));
    SAY(memfd_create(bad, 0));
    return 0;
}
