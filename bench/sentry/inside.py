"""Runs in each root: times every workload, and prints "name<TAB>minimum<TAB>median" in ns. `workloads.py` puts it there, with a wheel at /bench.whl's path."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

WORK = Path("/root/bench")
IMPORTS = (
    "argparse ast asyncio base64 bisect calendar collections configparser contextlib copy csv dataclasses datetime decimal difflib dis email enum fnmatch "
    "fractions functools getpass glob gzip hashlib heapq html http.client inspect io ipaddress itertools json locale logging mimetypes multiprocessing "
    "pathlib pickle platform queue random shlex shutil sqlite3 statistics tarfile tempfile typing unittest urllib.request uuid zipfile"
).split()
SQLITE = """
import os, sqlite3, sys
path, rows, synced = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "synced"
if os.path.exists(path): os.unlink(path)
c = sqlite3.connect(path, isolation_level=None)
c.execute("create table t (id integer primary key, text)")
if not synced: c.execute("begin")
for i in range(rows): c.execute("insert into t (text) values (?)", (str(i) * 8,))
if not synced: c.execute("commit")
print(c.execute("select count(*) from t").fetchone()[0])
"""
SOURCE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
int main(int n, char **v) { qsort(v + 1, n - 1, sizeof *v, compare); for (int i = 1; i < n; i++) puts(v[i]); return 0; }
"""
COMMITS = "".join(
    f"commit refs/heads/main\ncommitter a <a@b> {1700000000 + i} +0000\ndata 8\nnumber {i % 10}\nM 644 inline {i % 50}\ndata 4\n{i:4}\n" for i in range(2000)
)
FORKS = "import os\nfor _ in range(100):\n pid = os.posix_spawn('/bin/true', ['true'], {})\n os.waitpid(pid, 0)\n"


def rows():
    python, shell = sys.executable, "/bin/sh"
    script = "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done"
    install = f"rm -rf {WORK}/to; {python} -m pip install -q --no-index --no-deps --root-user-action=ignore --target {WORK}/to /wheels/*.whl"
    return [
        ("find /", 5, [shell, "-c", "find / -xdev -newer /etc/passwd | wc -l"]),
        ("tar of the python library", 3, [shell, "-c", "tar cf - /usr/lib/python3.11 | cat > /dev/null"]),
        ("seq into sort into wc", 5, [shell, "-c", "seq 100000 | sort | wc -l"]),
        ("yes into head, 100 MiB", 3, [shell, "-c", "yes | head -c 100M > /dev/null"]),
        ("git log into head", 5, [shell, "-c", f"git -C {WORK}/git log -p | head -n 1000 | wc -l"]),
        ("dd 64 MiB by 4 KiB", 3, ["dd", f"if={WORK}/data", "of=/dev/null", "bs=4k", "status=none"]),
        ("dd 64 MiB by 1 MiB", 5, ["dd", f"if={WORK}/data", "of=/dev/null", "bs=1M", "status=none"]),
        ("python, bare", 15, [python, "-I", "-S", "-c", "pass"]),
        ("python, 50 imports", 5, [python, "-c", f"import {', '.join(IMPORTS)}"]),
        ("sqlite, 20k rows in one transaction", 5, [python, "-c", SQLITE, "/tmp/one.db", "20000", "one"]),
        ("sqlite, 500 synced transactions", 3, [python, "-c", SQLITE, "/tmp/many.db", "500", "synced"]),
        ("gcc, one file", 5, ["gcc", "-O2", "-c", "-o", f"{WORK}/a.o", f"{WORK}/a.c"]),
        ("gcc, compile and link", 5, ["gcc", "-O2", "-o", f"{WORK}/a", f"{WORK}/a.c"]),
        ("pip install of a wheel", 2, [shell, "-c", install]),
        ("sh, 200 commands", 3, [shell, "-c", script]),
        ("100 x spawn and wait", 5, [python, "-I", "-S", "-c", FORKS]),
    ]


def main():
    wanted = sys.argv[1:]
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    (WORK / "data").write_bytes(bytes(range(256)) * (64 << 12))
    (WORK / "a.c").write_text(SOURCE)
    subprocess.run(["git", "init", "-q", "-b", "main", WORK / "git"], check=True)
    subprocess.run(["git", "-C", WORK / "git", "fast-import", "--quiet"], input=COMMITS, text=True, check=True)
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    for name, rounds, command in rows():
        if wanted and not any(word in name for word in wanted):
            continue
        times = []
        for _ in range(rounds + 1):
            start = time.perf_counter_ns()
            done = subprocess.run(command, env=environment, capture_output=True, cwd=WORK, check=False)
            times.append(time.perf_counter_ns() - start)
            if done.returncode:
                print(f"{name}: {done.stderr.decode()[-200:]}", file=sys.stderr)
                break
        else:
            # The first one warms up.
            print(f"{name}\t{min(times[1:])}\t{statistics.median(times[1:]):.0f}", flush=True)


main()
