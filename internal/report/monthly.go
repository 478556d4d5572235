package report

func monthlyReports() []Definition { return nil }
