# valgrind: its tools, over threads, children, a shell and python.
set -e
cd /tmp; cat > b.c <<'C'
#include <stdlib.h>
#include <stdio.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
void *f(void *x) { return malloc(8); }
int main(int c, char **v) { char *p = malloc(10); p[10] = 1; int *q = malloc(4); if (*q) puts("set"); pthread_t t; pthread_create(&t, 0, f, 0); pthread_join(t, 0); if (!fork()) _exit(3); int s; wait(&s); printf("%d\n", WEXITSTATUS(s)); free(p); return 0; }
C
gcc -g b.c -o b -pthread
valgrind ls / 2> log; tail -1 log | sed 's/==[0-9]*== //'
valgrind --leak-check=full --error-exitcode=9 ./b > out 2> log || echo code $?; cat out; grep -E 'Invalid write|uninit|definitely lost:|ERROR SUMMARY' log | sed 's/==[0-9]*== //'
valgrind --tool=callgrind --callgrind-out-file=cg ./b > /dev/null 2>&1; head -1 cg; valgrind --tool=helgrind ./b 2>&1 | grep SUMMARY | sed 's/==[0-9]*== //'; valgrind --tool=massif --massif-out-file=ms ./b >/dev/null 2>&1; grep -c snapshot ms > /dev/null && echo massif; valgrind --tool=cachegrind --cachegrind-out-file=cc ./b > /dev/null 2>&1; head -1 cc | cut -c1-5
valgrind --trace-children=yes sh -c 'echo hi; ls /usr > /dev/null' 2>&1 | grep -c 'ERROR SUMMARY: 0'
valgrind python3 -c 'print(1)' 2>/dev/null
