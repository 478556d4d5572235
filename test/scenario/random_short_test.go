//go:build !soak

package scenario

// historiesInShort is how many random histories are tried: a few seconds each.
const historiesInShort = 1
