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
	ports := make([]int, 0, n)
	for range portTries {
		port := portMin + rand.IntN(portMax-portMin)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		defer l.Close() // held until all are chosen, so that none is chosen twice
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("find %d free ports in %d–%d: only %d", n, portMin, portMax, len(ports))
}
