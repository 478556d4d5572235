package localstack

import "context"

// EnsureLibrary is the fetch of the engine with another package in place of the pinned one.
func EnsureLibrary(ctx context.Context, spec, version, integrity string, progress Progress) (string, error) {
	return library{spec: spec, version: version, integrity: integrity}.ensure(ctx, progress)
}

// ChildEngine is the hidden argument that makes this program the engine.
const ChildEngine = childEngine
