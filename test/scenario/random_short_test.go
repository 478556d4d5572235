//go:build !soak

package scenario

// historiesInShort is how many random histories are tried: a few seconds each. Of the numbers in their reports so many
// are proved; closesInShort is how often their months are closed.
const (
	historiesInShort = 1
	provedPercent    = 3
	closesInShort    = 2
)
