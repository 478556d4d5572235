// Package faultpoint names the instructions at which a crash is interesting, and crashes there when a
// test asks for it.
//
// In a normal build Hit is empty and inlined away. Built with `-tags faultpoint`, the variable
// COUNTINGHOUSE_CRASH_AT=name:n makes the n-th Hit(name) of the process a SIGKILL of itself: nothing is
// flushed, no deferred call runs, exactly as when the kernel or an operator kills it. With name:n:freeze the process
// stands still there instead (SIGSTOP), as one does whose machine was suspended, and goes on when it is told to.
//
// Names are constants written as literals, "package/what-just-happened", so that a test can list them
// from the source and fail when one is never hit.
package faultpoint

// Variable names the environment variable that arms a crash: name:n, n counted from 1, or name:n:freeze.
const Variable = "COUNTINGHOUSE_CRASH_AT"

// Freeze, behind a name and a number, stops the process instead of killing it.
const Freeze = ":freeze"
