package browser_test

import (
	"fmt"
	"testing"
)

// TestReplay mends a dead letter of months ago on its page and sends it again: it counts, and the dead letter stays.
func TestReplay(t *testing.T) {
	b := open(t)
	b.visit("/dead-letters?reason=conflict")
	b.follow("twice")
	if got := b.text(".notice strong"); got != "conflict" {
		t.Errorf("the reason is %q", got)
	}
	b.follow("Send it again")
	b.click("main form button.main") // its id is taken
	b.await("the fault", `document.readyState === "complete" && !!document.querySelector("#f-event-fault")`)
	mended := eval[string](b, `(e => { e.id = "twice-mended"; return JSON.stringify(e) })(JSON.parse(document.querySelector("textarea[name=event]").value))`)
	// Ingest may be too busy to answer at once: the page says so, and to send it again does no harm.
	err := await(t.Context(), pageWait, func() error {
		before := eval[string](b, `String(performance.timeOrigin)`)
		b.fill("textarea[name=event]", mended)
		b.click("main form button.main")
		b.await("an answer", fmt.Sprintf(`String(performance.timeOrigin) !== %q && document.readyState === "complete"`, before))
		if !eval[bool](b, `location.pathname === "/event" || document.querySelector(".notice.good") !== null`) {
			return fmt.Errorf("the page says %q", b.text("main"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = await(t.Context(), pageWait, func() error {
		b.visit("/event?source=demo%2Fcloud&id=twice-mended")
		if got := b.text(".notice.good strong"); got != "It counts." {
			return fmt.Errorf("the event that was sent again: %q", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	b.visit("/dead-letters?reason=conflict")
	if !eval[bool](b, fmt.Sprintf(`document.querySelector("main").innerText.includes(%q)`, "twice")) {
		t.Error("the dead letter is gone")
	}
	b.quiet("replay")
}
