//go:build !soak

package scenario

// historiesInShort is how many random histories are tried: about two seconds each.
const historiesInShort = 4
