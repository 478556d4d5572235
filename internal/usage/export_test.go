package usage

// Strict is the strict path alone, for the tests that hold the fast one to it.
func (p *Parser) Strict(doc []byte) (Event, []Fault) { return p.strictEvent(doc) }

// Fast reports whether the fast path takes the event.
func (p *Parser) Fast(doc []byte) bool {
	var e Event
	end, ok := p.fastEvent(&e, doc, string(doc), 0)
	return ok && isSpace(doc[end:])
}
