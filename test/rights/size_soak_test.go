//go:build soak

package rights_test

// guesses is how often a password, and a key, are guessed.
const guesses = 10_000
