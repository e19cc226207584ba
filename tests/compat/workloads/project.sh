# A GNU project from configure to its own tests, and Lua.
set -e
cp -a /usr/src/compat/hello /usr/src/compat/lua /tmp; cd /tmp/hello
./configure > ../configure.log 2>&1; grep -c yes ../configure.log
make -j2 > ../make.log 2>&1; ./hello; make check 2>&1 | grep -E '^(PASS|FAIL|# )'
cd ../lua; make -s -j2 posix > ../lua.log 2>&1
cat > /tmp/l.lua <<'END'
local seen = {}
for i = 1, 200000 do seen[i % 977] = (seen[i % 977] or 0) + i end
local sum = 0; for _, v in pairs(seen) do sum = sum + v end
local f = assert(io.popen("echo from a child; exit 3")); print(f:read("a"), select(3, f:close()))
print(sum, string.format("%.3f", math.sin(1)), coroutine.wrap(function() coroutine.yield(7) end)(), os.rename("/nowhere", "/x"))
END
./src/lua /tmp/l.lua
