# Writers and readers of one sqlite database at once, in both journal modes.
set -e
cat > /tmp/w.py <<'END'
import multiprocessing, os, sqlite3, sys, threading
path, mode = sys.argv[1:]
def connect():
    db = sqlite3.connect(path, timeout=60, isolation_level=None); db.execute("pragma synchronous=off"); return db
def write(name):
    db = connect()
    for n in range(40):
        db.execute("begin immediate"); (top,) = db.execute("select coalesce(max(n), 0) from t").fetchone(); db.execute("insert into t values (?, ?)", (top + 1, name)); db.execute("commit")
def read(stop):
    db = connect(); last = 0
    while not stop.is_set():
        count, top = db.execute("select count(*), coalesce(max(n), 0) from t").fetchone()
        assert count == top >= last; last = top
db = connect(); db.execute(f"pragma journal_mode={mode}"); db.execute("create table t(n int, who text)"); db.close()
stop = multiprocessing.Event(); readers = [multiprocessing.Process(target=read, args=(stop,)) for _ in range(2)]
writers = [multiprocessing.Process(target=write, args=(f"p{n}",)) for n in range(4)] + [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
for each in readers + writers: each.start()
for each in writers: each.join()
stop.set(); [each.join() for each in readers]; assert not any(each.exitcode for each in readers)
db = connect(); print(mode, db.execute("select count(*), count(distinct n), max(n), count(distinct who) from t").fetchone(), db.execute("pragma integrity_check").fetchone())
END
python3 /tmp/w.py /tmp/a.db wal; python3 /tmp/w.py /tmp/b.db delete; python3 /tmp/w.py /root/c.db truncate
