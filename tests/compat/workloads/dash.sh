# dash and busybox's shell as scripts use them.
for shell in dash "busybox ash"; do
$shell <<'END'
set -u
trap 'echo leaving $?' EXIT; trap 'echo got USR1' USR1; kill -USR1 $$
f() { local a=$1; shift; echo "$a $# ${1-none} ${2:-two}"; return 3; }; f x 1 || echo $?
cat <<A | tr a-z A-Z | while read l; do echo "<$l>"; done
line one
$((3 * 7)) $(echo nested "$(echo deep)")
A
i=0; while [ $i -lt 300 ]; do i=$((i + 1)); :; done; echo $i
for n in 1 2 3; do (sleep 0.0$n; exit $n) & pids="${pids-} $!"; done; for p in $pids; do wait $p; echo $?; done
{ echo out; echo err >&2; } 2>&1 | sort; exec 5>/tmp/five; echo five >&5; exec 5>&-; cat /tmp/five
case abc in a*c) echo glob;; esac; IFS=:; set -- $(echo a:b:c); echo $#; unset IFS
v=path/to/file.txt; echo ${v##*/} ${v%.txt} ${#v}; umask 027; : > /tmp/u; ls -l /tmp/u | cut -c1-10; rm /tmp/u
mkfifo /tmp/ff; (echo through > /tmp/ff) & cat /tmp/ff; wait; rm /tmp/ff
sh -c 'kill -9 $$'; echo $?; (ulimit -n 20; ulimit -n); command -v true; type cd; echo a b | { read x y; echo $y; }
yes | head -1; (exit 4) | cat; echo $?; ! false; echo $?; eval 'echo $0' | wc -l; times > /dev/null; nosuch 2>/dev/null; echo $?
exit 7
END
echo "$shell ended with $?"
done
