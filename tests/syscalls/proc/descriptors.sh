# What /proc/self/fd leads to: files, pipes, process substitution, the standard streams.
cat <(echo one) <(echo two)
echo three > >(cat; :) ; wait $!
echo piped | cat /dev/stdin
echo piped | cat /proc/self/fd/0
diff <(printf 'a\nb\n') <(printf 'a\nc\n')
directory=$(mktemp -d)
echo content > $directory/file
exec 5< $directory/file
read -r line <&5
echo "$line"
cat /proc/self/fd/5
echo "$(readlink /proc/self/fd/5)" | sed 's/.*file/file/'
rm $directory/file
cat /dev/fd/5
readlink /proc/$$/fd/5 | sed 's/.*file/file/'
echo again > /proc/$$/fd/5; cat /proc/$$/fd/5
head -c 4 /proc/self/fdinfo/5; echo
exec 5<&-
cat /proc/self/fd/5 2>/dev/null || echo closed
python3 -c '
import os
r, w = os.pipe()
again = os.open(f"/proc/self/fd/{w}", os.O_WRONLY)
other = os.open(f"/proc/self/fd/{w}", os.O_RDONLY)
os.write(again, b"both ways")
print(os.read(other, 20), os.stat(f"/proc/self/fd/{r}").st_ino == os.fstat(r).st_ino)
f = os.open("/", os.O_PATH)
print(os.readlink(f"/proc/self/fd/{f}"), os.listdir(f"/proc/self/fd/{f}") == os.listdir("/"))
'
/proc/self/exe -c 'echo run by its link' 2>/dev/null || bash -c 'exec /proc/self/exe -c "echo run by its link"'
rm -r $directory
