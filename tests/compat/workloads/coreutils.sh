set -e
cd /tmp; mkdir -p t/a/b; cd t
for i in $(seq 1 50); do echo "file $i" > a/f$i; done
ln -s ../a a/link; ln a/f1 a/hard; cp -a a c; diff -r a c
find . -type f | sort | wc -l; touch -d 2001-01-01 a/f1; find . -name 'f1*' -newer a/f1 | wc -l; find a -links 2 | sort
stat -c '%n %s %F %h %a' a/f1 a/link a/hard
mv c d; ls d | head -3; rm -r d; test ! -e d
chmod 751 a/f2; stat -c %a a/f2; chown 12:34 a/f3; stat -c '%u:%g' a/f3
touch -d '2001-02-03 04:05:06 UTC' a/f4; stat -c %Y a/f4
truncate -s 1M sparse; stat -c '%s %b' sparse; dd if=/dev/zero of=z bs=64k count=16 2>/dev/null; md5sum z
seq 100000 | sort -R --random-source=/dev/zero | sort -n | md5sum; seq 200000 | shuf --random-source=/dev/zero | sort -n -S 1M -T /tmp | md5sum
split -n 3 z part.; ls part.*; cat part.* | cmp - z
head -c 1000 /dev/urandom | wc -c; od -An -tx1 -N4 /dev/zero; tee x < a/f1 > y; cmp x y
install -m 700 a/f1 inst; stat -c %a inst; mktemp -u | wc -c; df . > /dev/null; du -s a > /dev/null
test -w /etc/passwd && echo writable; readlink -f a/link; realpath a/../a/f1; basename $(pwd)
cut -d: -f1 /etc/passwd | head -3; join <(echo 1 a) <(echo 1 b); comm -12 <(seq 5) <(seq 3 7); paste <(seq 3) <(seq 4 6); uniq -c <(printf 'a\na\nb\n'); tac <(seq 3); nl <(seq 2); fold -w 3 <(echo abcdefgh); expand <(printf 'a\tb\n')
env -i A=1 env; nice -n 5 nice; id -u; uname -s; nproc > /dev/null; date -u -d @0 +%F; sync; factor 123456789
