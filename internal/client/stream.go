package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Stream copies an answer of the reporter, of any length, to w; head sees its header before the first byte. It
// is not retried, and an answer that breaks off is an error: w then holds a part of it.
func (c *Client) Stream(ctx context.Context, path string, query url.Values, w io.Writer, head func(http.Header) error) error {
	target, err := c.reporter(path, query)
	if err != nil {
		return err
	}
	resp, err := c.begin(ctx, http.MethodGet, target, "", "", nil)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return unreachable(target, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below, or lost with the connection
	if resp.StatusCode/100 != 2 {
		answer, err := whole(target, resp)
		if err != nil {
			return err
		}
		return refusal(resp, answer)
	}
	if err := head(resp.Header); err != nil {
		return err
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "stream error") {
			return fmt.Errorf("the answer of %s broke off before its end; ask again: %w", path, err)
		}
		return fmt.Errorf("copy the answer of %s: %w", path, err)
	}
	return nil
}
