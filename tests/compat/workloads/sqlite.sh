set -e
cd /tmp
sqlite3 a.db 'create table t(id integer primary key, v text); pragma journal_mode=wal;'
writer() { for i in $(seq 1 40); do sqlite3 -cmd '.timeout 20000' a.db "insert into t(v) values('$1-$i');"; done; }
writer x & writer y & writer z & wait
sqlite3 a.db 'select count(*) from t; select count(distinct v) from t; pragma integrity_check;'
sqlite3 b.db 'create table t(a int, b text);'; python3 - <<'END'
import sqlite3
db = sqlite3.connect("/tmp/b.db")
with db: db.executemany("insert into t values(?, ?)", ((i, str(i)) for i in range(20000)))
for i in range(50):
    with db: db.execute("update t set b='x' where a=?", (i,))
print(db.execute("select count(*), sum(a) from t").fetchone())
END
sqlite3 b.db .dump | md5sum
