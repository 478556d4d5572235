package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of the kernel's process times: USER_HZ, 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// Cost is what a process has used and holds.
type Cost struct {
	CPU   time.Duration // since its start
	RSS   int64         // bytes resident
	Peak  int64         // the most of them ever
	Files int           // open descriptors
}

// Cost asks the kernel about the part's present life.
func (p *Part) Cost() (Cost, error) {
	dir := filepath.Join("/proc", strconv.Itoa(p.process().PID()))
	var c Cost
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return c, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // behind the name, which may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return c, fmt.Errorf("%s/stat: %q", dir, stat)
	}
	for _, field := range fields[11:13] { // utime, stime
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return c, fmt.Errorf("%s/stat: %w", dir, err)
		}
		c.CPU += time.Duration(ticks) * time.Second / ticksPerSecond
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return c, err
	}
	for line := range strings.Lines(string(status)) {
		for name, to := range map[string]*int64{"VmRSS:": &c.RSS, "VmHWM:": &c.Peak} {
			if text, found := strings.CutPrefix(line, name); found {
				kib, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
				if err != nil {
					return c, fmt.Errorf("%s/status: %w", dir, err)
				}
				*to = kib << 10
			}
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	c.Files = len(files)
	return c, err
}

// FilesMax is how many descriptors the kernel lets the part have.
func (p *Part) FilesMax() (int, error) {
	name := filepath.Join("/proc", strconv.Itoa(p.process().PID()), "limits")
	limits, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(limits)) {
		if rest, found := strings.CutPrefix(line, "Max open files"); found {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("%s: no limit of open files", name)
}
