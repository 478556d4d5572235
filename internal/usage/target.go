package usage

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ParseTarget reads what an event.voided names from its stored data (canonical JSON, validated when it
// was accepted).
func ParseTarget(data string) (Identity, error) {
	var void struct {
		Target struct {
			Source string `json:"source"`
			ID     string `json:"id"`
		} `json:"target"`
	}
	if err := json.Unmarshal([]byte(data), &void); err != nil {
		return Identity{}, fmt.Errorf("read the target of a void: %w", err)
	}
	if void.Target.Source == "" || void.Target.ID == "" {
		return Identity{}, errors.New("a void names no target")
	}
	return Identity{Source: void.Target.Source, ID: void.Target.ID}, nil
}
