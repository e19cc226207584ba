# ruby: threads, children, sockets, fibers, signals, terminals, locks.
set -e
cd /tmp; ruby -W0 - <<'END'
require 'socket'; require 'open3'; require 'etc'; require 'tempfile'; require 'timeout'; require 'digest'; require 'io/console'; require 'pty'
q = Queue.new; ts = 8.times.map { |i| Thread.new { 200.times { q << i }; i } }; p ts.map(&:value).sum, q.size
r, w = IO.pipe; pid = fork { r.close; w.write('x' * 100_000); exit!(3) }; w.close; p r.read.size, Process.wait2(pid)[1].exitstatus
p Open3.capture2('tr a-z A-Z', stdin_data: 'hello')[0], `echo back`.chomp, system('exit 3'), $?.exitstatus; s = TCPServer.new('127.0.0.1', 0); t = Thread.new { c = s.accept; c.write(c.gets.upcase); c.close }; c = TCPSocket.new('127.0.0.1', s.addr[1]); c.puts 'line'; p c.read; t.join
UNIXServer.open('r.sock') { |u| Thread.new { x = u.accept; x.write 'unix'; x.close }; p UNIXSocket.new('r.sock').read }; trap('USR1') { puts 'usr1' }; Process.kill('USR1', $$); sleep 0.05; begin; Timeout.timeout(0.1) { sleep }; rescue Timeout::Error; p :timeout; end
p Process.clock_gettime(Process::CLOCK_MONOTONIC) > 0, Etc.getpwuid.name, Dir.children('/usr/lib/ruby').size > 0, File.open('l', 'w') { |f| f.flock(File::LOCK_EX | File::LOCK_NB) }; PTY.spawn('echo from a pty') { |o, i, pid| p o.gets }; e = [1, 2, 3].each; p e.next, e.next; f = Fiber.new { Fiber.yield 1; 2 }; p f.resume, f.resume; GC.start; GC.compact rescue nil; ra = Ractor.new { 6 * 7 } rescue nil; p ra&.take
p Process.spawn('exit 9').then { |x| Process.wait2(x)[1].exitstatus }; p IO.select([r], nil, nil, 0); at_exit { puts 'at exit' }
END
