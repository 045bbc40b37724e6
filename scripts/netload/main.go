// Netload is what scripts/bench-net loads a network with, and measures it by.
//
//	netload serve ADDR              answers each byte of each connection with itself
//	netload connections ADDR RATE TIME   connections a second, RATE at most: each is made, answered, and closed;
//	                                     and how many were not
//	netload latency ADDR COUNT      median and 99th percentile of a byte's way there and back, in microseconds
//	netload hold ADDR COUNT         holds as many connections, says so, and waits for the end of stdin
//	netload forward SOCKET FROM TO  has the slirp4netns of that API socket publish port TO as 127.0.0.1:FROM
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "netload:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) == 4 && args[0] == "connections":
		rate, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		length, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		return connections(args[1], rate, length)
	case len(args) == 3 && (args[0] == "latency" || args[0] == "hold"):
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		if args[0] == "hold" {
			return hold(args[1], n)
		}
		return latency(args[1], n)
	case len(args) == 4 && args[0] == "forward":
		return forward(args[1], args[2], args[3])
	}
	return fmt.Errorf("no such use: %s", strings.Join(args, " "))
}

func serve(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
	}
}

// ask sends a byte and waits for it.
func ask(c net.Conn) error {
	b := []byte{'x'}
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// connect waits three seconds, for the connection and for all that is asked on it.
func connect(addr string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 3*time.Second)
	if err == nil {
		err = c.SetDeadline(time.Now().Add(3 * time.Second))
	}
	return c, err
}

func connections(addr string, rate int, length time.Duration) error {
	var made, failed atomic.Int64
	var workers sync.WaitGroup
	begin := time.Now()
	next := make(chan struct{})
	for range 32 {
		workers.Go(func() {
			for range next {
				c, err := connect(addr)
				if err == nil {
					err = ask(c)
					c.Close()
				}
				if err != nil {
					failed.Add(1)
				} else {
					made.Add(1)
				}
			}
		})
	}
	for i := 0; time.Since(begin) < length; i++ {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		next <- struct{}{}
	}
	close(next)
	workers.Wait()
	fmt.Printf("%.0f %d\n", float64(made.Load())/time.Since(begin).Seconds(), failed.Load())
	return nil
}

func latency(addr string, count int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	var times []time.Duration
	for range count {
		begin := time.Now()
		if err := ask(c); err != nil {
			return err
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	for _, t := range []time.Duration{times[count/2], times[count*99/100]} {
		fmt.Printf("%.1f ", float64(t.Nanoseconds())/1000)
	}
	fmt.Println()
	return nil
}

func hold(addr string, count int) error {
	for range count {
		c, err := connect(addr)
		if err != nil {
			return err
		}
		if err := ask(c); err != nil {
			return err
		}
		defer c.Close()
	}
	fmt.Println("holds", count)
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func forward(socket, from, to string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, `{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":%s,"guest_addr":"10.0.2.100","guest_port":%s}}`, from, to); err != nil {
		return err
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	var answer struct{ Error json.RawMessage }
	if err := json.NewDecoder(c).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return fmt.Errorf("slirp4netns: %s", answer.Error)
	}
	return nil
}
