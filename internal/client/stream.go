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
	if c.cfg.Reporter == "" {
		return errors.New("no reporter URL is known; pass --reporter-url or --dir")
	}
	target := c.cfg.Reporter + "/api/v1" + path + "?" + query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return fmt.Errorf("request %s: %w", target, err)
	}
	if c.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return unreachable(target, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below, or lost with the connection
	if resp.StatusCode/100 != 2 {
		answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			return fmt.Errorf("read answer of %s: %w", target, err)
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
