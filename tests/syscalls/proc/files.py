"""Types, modes, contents and errors of /proc files that are the same anywhere."""

import ctypes
import errno
import mmap
import os
import re
import stat
import struct

NAMES = """auxv cgroup cmdline comm cwd environ exe fd fdinfo gid_map io limits loginuid maps mem mountinfo mounts net ns oom_score
oom_score_adj root setgroups smaps stat statm status task uid_map wchan""".split()


def attempt(what, call):
    try:
        print(what, call())
    except OSError as error:
        print(what, errno.errorcode[error.errno])


def read(path):
    with open(path, "rb") as file:
        return file.read()


for name in NAMES:
    found = os.lstat(f"/proc/self/{name}")
    # How many descriptors there are depends on the caller.
    print(name, stat.filemode(found.st_mode), name == "fd" or found.st_size, found.st_uid == os.geteuid())
for name in ["cpuinfo", "meminfo", "stat", "loadavg", "uptime", "version", "filesystems", "mounts", "self", "thread-self", "net"]:
    found = os.lstat(f"/proc/{name}")
    print(name, stat.filemode(found.st_mode), found.st_size)

print(os.readlink("/proc/self") == str(os.getpid()), os.readlink("/proc/thread-self") == f"{os.getpid()}/task/{os.getpid()}")
print(os.readlink("/proc/mounts"), os.readlink("/proc/net"))
print(os.path.samefile("/proc/self/exe", "/usr/bin/python3"), os.path.samefile("/proc/self/cwd", "."), os.readlink("/proc/self/root"))
print(read("/proc/self/comm"), read("/proc/self/cmdline").split(b"\0")[0], b"PATH=" in read("/proc/self/environ"))
status = dict(line.split(":\t", 1) for line in read("/proc/self/status").decode().splitlines() if ":\t" in line)
print(status["Name"], status["State"], status["Tgid"] == str(os.getpid()), status["PPid"] == str(os.getppid()), status["Threads"], len(status["Umask"]))
print(status["Uid"], status["Gid"], status["SigCgt"], status["TracerPid"], len(status["CapBnd"]), int(status["VmRSS"].split()[0]) > 0)
fields = read("/proc/self/stat").decode().rsplit(") ", 1)[1].split()
print(len(fields), fields[0], fields[1] == str(os.getppid()), fields[2] == str(os.getpgrp()), fields[3] == str(os.getsid(0)), fields[15:18])
print(len(read("/proc/self/statm").split()), len(read("/proc/uptime").split()), len(read("/proc/loadavg").split()))
print(len(read("/proc/self/auxv")) % 16, read("/proc/self/auxv")[-16:] == bytes(16))
print(re.match(rb"[0-9a-f]+-[0-9a-f]+ r", read("/proc/self/maps")) is not None, b"[stack]" in read("/proc/self/maps"), b"python3" in read("/proc/self/maps"))
print(read("/proc/self/limits").splitlines()[0])
print(read("/proc/self/net/unix").splitlines()[0], read("/proc/net/tcp").splitlines()[0].strip()[:20])
print(read("/proc/sys/kernel/ostype"), read("/proc/sys/kernel/overflowuid"), len(read("/proc/sys/kernel/random/uuid")), read("/proc/sys/kernel/cap_last_cap"))
print(
    read("/proc/sys/kernel/random/boot_id") == read("/proc/sys/kernel/random/boot_id"),
    read("/proc/sys/kernel/random/uuid") != read("/proc/sys/kernel/random/uuid"),
)
print(read("/proc/sys/kernel/hostname").strip().decode() == os.uname().nodename, read("/proc/sys/kernel/osrelease").strip().decode() == os.uname().release)

attempt("enoent", lambda: os.stat("/proc/nothing"))
attempt("no such process", lambda: os.stat("/proc/999999"))
attempt("leading zero", lambda: os.stat(f"/proc/0{os.getpid()}"))
attempt("no such fd", lambda: os.readlink("/proc/self/fd/987"))
attempt("file as directory", lambda: os.stat("/proc/meminfo/x"))
attempt("directory as file", lambda: read("/proc/self"))
attempt("readlink of a file", lambda: os.readlink("/proc/self/stat"))
attempt("seek", lambda: os.lseek(os.open("/proc/self/stat", os.O_RDONLY), 0, os.SEEK_END))

fd = os.open("/proc/self/status", os.O_RDONLY)
first = os.read(fd, 20)
print(os.lseek(fd, 5, os.SEEK_SET), os.read(fd, 15) == first[5:], os.pread(fd, 20, 0) == first)
with open("/proc/self/comm", "w") as file:
    file.write("renamed\n")
print(read("/proc/self/comm"), read(f"/proc/self/task/{os.getpid()}/comm"))
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("500")
print(read("/proc/self/oom_score_adj"))
attempt("score too high", lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"1001"))
attempt("score of letters", lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"abc"))

listed = set(os.listdir("/proc/self"))
print(all(name in listed for name in NAMES), str(os.getpid()) in os.listdir("/proc"), os.listdir("/proc/self/task") == [str(os.getpid())])
child = os.fork()
if child == 0:
    os._exit(3)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
print(read(f"/proc/{child}/stat").decode().split()[2], read(f"/proc/{child}/cmdline"), read(f"/proc/{child}/maps"))
attempt("exe of a zombie", lambda: os.readlink(f"/proc/{child}/exe"))
os.waitpid(child, 0)
attempt("after it", lambda: read(f"/proc/{child}/stat"))
online = read("/sys/devices/system/cpu/online").decode().strip()
print(online.startswith("0"), os.path.isdir("/sys/devices/system/node/node0"), os.cpu_count() == len(os.sched_getaffinity(0)))
print(
    stat.filemode(os.stat("/sys").st_mode), stat.filemode(os.stat("/sys/devices/system/cpu/online").st_mode), os.stat("/sys/devices/system/cpu/online").st_size
)
attempt("sys enoent", lambda: os.stat("/sys/devices/nothing"))

# A page that is there, by the program's own address, and whoever asks may not know its frame.
anonymous = mmap.mmap(-1, 2 * mmap.PAGESIZE)
anonymous[0] = 1
start = ctypes.addressof(ctypes.c_char.from_buffer(anonymous))
pages = os.open("/proc/self/pagemap", os.O_RDONLY)
entries = struct.unpack("QQ", os.pread(pages, 16, start // mmap.PAGESIZE * 8))
print("present", [entry >> 63 for entry in entries], os.lseek(pages, 8, os.SEEK_SET), len(os.read(pages, 64)), os.pread(pages, 8, 1 << 60))
attempt("half an entry", lambda: os.pread(pages, 4, 0))
attempt("within an entry", lambda: os.pread(pages, 8, 4))
