package usage

import "time"

// Window says how far from now the times of an event may lie (35 days back, 5 minutes
// ahead). Past 0 means unlimited, which is what the scope events:backfill buys.
type Window struct{ Past, Future time.Duration }

// Check reports the times of an event that lie outside the window: time, recordedtime, and start and
// end of a metered span. Nothing is recorded long before it happens: that is a fault of
// recordedtime. What else carries times (trial_expiry, a term's end) is meant to be far away.
func (w Window) Check(e *Event, now Instant) []Fault {
	var faults []Fault
	check := func(pointer string, i Instant) {
		if detail := w.outside(i, now); detail != "" {
			faults = append(faults, Fault{Pointer: pointer, Code: CodeTimeWindow, Detail: detail})
		}
	}
	check("/time", e.Time)
	if e.RecordedTime.Known() && e.RecordedTime.Nanos() > now.Nanos()+int64(w.Future) {
		check("/recordedtime", e.RecordedTime) // backdating it is its purpose
	}
	if at := e.Occurred(e.RecordedTime); e.RecordedTime.Known() && at.Nanos() > e.RecordedTime.Nanos()+int64(w.Future) {
		faults = append(faults, Fault{
			Pointer: "/recordedtime", Code: CodeTimeWindow,
			Detail: at.String() + ", when it happened, is more than " + w.Future.String() + " after " + e.RecordedTime.String() + ", when it was recorded",
		})
	}
	if m := e.Metered; m != nil {
		check("/data/start", m.Start)
		check("/data/end", m.End)
	}
	return faults
}

func (w Window) outside(i, now Instant) string {
	switch {
	case !i.Known():
		return ""
	case !i.Storable():
		return ErrTimeRange.Error()
	case i.Nanos() > now.Nanos()+int64(w.Future):
		return i.String() + " is more than " + w.Future.String() + " in the future"
	case w.Past > 0 && i.Nanos() < now.Nanos()-int64(w.Past):
		return i.String() + " is more than " + days(w.Past) + " in the past"
	}
	return ""
}

func days(d time.Duration) string {
	if d%(24*time.Hour) != 0 {
		return d.String()
	}
	return Int(int64(d/(24*time.Hour))).String() + " days"
}
