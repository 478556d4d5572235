package web

// required is a field that must be filled in.
func required(f field) field {
	f.required = true
	return f
}

// area is a field for several lines.
func area(f field) field {
	f.kind = "area"
	return f
}

// hinted is a field with a line beneath.
func hinted(f field, hint string) field {
	f.hint = hint
	return f
}

// ticked is a box that is ticked where the form has any value for it.
func ticked(f *form, name, label, hint string) field {
	one := f.field(name, label)
	one.checked, one.value, one.hint = one.value != "", "", hint
	return one
}

func weekdays() []option {
	return optionsOf("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
}

// at24 is a field for a date and a time of day.
func at24(f field) field {
	f.kind = "datetime-local"
	return f
}

// secret is a field whose text is not shown.
func secret(f field) field {
	f.kind, f.value, f.complete = "password", "", "new-password"
	return f
}
