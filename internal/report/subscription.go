package report

func subscriptionReports() []Definition { return nil }
