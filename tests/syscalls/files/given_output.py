"""Writes to a standard output that is a regular file in every way there is, mixed by a seed: whoever keeps the position, all must agree on it."""

import errno
import fcntl
import os
import random
import sys

RWF_NOAPPEND = 0x20
numbers = random.Random(int(sys.argv[1]))
source = os.open(sys.argv[2], os.O_RDONLY)
size = os.fstat(source).st_size
copy = os.dup(1)


def piece():
    return f"[{numbers.randrange(1 << 30)}]".encode() * numbers.randrange(1, 40)


def moved(call):
    """The kernel's answer is part of what is compared, but goes to standard error."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]


def by_pipe(out):
    reader, writer = os.pipe()
    os.write(writer, piece())
    os.close(writer)
    result = moved(lambda: os.splice(reader, out, 1 << 16))
    os.close(reader)
    return result


def in_child(out):
    pid = os.fork()
    if pid == 0:
        os.write(out, piece())
        os._exit(0)
    os.waitpid(pid, 0)
    numbers.random()


def many(out):
    """Dense enough to be served without notifications."""
    for _ in range(200):
        os.write(out, b".")


def toggle(out):
    """O_APPEND on and off, whether or not it was given."""
    if numbers.random() < 0.5:
        fcntl.fcntl(out, fcntl.F_SETFL, fcntl.fcntl(out, fcntl.F_GETFL) ^ os.O_APPEND)


steps = [
    lambda out: moved(lambda: os.write(out, piece())),
    lambda out: moved(lambda: os.writev(out, [piece(), piece()])),
    lambda out: moved(lambda: os.copy_file_range(source, out, numbers.randrange(1, 9000))),
    lambda out: moved(lambda: os.copy_file_range(source, out, numbers.randrange(1, 9000), numbers.randrange(size))),
    lambda out: moved(lambda: os.copy_file_range(source, out, 100, 7, numbers.randrange(size))),
    lambda out: moved(lambda: os.sendfile(out, source, None, numbers.randrange(1, 9000))),
    lambda out: moved(lambda: os.sendfile(out, source, numbers.randrange(size), numbers.randrange(1, 9000))),
    lambda out: moved(lambda: os.pwrite(out, piece(), numbers.randrange(size))),
    lambda out: moved(lambda: os.pwritev(out, [piece()], -1, RWF_NOAPPEND)),
    lambda out: moved(lambda: os.pwritev(out, [piece()], numbers.randrange(size), os.RWF_APPEND)),
    lambda out: moved(lambda: os.lseek(out, numbers.randrange(-50, 50), os.SEEK_CUR)),
    lambda out: moved(lambda: os.lseek(out, 0, os.SEEK_END)),
    lambda out: moved(lambda: os.lseek(source, numbers.randrange(size), os.SEEK_SET)),
    toggle,
    by_pipe,
    in_child,
    many,
]
for _ in range(150):
    step = numbers.randrange(len(steps))
    result = steps[step](numbers.choice([1, copy]))
    print(step, result, os.lseek(1, 0, os.SEEK_CUR), file=sys.stderr)
