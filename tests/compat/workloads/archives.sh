set -e
cd /tmp; mkdir src; cp -r /usr/lib/python3.11/json /usr/lib/python3.11/asyncio src; ln -s json src/link; truncate -s 300k src/sparse; mkfifo src/pipe
tar cf a.tar src; tar tf a.tar | wc -l; mkdir out; tar xf a.tar -C out; diff -r src/json out/src/json; test -p out/src/pipe; readlink out/src/link
for tool in gzip xz bzip2; do cp a.tar b.tar; $tool -k b.tar; rm b.tar; case $tool in gzip) gzip -d b.tar.gz;; xz) xz -d b.tar.xz;; bzip2) bzip2 -d b.tar.bz2;; esac; cmp a.tar b.tar && echo $tool; rm -f b.tar*; done
tar czf c.tgz src && tar tzf c.tgz | sort | md5sum; tar cSf s.tar src/sparse; test $(stat -c %s s.tar) -lt 100000 && echo sparse
sed -n 's/def \([a-z]*\).*/\1/p' src/json/__init__.py; awk -F: 'NR<4{print $1,NF}' /etc/passwd; grep -c import -r src/asyncio | sort | head -3
diff -u src/json/encoder.py src/json/decoder.py | head -5 | sed 's/\t.*//'; perl -e 'print join(",", map { $_*2 } 1..5), "\n"; open(F,"<","/etc/hostname"); print length(<F>) > 0 ? "ok\n" : "no\n"; my $p = fork; if (!$p) { exit 7 } waitpid($p,0); print $?>>8, "\n"'
dash -c 'echo dash $((1+2)); for f in /etc/pass*; do echo $f; done'; busybox sh -c 'echo box; busybox seq 3 | busybox sort -r'; busybox find /etc/apt | wc -l; file -b /etc/passwd; echo '2^64' | bc
