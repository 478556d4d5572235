package fight

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/countinghouse/countinghouse/internal/usage"
	"github.com/countinghouse/countinghouse/test/rig"
)

// Closed is what a close was answered.
type Closed struct {
	Status  int
	Version int    `json:"version"`
	SHA256  string `json:"sha256"`
	Text    string
}

// EndedMonths are the months that have ended and that a load's events fall into, oldest first: they close in this order.
func EndedMonths() []string {
	now := time.Now()
	var months []string
	for m := usage.MonthOf(usage.AtTime(now.Add(-rig.Spread))); m.Compare(usage.MonthOf(usage.AtTime(now))) < 0; m = m.Next() {
		months = append(months, m.String())
	}
	return months
}

// Close asks a reporter to close a month; an error: it did not answer.
func Close(ctx context.Context, url, key, month string) (Closed, error) {
	var c Closed
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/months/"+month+"/close", nil)
	if err != nil {
		return c, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, err
	}
	defer res.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(res.Body); err != nil {
		return c, err
	}
	c.Status, c.Text = res.StatusCode, text.String()
	if c.Status != http.StatusOK {
		return c, nil
	}
	return c, json.Unmarshal(text.Bytes(), &c)
}

// CloseMonths closes the months that have ended, by way of one reporter, and answers the last close.
func (f *Fight) CloseMonths(url, key string) (last Closed) {
	f.T.Helper()
	for _, month := range EndedMonths() {
		f.Rig.Until("month "+month+" is closed", rig.SettleWait, func(ctx context.Context) bool {
			c, err := Close(ctx, url, key, month)
			if err == nil {
				last = c
			}
			return err == nil && c.Status == http.StatusOK
		})
	}
	return last
}
