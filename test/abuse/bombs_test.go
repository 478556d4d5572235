package abuse_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
)

// gzipBomb is about size bytes that unpack to a thousand times as many: members of zeros, one after another,
// which RFC 1952 allows and every reader follows.
func gzipBomb(size int) []byte {
	var member bytes.Buffer
	z := gzip.NewWriter(&member)
	_, _ = z.Write(make([]byte, 1<<20)) // a buffer takes everything
	_ = z.Close()
	return bytes.Repeat(member.Bytes(), size/member.Len()+1)[:size]
}

const (
	zstdMagic     = 0xFD2FB528
	zstdBlock     = 128 << 10 // the largest there is
	zstdRun       = 1 << 1    // a block of one byte, repeated
	zstdLast      = 1
	zstdWindow8M  = 13 << 3 // window descriptor: 2^(10+13)
	zstdWindow2G  = 21 << 3
	zstdSingle8   = 0xE0 // the frame says how long it is, in eight bytes, and has no window of its own
	zstdBlockBits = 3
)

// zstdBomb is a frame that unpacks to size bytes: 10 GB take 328 KB, and 10 KB give 330 MB, the most that
// the format allows.
func zstdBomb(size int64) []byte {
	b := binary.LittleEndian.AppendUint32(nil, zstdMagic)
	b = append(b, 0, zstdWindow8M)
	for left := size; left > 0; left -= zstdBlock {
		header := uint32(zstdBlock<<zstdBlockBits | zstdRun)
		if left <= zstdBlock {
			header |= zstdLast
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), ' ')
	}
	return b
}

// zstdLiar is a few bytes that promise more than any memory holds.
func zstdLiar(window bool) []byte {
	b := binary.LittleEndian.AppendUint32(nil, zstdMagic)
	if window {
		return append(b, 0, zstdWindow2G, 1, 0, 0)
	}
	b = append(b, zstdSingle8)
	b = binary.LittleEndian.AppendUint64(b, 1<<40)
	return append(b, 1, 0, 0)
}
