package rig

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StepClock sets the wall clock of a part's process, and of no other, to d from the machine's, as an operator or
// NTP does: at once, while everything runs. Its monotonic clock goes on as it was. The next life has the
// machine's clock again.
//
// How: a process reads its clocks in the vDSO, a page of code that the kernel maps into it. Three functions of this
// process's copy are replaced by ones that make the system call and add d. Time namespaces cannot
// do it (they have no wall clock), and a preloaded library is not asked by a Go program.
func (p *Part) StepClock(d time.Duration) error {
	pid := p.process().PID()
	if err := stepClock(pid, int64(d/time.Second)); err != nil {
		return fmt.Errorf("step the clock of %s (process %d; needs ptrace rights on amd64 Linux): %w", p.Name, pid, err)
	}
	return nil
}

// vdso is a process's copy of it.
type vdso struct {
	mem   *os.File
	start uint64
	end   uint64
	image []byte
}

func openVDSO(pid int) (*vdso, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	v := &vdso{}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x ", &v.start, &v.end); err != nil {
				return nil, err
			}
		}
	}
	if v.start == 0 {
		return nil, errors.New("the process has no vDSO")
	}
	if v.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	v.image = make([]byte, v.end-v.start)
	if _, err := v.mem.ReadAt(v.image, int64(v.start)); err != nil {
		return nil, errors.Join(err, v.mem.Close())
	}
	return v, nil
}

// Code for amd64. Each makes its system call, adds the eight bytes that follow it to the seconds of the wall clock, and returns.
func shifted() map[string][]byte {
	return map[string][]byte{
		"__vdso_clock_gettime": {
			0xB8, 0xE4, 0, 0, 0, 0x0F, 0x05, // mov eax, 228; syscall
			0x85, 0xC0, 0x75, 0x13, // test eax, eax; jne out
			0x85, 0xFF, 0x74, 0x05, // test edi, edi (CLOCK_REALTIME); je add
			0x83, 0xFF, 0x05, 0x75, 0x0A, // cmp edi, 5 (its coarse form); jne out
			0x48, 0x8B, 0x0D, 0x04, 0, 0, 0, // add: mov rcx, [delta]
			0x48, 0x01, 0x0E, 0xC3, // add [rsi], rcx; out: ret
		},
		"__vdso_gettimeofday": {
			0xB8, 0x60, 0, 0, 0, 0x0F, 0x05, // mov eax, 96; syscall
			0x48, 0x85, 0xFF, 0x74, 0x0A, // test rdi, rdi; je out
			0x48, 0x8B, 0x0D, 0x04, 0, 0, 0, // mov rcx, [delta]
			0x48, 0x01, 0x0F, 0xC3, // add [rdi], rcx; out: ret
		},
		"__vdso_time": {
			0x57, 0x31, 0xFF, // push rdi; xor edi, edi
			0xB8, 0xC9, 0, 0, 0, 0x0F, 0x05, 0x5F, // mov eax, 201; syscall; pop rdi
			0x48, 0x03, 0x05, 0x09, 0, 0, 0, // add rax, [delta]
			0x48, 0x85, 0xFF, 0x74, 0x03, // test rdi, rdi; je out
			0x48, 0x89, 0x07, 0xC3, // mov [rdi], rax; out: ret
		},
	}
}

const jump = 5 // bytes of a jmp rel32

func stepClock(pid int, seconds int64) error {
	v, err := openVDSO(pid)
	if err != nil {
		return err
	}
	defer v.mem.Close()
	file, err := elf.NewFile(bytes.NewReader(v.image))
	if err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	// The end of its last page is empty: room for code that no thread can be in the middle of.
	room := uint64(len(v.image)) - 256
	type patch struct {
		at   uint64
		code []byte
	}
	var bodies, entries []patch
	known := shifted()
	for _, s := range symbols {
		code, ours := known[s.Name]
		if !ours {
			continue
		}
		body := binary.LittleEndian.AppendUint64(bytes.Clone(code), uint64(seconds))
		bodies = append(bodies, patch{room, body})
		entry := binary.LittleEndian.AppendUint32([]byte{0xE9}, uint32(room-s.Value-jump))
		entries = append(entries, patch{s.Value, entry})
		room += 64
	}
	if len(entries) != len(known) {
		return fmt.Errorf("the vDSO has %d of the %d clocks", len(entries), len(known))
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }() // it has ended: the caller will see
	if err := stopped(pid); err != nil {
		return err
	}
	for _, p := range append(bodies, entries...) {
		if _, err := v.mem.WriteAt(p.code, int64(v.start+p.at)); err != nil {
			return fmt.Errorf("write to the vDSO: %w", err)
		}
	}
	return nil
}

// stopped waits until no thread runs.
func stopped(pid int) error {
	for deadline := time.Now().Add(SettleWait); time.Now().Before(deadline); {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(tasks) == 0 {
			return errors.Join(errors.New("the process has ended"), err)
		}
		running := 0
		for _, name := range tasks {
			stat, err := os.ReadFile(name)
			if err != nil {
				continue // a thread that has ended
			}
			_, after, _ := strings.Cut(string(stat), ") ")
			if !strings.HasPrefix(after, "T") {
				running++
			}
		}
		if running == 0 {
			return nil
		}
	}
	return errors.New("process " + strconv.Itoa(pid) + " does not stop")
}
