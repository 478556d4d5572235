package control

import "fmt"

// Refused is a value that can never be taken, and what may stand in its place. It is an ErrInvalid.
type Refused struct {
	Field  string // name of the value, as the API has it; "": the thing as a whole
	Detail string // does not name the field again
}

func (r *Refused) Error() string {
	if r.Field == "" {
		return r.Detail
	}
	return r.Field + ": " + r.Detail
}

// Is makes every Refused an ErrInvalid.
func (r *Refused) Is(target error) bool { return target == ErrInvalid }

func refused(field, format string, args ...any) error {
	return &Refused{Field: field, Detail: fmt.Sprintf(format, args...)}
}

// badTenant refuses a tenant that cannot be one.
func badTenant(tenant string) error {
	return refused("tenant", "%q is not of the form [a-z0-9][a-z0-9_-]{0,62}", tenant)
}
