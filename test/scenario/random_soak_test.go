//go:build soak

package scenario

const historiesInShort = 100
