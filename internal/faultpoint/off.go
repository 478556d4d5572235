//go:build !faultpoint

package faultpoint

// Enabled tells whether this build can crash on demand.
const Enabled = false

// Hit does nothing in this build.
func Hit(string) {}
