// System V semaphores that are undone, counted and listed; message queues that are looked at, listed and resized.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <unistd.h>

#define R(call) ({ errno = 0; long r_ = (call); printf("%d %s = %ld %s\n", __LINE__, #call, r_, r_ < 0 ? strerrorname_np(errno) : ""); r_; })
static void values(int s) { unsigned short all[3]; semctl(s, 0, GETALL, all); printf("values %d %d %d\n", all[0], all[1], all[2]); }
static void until(int s, int index, int command, int count) { while (semctl(s, index, command) != count) usleep(1000); printf("waiting %d\n", count); }

int main(void)
{
    setvbuf(stdout, 0, _IOLBF, 0);
    int s = semget(IPC_PRIVATE, 3, 0600); unsigned short first[3] = {5, 5, 5};
    semctl(s, 0, SETALL, first);
    if (fork() == 0) {
        struct sembuf ops[] = {{0, -2, SEM_UNDO}, {1, 3, SEM_UNDO}, {2, -1, 0}};
        semop(s, ops, 3); semop(s, ops, 1); values(s);
        if (fork() == 0) _exit(0);
        wait(NULL); values(s);
        _exit(0);
    }
    wait(NULL); values(s);
    // What was set since is not undone; what would go below 0 ends there.
    if (fork() == 0) { struct sembuf op[] = {{0, 3, SEM_UNDO}, {1, 3, SEM_UNDO}}; semop(s, op, 2); semctl(s, 0, SETVAL, 1); if (fork() == 0) { struct sembuf take = {1, -8, 0}; semop(s, &take, 1); _exit(0); } wait(NULL); values(s); _exit(0); }
    wait(NULL); values(s);
    struct sembuf far[] = {{0, 20000, SEM_UNDO}, {0, 20000, SEM_UNDO}}; R(semop(s, far, 1)); R(semop(s, far + 1, 1)); semctl(s, 0, SETALL, first);
    // A waiter that is killed in a call of its own has its operations undone, and lets another go on.
    pid_t holder = fork(); if (holder == 0) { struct sembuf all = {0, -5, SEM_UNDO}; semop(s, &all, 1); struct sembuf never = {1, -100, 0}; semop(s, &never, 1); _exit(0); }
    until(s, 1, GETNCNT, 1);
    pid_t next = fork(); if (next == 0) { struct sembuf one = {0, -1, 0}; _exit(semop(s, &one, 1) == 0 ? 9 : 1); }
    until(s, 0, GETNCNT, 1); R(semctl(s, 0, GETZCNT)); kill(holder, SIGKILL); int status; waitpid(holder, &status, 0); waitpid(next, &status, 0); printf("went on %d\n", WEXITSTATUS(status)); R(semctl(s, 0, GETNCNT)); values(s);
    pid_t zero = fork(); if (zero == 0) { struct sembuf none = {2, 0, 0}; _exit(semop(s, &none, 1)); }
    until(s, 2, GETZCNT, 1); R(semctl(s, 2, GETNCNT)); semctl(s, 2, SETVAL, 0); waitpid(zero, &status, 0); printf("zero %d\n", status);
    // Only the operation that waits says whether it may.
    struct sembuf mixed[] = {{0, -1, IPC_NOWAIT}, {1, -50, IPC_NOWAIT}}, waits[] = {{1, -50, 0}, {0, -1, IPC_NOWAIT}}; R(semop(s, mixed, 2));
    pid_t blocked = fork(); if (blocked == 0) { semop(s, waits, 2); _exit(0); } until(s, 1, GETNCNT, 1); kill(blocked, SIGKILL); wait(NULL);
    struct seminfo info; int most = semctl(0, 0, IPC_INFO, &info); printf("%d %d %d %d %d %d %d %d %d %d\n", most >= 0, info.semmni, info.semmns, info.semmsl, info.semopm, info.semume, info.semusz, info.semvmx, info.semaem, info.semmnu);
    most = semctl(0, 0, SEM_INFO, &info); printf("%d %d %d\n", most >= 0, info.semusz >= 1, info.semaem >= 3);
    struct semid_ds ds; int found = 0; for (int i = 0; i <= most; i++) if (semctl(i, 0, SEM_STAT, &ds) == s) found = ds.sem_nsems; printf("listed %d\n", found); R(semctl(s, 0, IPC_RMID)); R(semctl(s, 0, GETVAL));

    struct { long type; char text[64]; } b; int q = msgget(IPC_PRIVATE, 0600);
    for (int i = 1; i <= 3; i++) { b.type = i; sprintf(b.text, "text %d", i); msgsnd(q, &b, 8, 0); }
    for (int i = -1; i <= 3; i++) { memset(&b, 0, sizeof b); errno = 0; long n = msgrcv(q, &b, 64, i, 040000 | IPC_NOWAIT); printf("copy %d: %ld %s %s\n", i, n, b.text, n < 0 ? strerrorname_np(errno) : ""); }
    R(msgrcv(q, &b, 64, 0, 040000)); R(msgrcv(q, &b, 64, 0, 040000 | IPC_NOWAIT | MSG_EXCEPT)); R(msgrcv(q, &b, 2, 0, 040000 | IPC_NOWAIT));
    struct msqid_ds md; R(msgctl(q, IPC_STAT, &md)); printf("%ld\n", (long)md.msg_qnum); md.msg_qbytes = 24; b.type = 1; R(msgctl(q, IPC_SET, &md)); R(msgsnd(q, &b, 1, IPC_NOWAIT)); md.msg_qbytes = 16385;
    pid_t sender = fork(); if (sender == 0) _exit(msgsnd(q, &b, 8, 0) == 0 ? 4 : 1); usleep(20000); md.msg_qbytes = 16384; R(msgctl(q, IPC_SET, &md)); waitpid(sender, &status, 0); printf("room %d\n", WEXITSTATUS(status));
    struct msginfo mi; int last = msgctl(0, IPC_INFO, (void *)&mi); printf("%d %d %d %d %d %d %d %d %d\n", last >= 0, mi.msgpool, mi.msgmap, mi.msgmax, mi.msgmnb, mi.msgmni, mi.msgssz, mi.msgtql, mi.msgseg);
    last = msgctl(0, MSG_INFO, (void *)&mi); printf("%d %d %d %d\n", last >= 0, mi.msgpool >= 1, mi.msgmap >= 4, mi.msgtql >= 32); found = 0; for (int i = 0; i <= last; i++) if (msgctl(i, MSG_STAT, &md) == q) found = md.msg_qnum; printf("listed %d\n", found); R(msgctl(q, IPC_RMID, 0));
    return 0;
}
