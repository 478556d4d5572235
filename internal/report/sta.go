package report

func staReports() []Definition { return nil }
