package localstack

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// surviveResets keeps the engine alive when a client's connection is reset while it is idle.
//
// clickhouse-server installs a handler for what escapes from a connection's loop. `clickhouse local`
// does not, although it listens: there ECONNRESET between two queries ends in std::terminate, and a
// client killed with unread bytes in its socket takes the whole engine along (measured, 26.7: every
// time; the process then needs 4 s to die). So recv, as the library sees it, answers a reset as the end
// of the connection, which the engine is prepared for: the library's slot for recv in its procedure
// linkage table is pointed at a few instructions that call the real one.
func surviveResets(library string, entry uintptr) error {
	if runtime.GOARCH != "amd64" {
		return errors.New("written for amd64 only")
	}
	slot, start, err := findSlot(library, "recv")
	if err != nil {
		return err
	}
	errno, err := purego.Dlsym(purego.RTLD_DEFAULT, "__errno_location")
	if err != nil {
		return err
	}
	address := entry - start + slot
	original := *(*uintptr)(pointer(address))
	stub, err := executable(recvStub(original, errno))
	if err != nil {
		return err
	}
	page := address &^ uintptr(os.Getpagesize()-1)
	if err := syscall.Mprotect(unsafe.Slice((*byte)(pointer(page)), os.Getpagesize()), syscall.PROT_READ|syscall.PROT_WRITE); err != nil {
		return fmt.Errorf("make the linkage table writable: %w", err)
	}
	*(*uintptr)(pointer(address)) = stub
	return nil
}

// pointer is an address outside Go's memory.
func pointer(address uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&address)) }

// recvStub is the code of: n := recv(…); if n == -1 && errno == ECONNRESET { n = 0 }; return n.
func recvStub(recv, errno uintptr) []byte {
	code := []byte{0x53}            // push rbx: keeps the stack aligned for the calls
	code = append(code, 0x48, 0xB8) // mov rax, recv; the arguments are where they were
	code = binary.LittleEndian.AppendUint64(code, uint64(recv))
	code = append(code,
		0xFF, 0xD0, // call rax
		0x48, 0x83, 0xF8, 0xFF, // cmp rax, -1
		0x75, 0x1A, // jne done
		0x48, 0xB8) // mov rax, __errno_location
	code = binary.LittleEndian.AppendUint64(code, uint64(errno))
	return append(code,
		0xFF, 0xD0, // call rax
		0x83, 0x38, byte(syscall.ECONNRESET), // cmp dword [rax], ECONNRESET
		0x48, 0xC7, 0xC0, 0xFF, 0xFF, 0xFF, 0xFF, // mov rax, -1; leaves the flags alone
		0x75, 0x02, // jne done
		0x31, 0xC0, // xor eax, eax
		0x5B, // done: pop rbx
		0xC3) // ret
}

// executable puts code where it can run, for as long as the process lives.
func executable(code []byte) (uintptr, error) {
	page, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return 0, fmt.Errorf("memory for code: %w", err)
	}
	copy(page, code)
	if err := syscall.Mprotect(page, syscall.PROT_READ|syscall.PROT_EXEC); err != nil {
		return 0, fmt.Errorf("make code executable: %w", err)
	}
	return uintptr(unsafe.Pointer(&page[0])), nil
}

// findSlot finds, as offsets within the library, the slot of an imported function in the procedure
// linkage table, and the engine's entry.
func findSlot(library, function string) (slot, entry uintptr, err error) {
	f, err := elf.Open(library)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return 0, 0, fmt.Errorf("symbols of %s: %w", library, err)
	}
	wanted := uint64(math.MaxUint64)
	for i, s := range symbols {
		switch s.Name {
		case function:
			wanted = uint64(i) + 1 // the list leaves the empty symbol 0 out
		case engineEntry:
			entry = uintptr(s.Value)
		}
	}
	table, err := linkage(f)
	if err != nil {
		return 0, 0, err
	}
	const size, jumpSlot = 24, uint64(elf.R_X86_64_JMP_SLOT) // an ELF64 relocation: offset, info, addend
	for ; len(table) >= size; table = table[size:] {
		info := binary.LittleEndian.Uint64(table[8:])
		if info>>32 == wanted && info&math.MaxUint32 == jumpSlot {
			slot = uintptr(binary.LittleEndian.Uint64(table))
		}
	}
	if slot == 0 || entry == 0 {
		return 0, 0, fmt.Errorf("%s does not import %s or has no %s", library, function, engineEntry)
	}
	return slot, entry, nil
}

// linkage reads the relocations of the procedure linkage table.
func linkage(f *elf.File) ([]byte, error) {
	value := func(tag elf.DynTag) uint64 {
		v, err := f.DynValue(tag)
		if err != nil || len(v) != 1 {
			return 0
		}
		return v[0]
	}
	at, size := value(elf.DT_JMPREL), value(elf.DT_PLTRELSZ)
	const most = 1 << 20 // bytes; it is 11 KB
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && at >= p.Vaddr && at+size <= p.Vaddr+p.Filesz && size <= most {
			table := make([]byte, size)
			if _, err := p.ReadAt(table, int64(at-p.Vaddr)); err != nil && !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("linkage table: %w", err)
			}
			return table, nil
		}
	}
	return nil, errors.New("no linkage table")
}
