package localstack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that Linux uses for outgoing connections
// (32768–60999), so that no connection can occupy a port between its choice and its use,
// nor while a killed server is started again on it.
const (
	portMin   = 20000
	portMax   = 32000
	portTries = 1000
)

// FreePorts returns n loopback ports that were free a moment ago. Another process may take
// one before it is used: whoever can, tries again with others.
func FreePorts(n int) ([]int, error) {
	var held []net.Listener // until all are chosen, so that none is chosen twice
	defer func() {
		for _, l := range held {
			_ = l.Close() // a listener that nobody connected to
		}
	}()
	ports := make([]int, 0, n)
	for try := 0; len(ports) < n; try++ {
		if try == portTries {
			return nil, fmt.Errorf("find %d free ports in %d–%d: only %d", n, portMin, portMax, len(ports))
		}
		port := portMin + rand.IntN(portMax-portMin)
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		held, ports = append(held, l), append(ports, port)
	}
	return ports, nil
}
