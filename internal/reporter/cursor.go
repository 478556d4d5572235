package reporter

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
)

// cursors signs places in listings. A cursor is of use only to the tenant and for the listing it was
// given out for: it cannot be made up, changed, or carried elsewhere.
type cursors struct{ key []byte }

const macBytes = 16

// give is the cursor for a place in a listing of a tenant.
func (c cursors) give(tenant, listing string, place any) (string, error) {
	body, err := json.Marshal(place)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(c.sign(tenant, listing, body), body...)), nil
}

// take reads a cursor into place; a forged or foreign one is refused.
func (c cursors) take(tenant, listing, cursor string, place any) error {
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) < macBytes || !hmac.Equal(b[:macBytes], c.sign(tenant, listing, b[macBytes:])) ||
		json.Unmarshal(b[macBytes:], place) != nil {
		return refuse(codeCursor, "the cursor was not given out for this question; start again without it")
	}
	return nil
}

func (c cursors) sign(tenant, listing string, body []byte) []byte {
	mac := hmac.New(sha256.New, c.key)
	_, _ = mac.Write([]byte(strings.Join([]string{tenant, listing, ""}, "\x00"))) // a hash never fails
	_, _ = mac.Write(body)
	return mac.Sum(nil)[:macBytes]
}
