// System V IPC: shared memory, semaphores, message queues, between a parent and its child.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define R(call) ({ errno = 0; long r_ = (call); printf("%d %s = %ld %s\n", __LINE__, #call, r_, r_ < 0 ? strerrorname_np(errno) : ""); r_; })
#define KEEP(call) ({ errno = 0; long r_ = (call); printf("%d %s %d %s\n", __LINE__, #call, r_ >= 0, r_ < 0 ? strerrorname_np(errno) : ""); r_; })
int main(void) {
  setvbuf(stdout, 0, _IOLBF, 0); int key = 0x5ca1ab1e;
  int id = KEEP(shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600)); char *m = shmat(id, 0, 0); printf("%d\n", m != (void *)-1); struct shmid_ds d; R(shmctl(id, IPC_STAT, &d)); printf("%zu %ld\n", d.shm_segsz, (long)d.shm_nattch);
  if (!fork()) { strcpy(m, "from the child"); _exit(0); } wait(0); puts(m); char *again = shmat(id, 0, SHM_RDONLY); puts(again); R(shmdt(again)); R(shmdt(again)); R(shmctl(id, IPC_RMID, 0)); R(shmdt(m)); R(shmget(key, 10, 0));
  R(semget(key, 2, 0)); int s = KEEP(semget(key, 3, IPC_CREAT | IPC_EXCL | 0600)); R(semget(key, 3, IPC_CREAT | IPC_EXCL)); R(semget(key, 4, 0)); R(semget(IPC_PRIVATE, 0, 0600)); R(semctl(s, 0, GETVAL)); R(semctl(s, 1, SETVAL, 5)); R(semctl(s, 9, GETVAL)); R(semctl(s, 1, SETVAL, 40000));
  struct sembuf down = {0, -1, 0}, both[2] = {{1, -5, 0}, {0, -1, IPC_NOWAIT}}, up = {0, 1, 0}, far = {9, 1, 0}; R(semop(s, both, 2)); R(semctl(s, 1, GETVAL)); R(semop(s, &far, 1)); R(semop(s, &up, 0));
  struct timespec t = {0, 20000000}; R(semtimedop(s, &down, 1, &t)); if (!fork()) { usleep(30000); semop(s, &up, 1); _exit(0); } R(semop(s, &down, 1)); wait(0); unsigned short all[3] = {1, 2, 3}; R(semctl(s, 0, SETALL, all)); memset(all, 0, 6); R(semctl(s, 0, GETALL, all)); printf("%d %d %d\n", all[0], all[1], all[2]);
  struct semid_ds sd; R(semctl(s, 0, IPC_STAT, &sd)); printf("%ld %o %d\n", (long)sd.sem_nsems, sd.sem_perm.mode, sd.sem_perm.__key == key); struct sembuf zero = {0, 0, 0}; if (!fork()) { usleep(30000); semctl(s, 0, IPC_RMID); _exit(0); } R(semop(s, &zero, 1)); wait(0); R(semop(s, &up, 1));
  struct { long type; char text[64]; } b = {3, "three"}; int q = KEEP(msgget(key, IPC_CREAT | 0600)); R(msgsnd(q, &b, 6, 0)); b.type = 1; strcpy(b.text, "one"); R(msgsnd(q, &b, 4, 0)); b.type = 0; R(msgsnd(q, &b, 4, 0)); R(msgsnd(q, &b, 100000, 0));
  struct msqid_ds md; R(msgctl(q, IPC_STAT, &md)); printf("%ld %ld %ld\n", (long)md.msg_qnum, (long)md.__msg_cbytes, (long)md.msg_qbytes); R(msgrcv(q, &b, 64, -2, 0)); printf("%ld %s\n", b.type, b.text); R(msgrcv(q, &b, 2, 0, 0)); R(msgrcv(q, &b, 2, 0, MSG_NOERROR)); R(msgrcv(q, &b, 64, 0, IPC_NOWAIT));
  if (!fork()) { usleep(20000); b.type = 7; strcpy(b.text, "late"); msgsnd(q, &b, 5, 0); _exit(0); } R(msgrcv(q, &b, 64, 7, 0)); wait(0); puts(b.text); if (!fork()) { usleep(20000); msgctl(q, IPC_RMID, 0); _exit(0); } R(msgrcv(q, &b, 64, 7, 0)); wait(0); R(msgget(key, 0));
  return 0;
}
