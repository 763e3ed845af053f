// What a Go programmer would write: a goroutine for each connection, on one P. The same buffer as the other
// servers have; Go itself sets TCP_NODELAY and the system's longest backlog. With `discard` after the address it
// sends nothing back. Built and run by `conet-bench compare`; by hand:
// go build -o echo-go echo.go && ./echo-go 127.0.0.1:7000
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
)

const (
	bufferBytes  = 4 * 1024
	discardBytes = 64 * 1024
)

func main() {
	runtime.GOMAXPROCS(1)
	address := "127.0.0.1:7000"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	serve := echo
	if len(os.Args) > 2 && os.Args[2] == "discard" {
		serve = discard
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fail(err)
	}
	fmt.Fprintln(os.Stderr, "listening on", listener.Addr())
	for {
		conn, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		go serve(conn)
	}
}

func echo(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, bufferBytes)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func discard(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, discardBytes)
	for {
		if _, err := conn.Read(buffer); err != nil {
			return
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
