package sheet

import (
	"strings"
	"unicode"
)

const nameRunesMax = 120 // with four bytes each still below the 255 bytes of Linux, nearly always

// FileName makes a suggested name safe for every file system, header and mail; ids of accounts can hold anything.
func FileName(name string, f Format) string {
	name = strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) || strings.ContainsRune("-_. ", c) {
			return c
		}
		return '_'
	}, name)
	if runes := []rune(name); len(runes) > nameRunesMax {
		name = string(runes[:nameRunesMax])
	}
	return strings.TrimLeft(name, ". ") + f.Extension()
}
