package localstack_test

import (
	"testing"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

func TestMain(m *testing.M) { localstack.Main(m) }
