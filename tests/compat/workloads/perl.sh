# perl: forks, pipes, sockets, signals, locks, sorting, regular expressions.
cat > /tmp/p.pl <<'END'
use strict; use warnings; use Fcntl ':flock'; use POSIX ':sys_wait_h'; use Socket; use IO::Select; use Time::HiRes qw(usleep alarm); use File::Temp; use IPC::Open3;
$| = 1; my @pids;
for my $n (1 .. 8) { my $p = fork; if (!$p) { open my $f, '>>', '/tmp/lock' or die; for (1 .. 200) { flock $f, LOCK_EX; seek $f, 0, 2; print $f "$n\n"; $f->flush; flock $f, LOCK_UN } POSIX::_exit($n) } push @pids, $p }
print join(' ', map { waitpid $_, 0; $? >> 8 } @pids), "\n"; open my $l, '<', '/tmp/lock'; my %c; $c{$_}++ while <$l>; print join(',', map { $c{$_} } sort keys %c), "\n";
my $hit = 0; $SIG{ALRM} = sub { $hit++ }; alarm 0.05; select undef, undef, undef, 5; print "alarm $hit ", ($!{EINTR} ? "interrupted" : "not"), "\n";
{ local $SIG{CHLD} = sub { 1 while waitpid(-1, WNOHANG) > 0; $hit += 10 }; my $p = fork // die; exit 0 unless $p; usleep 200000; print "child $hit\n" }
socketpair my $one, my $other, AF_UNIX, SOCK_STREAM, PF_UNSPEC; syswrite $one, "ping"; sysread $other, my $got, 10; print "$got\n"; shutdown $one, 1; print sysread($other, $got, 1), "\n"; $SIG{PIPE} = 'IGNORE'; close $other; print defined syswrite($one, 'x') ? 'sent' : "$!", "\n";
socket my $s, PF_INET, SOCK_STREAM, 0; bind $s, sockaddr_in(0, INADDR_LOOPBACK); listen $s, 5; my ($port) = sockaddr_in(getsockname $s);
if (!fork) { socket my $c, PF_INET, SOCK_STREAM, 0; connect $c, sockaddr_in($port, INADDR_LOOPBACK) or die; syswrite $c, "x" x 100000; exit } my $peer = accept my $c, $s; my $n = 0; while (my $r = sysread $c, my $d, 65536) { $n += $r } print "received $n\n"; wait;
my $pid = open3(my $in, my $out, undef, 'sh', '-c', 'read x; echo got $x; echo bad >&2; exit 9'); print $in "word\n"; close $in; print sort <$out>; waitpid $pid, 0; print $? >> 8, "\n";
print `echo backtick; exit 2`, $? >> 8, "\n"; system 'sh', '-c', 'kill -TERM $$'; print $? & 127, "\n";
my $t = File::Temp->new; truncate $t, 1 << 20; print -s $t, ' ', (stat $t)[12], "\n"; my @w = map { ($_ * 7919) % 10007 } 1 .. 20000; my @o = sort { $a <=> $b } @w; print "$o[0] $o[-1] ", scalar(@o), "\n"; (my $x = 'a' x 5000 . 'b') =~ /^(a+)+b$/ and print "matched ", length $1, "\n";
print join(' ', map { sprintf '%s', (getpwnam $_)[2] } qw(root daemon nobody)), " $0 $^O\n"; opendir my $d, '/proc/self/fd'; my @fds = grep /\d/, readdir $d; print scalar(@fds) > 3 ? "fds\n" : "none\n"; eval { local $SIG{ALRM} = sub { die "late\n" }; alarm 0.05; 1 while 1 }; print $@; exit 5;
END
perl /tmp/p.pl; echo $?
