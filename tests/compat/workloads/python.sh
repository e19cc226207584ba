set -e
cd /tmp
cat > t.py <<'END'
import asyncio, concurrent.futures, mmap, multiprocessing as mp, os, queue, select, signal, sqlite3, subprocess, sys, tempfile, threading, time
def square(x): return x * x
def main():
    print(subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 5"], capture_output=True))
    p = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE); print(p.communicate(b"x" * 200000)[0].count(b"x"))
    lock = threading.Lock(); total = [0]
    def add():
        for _ in range(1000):
            with lock: total[0] += 1
    ts = [threading.Thread(target=add) for _ in range(8)]; [t.start() for t in ts]; [t.join() for t in ts]; print(total)
    for method in ("fork", "spawn", "forkserver"):
        with mp.get_context(method).Pool(2) as pool: print(method, pool.map(square, range(10)))
    with concurrent.futures.ProcessPoolExecutor(2) as ex: print(sum(ex.map(square, range(100))))
    with tempfile.TemporaryFile() as f:
        f.truncate(8192)
        with mmap.mmap(f.fileno(), 8192) as m: m[0:5] = b"hello"; m.flush()
        f.seek(0); print(f.read(5))
    got = []
    signal.signal(signal.SIGALRM, lambda *a: got.append("alrm")); signal.setitimer(signal.ITIMER_REAL, 0.05); time.sleep(0.2); print(got)
    signal.signal(signal.SIGUSR1, lambda *a: got.append("usr1")); os.kill(os.getpid(), signal.SIGUSR1); print(got)
    r, w = os.pipe(); os.write(w, b"z"); print(select.select([r], [], [], 1)[0] == [r]); e = select.epoll(); e.register(r, select.EPOLLIN); print(e.poll(1) == [(r, 1)])
    db = sqlite3.connect("/tmp/x.db"); db.execute("create table t(a)"); db.executemany("insert into t values(?)", [(i,) for i in range(5000)]); db.commit(); print(db.execute("select sum(a) from t").fetchone())
    async def echo(r, w): w.write(await r.read(100)); await w.drain(); w.close()
    async def net():
        s = await asyncio.start_server(echo, "127.0.0.1", 0); port = s.sockets[0].getsockname()[1]
        r, w = await asyncio.open_connection("127.0.0.1", port); w.write(b"ping"); w.write_eof(); print(await r.read()); s.close()
        p = await asyncio.create_subprocess_exec("echo", "sub", stdout=-1); print((await p.communicate())[0])
    asyncio.run(net())
    pid = os.fork()
    if not pid: os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])); print(os.path.realpath("/proc/self/exe")[:15], len(os.listdir("/proc/self/fd")) > 2, os.getpid() > 0)
if __name__ == "__main__": main()
END
python3 t.py
python3 -m venv v; v/bin/python -c 'import sys; print(sys.prefix)'
mkdir -p pkg/hello && echo 'def main(): print("hello from the wheel")' > pkg/hello/__init__.py
cat > mkwheel.py <<'END'
import zipfile
with zipfile.ZipFile("/tmp/hello-1.0-py3-none-any.whl", "w") as z:
    z.write("/tmp/pkg/hello/__init__.py", "hello/__init__.py")
    z.writestr("hello-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
    z.writestr("hello-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    z.writestr("hello-1.0.dist-info/RECORD", "hello/__init__.py,,\nhello-1.0.dist-info/METADATA,,\nhello-1.0.dist-info/WHEEL,,\nhello-1.0.dist-info/RECORD,,\n")
END
python3 mkwheel.py; v/bin/pip install --quiet --no-index /tmp/hello-1.0-py3-none-any.whl 2>/dev/null; v/bin/python -c 'import hello; hello.main()'
