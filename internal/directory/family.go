package directory

import "strings"

// family is a tree's living accounts by name.
type family struct {
	names map[string]*account // nil while there is one
	name  string
	one   *account
}

// newFamily is that of an account that is to exist; the account does not know it yet.
func newFamily(a *account, name string) *family { return &family{name: name, one: a} }

func (f *family) size() int {
	switch {
	case f.names != nil:
		return len(f.names)
	case f.one != nil:
		return 1
	}
	return 0
}

func (f *family) get(name string) *account {
	if f.names != nil {
		return f.names[name]
	}
	if f.one != nil && f.name == name {
		return f.one
	}
	return nil
}

func (f *family) each(do func(name string, a *account)) {
	if f.names == nil && f.one != nil {
		do(f.name, f.one)
	}
	for name, a := range f.names {
		do(name, a)
	}
}

func (f *family) put(name string, a *account) {
	if f.names == nil && f.one != nil {
		f.names = map[string]*account{f.name: f.one}
		f.one = nil
	}
	if f.names != nil {
		f.names[name] = a
	} else {
		f.name, f.one = name, a
	}
	a.family = f
}

func (f *family) drop(name string) {
	if f.names != nil {
		delete(f.names, name)
	} else if f.name == name {
		f.one = nil
	}
}

// merge makes one family of two, the smaller one's members moving.
func merge(a, b *family) *family {
	if a.size() < b.size() {
		a, b = b, a
	}
	if a.one != nil {
		a.one.family = a
	}
	if a != b {
		b.each(func(name string, member *account) { a.put(name, member) })
	}
	return a
}

// clash is the first name that two accounts of families to be joined share. The largest is only looked into.
func clash(families []*family) (name, id, other string) {
	largest := families[0]
	for _, f := range families {
		if f.size() > largest.size() {
			largest = f
		}
	}
	var seen map[string]*account
	note := func(n string, a, b *account) {
		first, second := min(a.id, b.id), max(a.id, b.id)
		if name == "" || strings.Compare(n, name) < 0 {
			name, id, other = n, first, second
		}
	}
	for _, f := range families {
		if f == largest {
			continue
		}
		f.each(func(n string, a *account) {
			if b := largest.get(n); b != nil {
				note(n, a, b)
			}
			if len(families) > 2 {
				if b := seen[n]; b != nil {
					note(n, a, b)
				}
				if seen == nil {
					seen = map[string]*account{}
				}
				seen[n] = a
			}
		})
	}
	return name, id, other
}

// members are a and everything below it.
func (a *account) members() []*account {
	all := []*account{a}
	for i := 0; i < len(all); i++ {
		for c := all[i].child; c != nil; c = c.next {
			all = append(all, c)
		}
	}
	return all
}

// household are the names of a and everything below it, for looking at.
func (a *account) household() *family {
	if a.above() == nil {
		return a.family
	}
	f := &family{names: map[string]*account{}}
	for _, x := range a.members() {
		f.names[x.now().name] = x
	}
	return f
}

// split gives a, which is about to leave its parent, and all below it a family of their own.
func (a *account) split() {
	if a.above() == nil {
		return
	}
	f := &family{}
	for _, x := range a.members() {
		x.family.drop(x.now().name)
		f.put(x.now().name, x)
	}
}
