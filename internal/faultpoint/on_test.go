//go:build faultpoint

package faultpoint_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/countinghouse/countinghouse/internal/faultpoint"
)

func TestTheNthHitKills(t *testing.T) {
	if os.Getenv("FAULTPOINT_CHILD") != "" {
		for range 3 {
			faultpoint.Hit("test/other")
			faultpoint.Hit("test/here")
		}
		os.Exit(3)
	}
	for name, tt := range map[string]struct {
		at     string
		killed bool
	}{
		"third hit":    {"test/here:3", true},
		"never so far": {"test/here:4", false},
		"other name":   {"test/elsewhere:1", false},
		"unarmed":      {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestTheNthHitKills$")
			cmd.Env = append(os.Environ(), "FAULTPOINT_CHILD=1", faultpoint.Variable+"="+tt.at)
			err := cmd.Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("child: %v", err)
			}
			status := exit.Sys().(syscall.WaitStatus)
			if killed := status.Signaled() && status.Signal() == syscall.SIGKILL; killed != tt.killed {
				t.Errorf("child ended with %v, killed = %v, want %v", err, killed, tt.killed)
			}
		})
	}
}

func TestTheNthHitFreezes(t *testing.T) {
	if os.Getenv("FAULTPOINT_CHILD") != "" {
		faultpoint.Hit("test/here")
		os.Exit(3)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestTheNthHitFreezes$")
	cmd.Env = append(os.Environ(), "FAULTPOINT_CHILD=1", faultpoint.Variable+"=test/here:1"+faultpoint.Freeze)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Errorf("child stopped: %v, %v", status.Stopped(), err)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("child went on and ended with %v, want exit status 3", err)
	}
}
