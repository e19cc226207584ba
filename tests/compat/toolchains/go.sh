# go: building, vetting, testing and measuring a module; its program's http server and clients, children, signals, timers, goroutines that never yield.
set -e
export GOPATH=/tmp/go GOCACHE=/tmp/gocache GOFLAGS=-buildvcs=false; mkdir -p /tmp/m; cd /tmp/m
cat > go.mod <<'G'
module example.com/m
go 1.18
G
cat > m.go <<'G'
package main
import ("fmt"; "net/http"; "net/http/httptest"; "io"; "os/exec"; "sync"; "time"; "os"; "os/signal"; "syscall")
func Fib(n int) int { if n < 2 { return n }; return Fib(n-1) + Fib(n-2) }
func main() {
 s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body); fmt.Fprint(w, r.URL.Path) })); defer s.Close()
 var g sync.WaitGroup; var mu sync.Mutex; n := 0
 for i := 0; i < 100; i++ { g.Add(1); go func() { defer g.Done(); r, e := http.Get(s.URL + "/abc"); if e == nil { b, _ := io.ReadAll(r.Body); r.Body.Close(); mu.Lock(); n += len(b); mu.Unlock() } }() }
 g.Wait(); fmt.Println(n, Fib(25))
 o, e := exec.Command("sh", "-c", "echo child; exit 3").CombinedOutput(); fmt.Print(string(o), e, "\n")
 c := make(chan os.Signal, 1); signal.Notify(c, syscall.SIGUSR1); syscall.Kill(os.Getpid(), syscall.SIGUSR1); fmt.Println(<-c)
 t := time.NewTicker(time.Millisecond); for i := 0; i < 20; i++ { <-t.C }; for i := 0; i < 4; i++ { go func() { for { } }() }; time.Sleep(20 * time.Millisecond); fmt.Println("done")
}
G
cat > m_test.go <<'G'
package main
import ("testing"; "os"; "path/filepath")
func TestFib(t *testing.T) { if Fib(10) != 55 { t.Fatal("fib") } }
func TestPar(t *testing.T) { for i := 0; i < 8; i++ { t.Run("x", func(t *testing.T) { t.Parallel(); os.WriteFile(filepath.Join(t.TempDir(), "a"), []byte("b"), 0o600) }) } }
func BenchmarkFib(b *testing.B) { for i := 0; i < b.N; i++ { Fib(5) } }
func FuzzFib(f *testing.F) { f.Add(3); f.Fuzz(func(t *testing.T, n int) { if n >= 0 && n < 10 { Fib(n) } }) }
G
go build -o m . && ./m; go vet . && echo vetted; go test -v . 2>&1 | grep -E '^(---|PASS|FAIL)' | sed 's/ (.*//'; go test -bench . -benchtime 10x . | grep -c Benchmark
gofmt -l .
