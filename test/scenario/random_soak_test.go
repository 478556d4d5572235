//go:build soak

package scenario

const (
	historiesInShort = 100
	provedPercent    = 30
	closesInShort    = 6
)
