//go:build soak

package fight

// Soak: the full forms run.
const Soak = true
