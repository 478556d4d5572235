package report

func assetReports() []Definition { return nil }
