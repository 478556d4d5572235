package web

import "net/url"

// backTo is the page of this site that a form was on; path if the browser does not say.
func backTo(path, referer string) string {
	from, err := url.Parse(referer)
	if err != nil || from.Path == "" {
		return path
	}
	return from.RequestURI()
}
