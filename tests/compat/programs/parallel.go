// A static Go program that uses what Go's runtime asks of a kernel: threads, futexes, signals for preemption, epoll, timers, children.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Loops without calls are preempted by signals only.
func preempted() {
	var stop atomic.Bool
	for i := 0; i < 4; i++ {
		go func() {
			for n := 0; !stop.Load(); n++ {
			}
		}()
	}
	time.Sleep(20 * time.Millisecond)
	runtime.GC()
	stop.Store(true)
	fmt.Println("preempted")
}

func workers() {
	var group sync.WaitGroup
	var lock sync.Mutex
	in, total := make(chan int), 0
	for i := 0; i < 16; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			runtime.LockOSThread()
			for n := range in {
				sum := sha256.Sum256([]byte(fmt.Sprint(n)))
				lock.Lock()
				total += int(sum[0])
				lock.Unlock()
			}
		}()
	}
	for n := 0; n < 20000; n++ {
		in <- n
	}
	close(in)
	group.Wait()
	fmt.Println("total", total)
}

func garbage() {
	debug.SetGCPercent(20)
	var keep [][]byte
	for i := 0; i < 2000; i++ {
		b := make([]byte, 1<<uint(i%16))
		b[0] = byte(i)
		if i%10 == 0 {
			keep = append(keep, b)
		}
	}
	debug.FreeOSMemory()
	fmt.Println("kept", len(keep))
}

func served() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })}
	go server.Serve(listener)
	var group sync.WaitGroup
	var bytes atomic.Int64
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for j := 0; j < 20; j++ {
				read, write := io.Pipe()
				go func() { fmt.Fprintf(write, "%4096d", j); write.Close() }()
				answer, err := http.Post("http://"+listener.Addr().String(), "text/plain", read)
				must(err)
				n, err := io.Copy(io.Discard, answer.Body)
				must(err)
				answer.Body.Close()
				bytes.Add(n)
			}
		}()
	}
	group.Wait()
	must(server.Shutdown(context.Background()))
	connection, err := net.DialTimeout("tcp", listener.Addr().String(), time.Second)
	fmt.Println("served", bytes.Load(), connection == nil && err != nil)
}

func children() {
	var group sync.WaitGroup
	var good atomic.Int32
	for i := 0; i < 8; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			out, err := exec.Command("/bin/sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%3)).Output()
			code := 0
			if e, ok := err.(*exec.ExitError); ok {
				code = e.ExitCode()
			}
			if string(out) == fmt.Sprintf("%d\n", i) && code == i%3 {
				good.Add(1)
			}
		}()
	}
	group.Wait()
	// Ended once it runs: a limit of time could pass before, on a busy machine, and then the error is another.
	ended, end := context.WithCancel(context.Background())
	command := exec.CommandContext(ended, "/bin/sleep", "60")
	must(command.Start())
	end()
	fmt.Println("children", good.Load(), command.Wait())
}

func signalled() {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	must(syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	fmt.Println("signal", <-got)
	defer func() { fmt.Println("recovered", recover() != nil) }()
	var nothing *int
	fmt.Println(*nothing)
}

func files() {
	directory, err := os.MkdirTemp("", "go")
	must(err)
	defer os.RemoveAll(directory)
	for i := 0; i < 50; i++ {
		must(os.WriteFile(filepath.Join(directory, fmt.Sprint(i)), make([]byte, i*100), 0o600))
	}
	var size int64
	must(filepath.Walk(directory, func(path string, info os.FileInfo, err error) error {
		if !info.IsDir() {
			size += info.Size()
		}
		return err
	}))
	read, write, err := os.Pipe()
	must(err)
	go func() { fmt.Fprintln(write, "through a pipe"); write.Close() }()
	must(read.SetReadDeadline(time.Now().Add(5 * time.Second)))
	line, err := bufio.NewReader(read).ReadString('\n')
	must(err)
	fmt.Print("files ", size, " ", line)
}

func main() {
	preempted()
	workers()
	garbage()
	served()
	children()
	signalled()
	files()
	ticks := 0
	for range time.NewTicker(time.Millisecond).C {
		if ticks++; ticks == 20 {
			break
		}
	}
	fmt.Println("ticks", ticks)
}
