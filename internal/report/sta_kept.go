package report

import (
	"context"
	"encoding/json"
	"fmt"
)

// The accounts of a question's months with their numbers are kept, so that the next page, and the next question, need
// only the rows that it shows. They are kept by all that they follow from: the fingerprints of the directory and of
// the rows that were counted. A late event, a void, a new name or another parent changes one of these, and what was
// kept is not found any more; another as_of or version has its own.

const (
	// bookKeptMax bounds what is kept over all tenants, in accounts times months, about 75 bytes each: 10,000 accounts in
	// 11 months are 8 MB, all together 75 MB.
	bookKeptMax = 1_000_000
	// pinsMax bounds the cuts of which it is known what they are kept as.
	pinsMax = 2000
)

// staPlace is a row of an export.
type staPlace struct{ x, month int32 }

// staNeed says what of a book is needed.
type staNeed struct {
	staNumbers
	scope string // whose rows are put in order, "" for none
}

// question names what is asked of a state of the log.
func (q *staAsk) question(need staNeed) string {
	return fmt.Sprintf("%s %q %s %s %v", q.tenant, q.account, q.months[0], q.months[len(q.months)-1], need)
}

// pin names a question at exactly this cut.
func (q *staAsk) pin(question string) string {
	cut := q.cut
	cut.Now = false
	text, _ := json.Marshal(cut) // numbers only: never fails
	return question + " " + string(text)
}

// staRead is the months of an account with the numbers of their users, perhaps as they were kept: it is read, never
// changed.
func (r *Reports) staRead(ctx context.Context, q *staAsk, need staNeed) (*staBook, error) {
	question := q.question(need)
	if q.pinned {
		if name := r.pins.get(q.pin(question)); name != nil {
			if kept := r.staBooks.get(*name); kept != nil {
				return kept, nil
			}
		}
	}
	users, err := r.countUsers(ctx, q, need.staNumbers)
	if err != nil {
		return nil, err
	}
	name, settled := users.name()
	settled = settled && q.directory != ""
	name = question + " " + q.directory + " " + name
	if settled {
		r.pins.put(q.pin(question), &name, 1)
		if kept := r.staBooks.get(name); kept != nil {
			return kept, nil
		}
	}
	b := q.fold()
	b.count(users)
	if need.scope != "" {
		b.places = b.placesOf(q, need.scope)
	}
	if settled {
		b = r.staBooks.put(name, b, 1+len(b.ids)*len(q.months))
	}
	return b, nil
}

// staReadAll is the same of all accounts of a tenant, and is not kept: who asks for it keeps the answer. Its numbers are
// by plan only: where nobody has one, there is nothing to count.
func (r *Reports) staReadAll(ctx context.Context, q *staAsk) (*staBook, error) {
	b := q.fold()
	var users staUsers
	if b.planned() {
		var err error
		if users, err = r.countUsers(ctx, q, staNumbers{population: true, activity: true}); err != nil {
			return nil, err
		}
	}
	b.count(users)
	return b, nil
}
