package rig

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// Network is a switch of this machine's own, with hosts that are network namespaces: what happens between
// them is the kernel's TCP on a real link, and any link can be lost in one direction. It reaches nothing
// else; the test itself, and every part that is not put into a host, is on it under the address Root.
type Network struct {
	t      *testing.T
	bridge string
	prefix string // of the addresses, three bytes
	hosts  []*Host
}

// Host is a machine of a Network.
type Host struct {
	Address string

	network *Network
	space   string // namespace
	link    string // its end of the link within the namespace
}

// nowhere is an address that no card has: what is sent there is thrown away by whoever gets it.
const nowhere = "02:00:00:00:00:01"

// NewNetwork makes a network of n hosts. It needs root, and iproute2.
func NewNetwork(t *testing.T, n int) *Network {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatalf("ip is needed to part servers from each other: apt-get install iproute2, or make deps: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Fatal("root is needed to make networks to part servers in: sudo, or unshare --user --map-root-user --net --mount in which /run is a tmpfs")
	}
	net := free(t)
	t.Cleanup(net.remove)
	net.ip("address", "add", net.Root()+"/24", "dev", net.bridge)
	net.ip("link", "set", net.bridge, "up")
	for i := range n {
		h := &Host{network: net, Address: fmt.Sprint(net.prefix, 10+i), space: fmt.Sprintf("%s-%d", net.bridge, i), link: "eth0"}
		net.hosts = append(net.hosts, h)
		net.ip("netns", "add", h.space)
		net.ip("link", "add", h.cable(), "type", "veth", "peer", "name", h.link, "netns", h.space)
		net.ip("link", "set", h.cable(), "master", net.bridge, "up")
		h.ip("link", "set", "lo", "up")
		h.ip("address", "add", h.Address+"/24", "dev", h.link)
		h.ip("link", "set", h.link, "up")
	}
	return net
}

// free makes a bridge whose name and addresses nobody has: others may make some at the same time, and then one of them
// looks for another name. The addresses are of 198.18.0.0/15, which is set aside for tests of networks (RFC 2544).
func free(t *testing.T) *Network {
	t.Helper()
	why := ""
	for range 100 {
		n := rand.IntN(512)
		net := &Network{t: t, bridge: fmt.Sprintf("chb%d", n), prefix: fmt.Sprintf("198.%d.%d.", 18+n/256, n%256)}
		taken, err := exec.Command("ip", "-oneline", "address", "show", "to", net.prefix+"0/24").CombinedOutput()
		if err != nil {
			t.Fatalf("ip address: %v: %s", err, taken)
		}
		if len(taken) > 0 {
			continue
		}
		out, err := exec.Command("ip", "link", "add", net.bridge, "type", "bridge").CombinedOutput()
		if err == nil {
			return net
		}
		why = string(out) // somebody was faster, or it cannot be made at all
	}
	t.Fatalf("no network is free: remove what killed tests have left: ip link, ip netns: %s", why)
	return nil
}

// Root is the address of everything that is in no host.
func (n *Network) Root() string { return n.prefix + "1" }

// Host is host i.
func (n *Network) Host(i int) *Host { return n.hosts[i] }

func (n *Network) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (h *Host) ip(args ...string) {
	h.network.t.Helper()
	h.network.ip(append([]string{"-n", h.space}, args...)...)
}

// cable is the switch's end of the host's link.
func (h *Host) cable() string {
	return fmt.Sprintf("chv%s", strings.TrimPrefix(h.space, "chb"))
}

func (n *Network) remove() {
	for _, h := range n.hosts {
		_ = exec.Command("ip", "link", "delete", h.cable()).Run() // gone already is as good
		_ = exec.Command("ip", "netns", "delete", h.space).Run()
	}
	_ = exec.Command("ip", "link", "delete", n.bridge).Run()
}

// within is a part that runs in the host.
func (h *Host) within(part localstack.Part) (localstack.Part, error) {
	exe, err := executable(part)
	if err != nil {
		return part, err
	}
	part.Args = append([]string{"netns", "exec", h.space, exe}, part.Args...)
	part.Exe = "ip"
	return part, nil
}

// Unplug takes the host's link down, Plug up again.
func (h *Host) Unplug() { h.network.ip("link", "set", h.cable(), "down") }

// Plug undoes Unplug.
func (h *Host) Plug() { h.network.ip("link", "set", h.cable(), "up") }

// Lose throws away, without a word, whatever the host sends to another from now on; the other direction is
// not touched. Find undoes it.
func (h *Host) Lose(to *Host) {
	h.ip("neighbour", "replace", to.Address, "lladdr", nowhere, "dev", h.link, "nud", "permanent")
}

// Find undoes Lose.
func (h *Host) Find(to *Host) { h.ip("neighbour", "delete", to.Address, "dev", h.link) }

// Hosts are all of them.
func (n *Network) Hosts() []*Host { return n.hosts }
