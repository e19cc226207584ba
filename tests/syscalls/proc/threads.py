"""Threads below task, and another process's files."""

import os
import threading

done = threading.Event()
ids = []
ready = threading.Barrier(3)


def wait():
    ids.append(threading.get_native_id())
    ready.wait()
    done.wait()


threads = [threading.Thread(target=wait) for _ in range(2)]
for thread in threads:
    thread.start()
ready.wait()
listed = {int(name) for name in os.listdir("/proc/self/task")}
print(listed == {os.getpid(), *ids})
own = open("/proc/self/status").read()
print([line for line in own.splitlines() if line.startswith("Threads")])
with open(f"/proc/self/task/{ids[0]}/comm", "w") as file:
    file.write("worker")
print(open(f"/proc/self/task/{ids[0]}/comm").read(), open(f"/proc/{ids[0]}/comm").read() != "", str(ids[0]) in os.listdir("/proc"))
print(open(f"/proc/self/task/{ids[1]}/stat").read().split()[0] == str(ids[1]))
done.set()
for thread in threads:
    thread.join()
child = os.fork()
if child == 0:
    os.chdir("/usr")
    os.kill(os.getpid(), 19)
    os._exit(0)
os.waitpid(child, os.WUNTRACED)
print(open(f"/proc/{child}/stat").read().split()[2], os.readlink(f"/proc/{child}/cwd"))
print(open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split() == [str(child)])
os.kill(child, 18)
os.waitpid(child, 0)
