package rights_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// issuer is an issuer of OpenID Connect that can be told to lie.
type issuer struct {
	testing.TB
	server *httptest.Server

	mu     sync.Mutex
	keys   map[string]*rsa.PrivateKey // by kid; all are published
	kid    string                     // that signs
	codes  map[string]url.Values      // given out and not redeemed: the request's query
	change func(header, claims map[string]any)
}

func newIssuer(t testing.TB) *issuer {
	i := &issuer{TB: t, keys: map[string]*rsa.PrivateKey{}, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.answer(w, map[string]any{
			"issuer": i.server.URL, "authorization_endpoint": i.server.URL + "/authorize", "token_endpoint": i.server.URL + "/token", "jwks_uri": i.server.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256", "none"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { i.answer(w, i.published()) })
	mux.HandleFunc("POST /token", i.token)
	i.server = httptest.NewServer(mux)
	t.Cleanup(i.server.Close)
	i.rotate("one")
	return i
}

func (i *issuer) answer(w http.ResponseWriter, doc any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc)
}

// rotate makes a new key the only one.
func (i *issuer) rotate(kid string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		i.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys, i.kid = map[string]*rsa.PrivateKey{kid: key}, kid
}

func (i *issuer) published() map[string]any {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []map[string]string
	for kid, key := range i.keys {
		all = append(all, map[string]string{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes()),
		})
	}
	return map[string]any{"keys": all}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token redeems a code once, if the verifier is the one that the browser's request promised.
func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	asked, known := i.codes[r.FormValue("code")]
	delete(i.codes, r.FormValue("code"))
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !known || b64(sum[:]) != asked.Get("code_challenge") || asked.Get("code_challenge_method") != "S256" {
		w.WriteHeader(http.StatusBadRequest)
		i.answer(w, map[string]string{"error": "invalid_grant"})
		return
	}
	header := map[string]any{"alg": "RS256", "kid": i.kid, "typ": "JWT"}
	claims := map[string]any{
		"iss": i.server.URL, "sub": "sub-of-" + asked.Get("as"), "aud": "countinghouse", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(),
		"auth_time": time.Now().Unix(), "nonce": asked.Get("nonce"), "email": asked.Get("as"), "email_verified": true,
	}
	if i.change != nil {
		i.change(header, claims)
	}
	i.answer(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": i.sign(header, claims)})
}

func (i *issuer) sign(header, claims map[string]any) string {
	h, _ := json.Marshal(header) // made above
	c, _ := json.Marshal(claims)
	text := b64(h) + "." + b64(c)
	if header["alg"] == "none" {
		return text + "."
	}
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, i.keys[i.kid], crypto.SHA256, sum[:])
	if err != nil {
		i.Fatal(err)
	}
	return text + "." + b64(sig)
}

// authorize is the browser at the issuer, signed in as somebody: the query it brings back.
func (i *issuer) authorize(to, as string) string {
	i.Helper()
	u, err := url.Parse(to)
	if err != nil {
		i.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	query := u.Query()
	query.Set("as", as)
	code := fmt.Sprintf("canary-code-%d", time.Now().UnixNano())
	i.codes[code] = query
	return url.Values{"code": {code}, "state": {query.Get("state")}}.Encode()
}

// lie is what the next tokens say.
func (i *issuer) lie(change func(header, claims map[string]any)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.change = change
}
