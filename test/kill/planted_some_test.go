//go:build !planted && !soak

package kill_test

// plantedCount is how many bugs are planted: each costs a build.
const plantedCount = 2
