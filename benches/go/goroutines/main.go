// The peer of runtime/examples/goroutines.rs: the same work on Go's runtime.
//
// It is called with the name of a measurement and prints its values, in
// nanoseconds, one a line.
package main

import (
	"fmt"
	"log"
	"os"
	"runtime"
	"sync"
	"time"
)

const (
	batch    = 1000
	capacity = 128
)

func perRound(rounds int, work func()) {
	start := time.Now()
	work()
	fmt.Printf("%.1f\n", float64(time.Since(start).Nanoseconds())/float64(rounds))
}

// spawn starts goroutines that end at once, a batch at a time.
func spawn(rounds int) {
	perRound(rounds, func() {
		var wg sync.WaitGroup
		for range rounds / batch {
			wg.Add(batch)
			for range batch {
				go func() { wg.Done() }()
			}
			wg.Wait()
		}
	})
}

// pingPong hands a value back and forth over two unbuffered channels, with a
// goroutine that may have a thread of its own.
func pingPong(rounds int, locked bool) {
	there, back := make(chan int), make(chan int)
	go func() {
		if locked {
			runtime.LockOSThread()
		}
		for value := range there {
			back <- value
		}
	}()
	perRound(rounds, func() {
		for i := range rounds {
			there <- i
			<-back
		}
	})
	close(there)
}

// buffered sends values from one producer to one consumer.
func buffered(rounds int) {
	values := make(chan int, capacity)
	perRound(rounds, func() {
		go func() {
			for i := range rounds {
				values <- i
			}
			close(values)
		}()
		for range values {
		}
	})
}

// yield is a turn of two goroutines that only let each other run.
func yield(rounds int) {
	var wg sync.WaitGroup
	perRound(rounds, func() {
		for range 2 {
			wg.Go(func() {
				for range rounds / 2 {
					runtime.Gosched()
				}
			})
		}
		wg.Wait()
	})
}

func spin(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// wake is the time from the readying of a goroutine to its run on a P that
// was idle; the one that readies keeps its own P busy.
func wake(rounds int) {
	ready, woken := make(chan time.Time, 1), make(chan time.Duration, 1)
	go func() {
		for sent := range ready {
			woken <- time.Since(sent)
		}
	}()
	for range rounds {
		// Long enough for the other P to have gone to sleep.
		spin(300 * time.Microsecond)
		ready <- time.Now()
		spin(300 * time.Microsecond)
		fmt.Println((<-woken).Nanoseconds())
	}
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: goroutines spawn|ping-pong|threads|buffered|yield|wake")
	}
	switch os.Args[1] {
	case "spawn":
		spawn(1_000_000)
	case "ping-pong":
		pingPong(1_000_000, false)
	case "threads":
		pingPong(20_000, true)
	case "buffered":
		buffered(4_000_000)
	case "yield":
		yield(2_000_000)
	case "wake":
		wake(1000)
	default:
		log.Fatalf("there is no measurement called %q", os.Args[1])
	}
}
