//go:build !soak

package kill_test

const soak = false
