set -e
cd /tmp; mkdir p; cd p
for i in 1 2 3 4 5 6; do printf '#include <stdio.h>\nint f%d(int x){int s=0;for(int i=0;i<x;i++)s+=i*%d;return s;}\n' $i $i > f$i.c; done
{ echo '#include <stdio.h>'; for i in 1 2 3 4 5 6; do echo "int f$i(int);"; done; echo 'int main(void){printf("%d\n", f1(10)+f2(10)+f3(10)+f4(10)+f5(10)+f6(10));return 0;}'; } > main.c
printf 'OBJS=main.o f1.o f2.o f3.o f4.o f5.o f6.o\nall: prog lib.a\nprog: $(OBJS)\n\t$(CC) -o $@ $^\nlib.a: f1.o f2.o\n\tar rcs $@ $^\n%%.o: %%.c\n\t$(CC) -O2 -Wall -c -o $@ $<\nclean:\n\trm -f *.o prog lib.a\n' > Makefile
make -j2 > log 2>&1; sort log | wc -l; ./prog; make -s; touch f3.c; make | wc -l; make clean > /dev/null; ls
cat > thr.c <<'END'
#include <pthread.h>
#include <stdio.h>
static int n; static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static void *run(void *a) { for (int i = 0; i < 10000; i++) { pthread_mutex_lock(&m); n++; pthread_mutex_unlock(&m); } return a; }
int main(void) { pthread_t t[8]; for (int i = 0; i < 8; i++) pthread_create(t + i, 0, run, 0); for (int i = 0; i < 8; i++) pthread_join(t[i], 0); printf("%d\n", n); return 0; }
END
gcc -O1 -pthread thr.c -o thr && ./thr; gcc -static -O1 -pthread thr.c -o thrs && ./thrs
