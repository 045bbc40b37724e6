//go:build !hot

package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// MarshalJSON tells one filter from another; the instructions say nothing to a reader.
func (f Filter) MarshalJSON() ([]byte, error) {
	sum := sha256.Sum256(f.Code)
	return json.Marshal(struct {
		Instructions int    `json:"instructions"`
		SHA256       string `json:"sha256"`
		Flags        uint   `json:"flags"`
	}{f.Len(), hex.EncodeToString(sum[:]), f.Flags})
}
