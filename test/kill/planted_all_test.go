//go:build planted || soak

package kill_test

// plantedCount is how many bugs are planted: all.
const plantedCount = 1 << 10
