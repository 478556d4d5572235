package web

import (
	"github.com/a-h/templ"

	"github.com/countinghouse/countinghouse/internal/access"
)

func homePages() []page {
	return []page{
		{pattern: "GET /{$}", title: "Home", entity: access.Usage, verb: access.View, menu: menuUsage, serve: (*Site).home},
	}
}

func (s *Site) home(*visit) (templ.Component, error) {
	return message("Nothing here yet."), nil
}
