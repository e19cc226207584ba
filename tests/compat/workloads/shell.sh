# Pipelines, here-documents, traps, substitution, arithmetic, job control without a terminal.
set -u
seq 1 1000 | awk '{s+=$1} END {print s}'
cat <<END | tr a-z A-Z | sort -r
one
two
three
END
trap 'echo trapped TERM' TERM
kill -TERM $$
(trap 'echo child exit' EXIT; exit 3); echo "status $?"
false | true; echo "${PIPESTATUS[@]}"
diff <(printf 'a\nb\n') <(printf 'a\nc\n'); echo "diff $?"
sleep 0.1 & sleep 0.2 & wait; echo "waited $?"
set -m; sleep 5 & kill %1; wait %1; echo "killed $?"; set +m
x=$(for i in 1 2 3; do echo -n $i; done); echo "$x $((x * 2))"
sh -c 'kill -SEGV $$'; echo "segv $?"
timeout 0.2 sleep 5; echo "timeout $?"
mkfifo /tmp/f; echo through > /tmp/f & cat /tmp/f; wait
exec 3<>/tmp/rw; echo line >&3; exec 3<&-; cat /tmp/rw
ulimit -n 64; ulimit -n
umask 027; touch /tmp/u; stat -c %a /tmp/u
read -t 0.1 line < <(sleep 1); echo "read $?"
printf '%s\n' {a..e} | while read -r l; do echo "<$l>"; done
echo done
