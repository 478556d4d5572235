package report

func elasticReports() []Definition { return nil }
