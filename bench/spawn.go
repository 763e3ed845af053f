// Starts goroutines that do nothing, in batches of a hundred, on one P: `spawn-go COUNT`.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

const batch = 100

func main() {
	runtime.GOMAXPROCS(1)
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	start := time.Now()
	// One P: goroutines take turns and never run at the same time.
	done := 0
	for started := 0; started < count; {
		for range batch {
			go func() { done++ }()
		}
		started += batch
		for done < started {
			runtime.Gosched()
		}
	}
	fmt.Printf("spawned=%d seconds=%f\n", done, time.Since(start).Seconds())
}
