package main

import (
	"strings"
	"testing"
)

// A store keeps the population that it was given: another number of accounts is refused, and says how many there are.
func TestPopulationOfAnotherSize(t *testing.T) {
	dir := t.TempDir()
	info, p, err := readPopulation(dir, 60)
	if err != nil {
		t.Fatal(err)
	}
	if err := info.save(dir); err != nil {
		t.Fatal(err)
	}
	again, same, err := readPopulation(dir, 60)
	if err != nil || *again != *info || same.events() != p.events() || same.month != p.month {
		t.Errorf("the same: %+v, %v; want %+v", again, err, info)
	}
	if _, _, err := readPopulation(dir, 61); err == nil || !strings.Contains(err.Error(), "60 accounts") || !strings.Contains(err.Error(), "--population asks for 61") {
		t.Errorf("another: %v", err)
	}
	info.Format++
	if err := info.save(dir); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readPopulation(dir, 60); err == nil || !strings.Contains(err.Error(), "remove the store") {
		t.Errorf("another format: %v", err)
	}
}
